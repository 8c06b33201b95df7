"""The store paths of Nix: a closure with its references graph, its sizes, and the ways to split it into layers.

References graphs come in, in every form that Nix gives; :class:`.Closure` and groups of store paths go out.
"""
