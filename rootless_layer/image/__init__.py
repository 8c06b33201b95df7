"""Images: a config and its layers, read from every form, put together, written, unpacked as the base of a build.

Layers and archives come in; image layouts, archives and snapshots go out. It knows nothing of scripts.
"""
