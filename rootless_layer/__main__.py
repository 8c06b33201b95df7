"""``python -m rootless_layer``."""

from .cli.start import run

run()
