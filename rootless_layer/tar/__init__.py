"""The tar stream and its codecs, by libarchive, isal and zstandard.

Entries come in and a stream of bytes goes out, made in parallel; or a stream comes in and its members go out.
Nothing else touches these libraries.
"""
