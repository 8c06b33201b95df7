"""A layer: built from a specification, described, written, opened again.

A :class:`.LayerSpec` comes in; a :class:`.Layer` and its directory go out. It knows nothing of images.
"""
