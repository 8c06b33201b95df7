"""The values of the OCI image specification: descriptors, platforms, times.

JSON and text come in; checked values go out. It reads and writes no file. Every package above may import it.
"""
