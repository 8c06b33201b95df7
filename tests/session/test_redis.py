"""The example that dockerTools needs a virtual machine for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.stores import Store
from helpers.users import User

REDIS = "groupadd -r redis\nuseradd -r -g redis -d /data -M redis\nmkdir /data\nchown redis:redis /data\n"


def test_redis_is_the_same_for_everybody(users: list[User], store: Store, accounts: Path) -> None:
    """The redis script gives /data to redis, with the real shadow programs, and the same layer whoever builds it."""
    digests = set()
    for user in users:
        script = user.script(REDIS)
        result = user.build(*store.options, "--copy-to-root", accounts, "--script", script)
        layer = result.layer
        digests.add(layer["digest"])
        blob = user.home / "layer/blobs/sha256" / layer["digest"].removeprefix("sha256:")
        listing = subprocess.run(["tar", "--numeric-owner", "-tvf", blob], check=True, capture_output=True, text=True).stdout
        assert "drwxr-xr-x 999/999 " in next(line for line in listing.splitlines() if line.endswith(" data/"))
        assert user.leftovers() == []
    assert len(digests) == 1
