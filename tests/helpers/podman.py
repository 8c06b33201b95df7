"""podman, which loads and runs images."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.place import PLACE, remove
from helpers.users import Result, User, good


@attrs.frozen
class Podman:
    """podman with a storage of its own."""

    user: User
    storage: str

    def __call__(self, *words: str | Path, **more: Any) -> Result:
        """Run a command of podman's."""
        return self.user.run([*self.command(), *words], **more)

    def command(self) -> list[str]:
        """Begin a command line."""
        return ["podman", "--root", f"{self.storage}/root", "--runroot", f"{self.storage}/run", "--storage-driver", "vfs"]

    def says(self, name: str, script: str) -> list[str]:
        """Give the lines that a script prints in a container."""
        offline = ["--network", "none", "--cgroups", "disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        # crun takes cgroups of version 2 alone, so that it is given nothing else to see.
        mounts = 'umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        alone = ["unshare", "--mount", "bash", "-ec", mounts, "-"]
        return good(
            self.user.run([*alone, *self.command(), "run", "--rm", *offline, name, "bash", "-c", script])
        ).out.splitlines()

    def forget(self) -> None:
        """Remove every image."""
        good(self("rmi", "--all", "--force"))


@contextlib.contextmanager
def podman_of(user: User) -> Iterator[Podman]:
    """podman with a storage that goes in the end, where there is root."""
    if not user.is_root:
        pytest.skip("podman needs root, or ids of one's own in /etc/subuid")
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])  # podman takes no long path
    made = Podman(user, storage)
    yield made
    made("rm", "--all", "--force")
    made("rmi", "--all", "--force")
    remove(Path(storage))
