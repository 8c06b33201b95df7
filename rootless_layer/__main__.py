"""``python -m rootless_layer``."""

from .cli import run

run()
