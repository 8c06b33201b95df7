"""What runs in the processes of a session, beside the scripts.

These processes start without site-packages, in 30 ms: this package imports the standard library,
:mod:`rootless_layer.system` and :mod:`rootless_layer.errors` only. Nobody imports it but ``session``.
"""
