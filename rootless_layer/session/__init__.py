"""The scripts of a layer: a tree is staged, the scripts run over it, and what they left is scanned.

A plan comes in; a tree with the owners that the scripts gave goes out. ``inside`` holds the session's own processes.
"""
