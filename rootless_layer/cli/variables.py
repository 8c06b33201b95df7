"""Every environment variable that the command reads: the table that help and the manual page show."""

from __future__ import annotations

VARIABLES: dict[str, str] = {
    "ROOTLESS_LAYER_CACHE": "the cache's directory; else rootless-layer in the user's cache directory",
    "ROOTLESS_LAYER_CACHE_SIZE": "what the cache may hold, as --cache-size has it; else 20G",
    "SOURCE_DATE_EPOCH": "seconds since 1970: later times of files become this one; else 1",
    "TMPDIR": "the directory of a build's temporary files; else /tmp",
    "LIBARCHIVE": "the path of libarchive's library; else libarchive.so.13 of the system",
    "NO_COLOR, TERM=dumb": "no line that changes, and no escape sequence",
    "REGISTRY_AUTH_FILE, DOCKER_CONFIG": "where passwords of registries are kept, as podman and docker read them",
    "https_proxy, http_proxy, no_proxy": "by which proxy registries are reached",
}
"""By name, or names that belong together, what it is for."""
