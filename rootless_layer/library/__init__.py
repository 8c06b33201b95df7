"""The library's verbs: what another builder calls.

Specs, images and paths come in, values go out; each verb checks what it is given, and tidies up after itself.
Nothing of the package imports it.
"""
