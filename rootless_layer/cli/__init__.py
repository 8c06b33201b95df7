"""The command ``rootless-layer``, a file for each verb: arguments come in, calls of the library and messages go out.

Nobody imports this package.
"""
