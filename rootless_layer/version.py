"""The version of this program, which the cache's keys have in them."""

__version__ = "0.1.0"
