"""What a derivation asks for: its attributes read, its layers and images made. Beside it lie the ``.nix`` files.

The environment or the structured attributes of a builder come in; its outputs go out.
"""
