"""The paths of a tree: entries, read from a disk or from an mtree file, and the tree of a base below them.

Directories and listings come in; :class:`.Tree` and :class:`.Base` go out. Every package above may import it.
"""
