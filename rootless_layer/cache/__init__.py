"""Layers, bases and outputs, kept between builds and found again by their keys.

A specification comes in; a layer goes out that was built now or earlier.
"""
