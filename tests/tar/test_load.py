"""libarchive is loaded once, whoever is first."""

from __future__ import annotations

import subprocess
import sys

THREADS = """
import os, sys, threading
from rootless_layer.tar import libarchive

sys.setswitchinterval(1e-6)
begin, failed = threading.Barrier(8), []

def load():
    begin.wait()
    try:
        libarchive.load()
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=load) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed, libarchive.version_number() > 0, "LIBARCHIVE" in os.environ)
"""


def test_threads_may_be_the_first() -> None:
    """Threads that need the library at once all get it, and the environment is what it was."""
    for _ in range(5):
        said = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
        assert said.stdout.split() == ["[]", "True", "False"]
