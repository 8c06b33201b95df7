"""Registries (distribution-spec 1.1): names, credentials, and a client that reads and writes blobs and manifests.

A name comes in; bytes that were compared with their digests come out, or go in.
"""
