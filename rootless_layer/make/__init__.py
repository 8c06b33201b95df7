"""A file of layers and images, and all of it made: what is missing, at the same time where nothing waits for another.

A TOML file comes in; layers in the cache, and outputs in their places, go out.
"""
