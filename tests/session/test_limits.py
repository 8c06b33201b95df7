"""Limits of a script's own processes: a call fails as it would for real root, and the session goes on."""

from __future__ import annotations

import pytest
from helpers.roots import busybox_root
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow

FEW = """
import errno, os, resource
os.setgid(1000)
os.setuid(1000)
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
opened = []
try:
    while len(opened) < 40:
        opened.append(os.open(f"/tmp/{len(opened)}", os.O_CREAT | os.O_WRONLY))
except OSError as error:
    print(errno.errorcode[error.errno])
os.close(opened.pop())
print(os.close(os.open("/etc", os.O_PATH | os.O_CREAT)))
"""


def test_a_process_may_have_few_descriptors(user: User) -> None:
    """One more is EMFILE for whoever opens it; a path's descriptor is the kernel's."""
    made = good(user.build("--view", "directory", "--", "/usr/bin/python3", "-c", FEW))
    assert "EMFILE\nNone\n" in made.err


def test_directories_are_held_as_the_limits_allow(user: User) -> None:
    """Owners in many directories are recorded, and read, where a process may have few descriptors."""
    script = user.script(
        "mkdir /d\nfor i in $(seq 300); do mkdir /d/$i; : >/d/$i/f; chown 7:8 /d/$i/f; done\n"
        "for i in $(seq 300); do stat -c %u:%g /d/$i/f; done | sort -u >/owners\ntest $(cat /owners) = 7:8\n"
    )
    words = [*COMMAND, "build", "--rootfs", busybox_root(), "-o", user.home / "layer", "--script", script]
    good(user.run(["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *words]))
