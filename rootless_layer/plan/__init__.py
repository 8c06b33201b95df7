"""The question and its first answer: :class:`.LayerSpec`, and where each path of the layer comes from.

A specification comes in; a tree that no script has changed yet goes out. Nothing is written.
"""
