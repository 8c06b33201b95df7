"""``python -m rootless_layer``."""

from .start import run

run()
