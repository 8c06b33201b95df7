"""Layers for images, as directories that everybody may read."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
from helpers.stores import Store, shared_store
from helpers.users import User

REDIS = """\
groupadd -r redis
useradd -r -g redis -d /data -M redis
mkdir /data
chown redis:redis /data
chmod 2750 /data
mkdir -p /usr/local/bin
echo echo > /usr/local/bin/suid
chown redis:redis /usr/local/bin/suid
chmod 4755 /usr/local/bin/suid
"""
DERIVED = """\
mkdir -p srv
cp /bin/true srv/capable
/usr/sbin/setcap cap_net_raw+ep srv/capable
chown 33:44 srv
"""


@attrs.frozen
class Layers:
    """Layers that every test may put into an image, as directories that everybody may read."""

    store: Store
    redis: Path
    derived: Path

    @property
    def layers(self) -> list[str]:
        """The options that put both into an image."""
        return ["--layer", str(self.redis), "--layer", str(self.derived)]

    @property
    def options(self) -> list[str]:
        """The options of an image of both that runs."""
        programs = ":".join(f"{self.store.path(name)}/bin" for name in ("coreutils", "libcap2-bin"))
        return [
            *self.layers,
            "-t",
            "app:1",
            "--env",
            f"PATH=/bin:{programs}:{self.store.path('libcap2-bin')}/sbin",
            "--cmd",
            "bash",
        ]


def make_layers(user: User, accounts: Path) -> Layers:
    """Make a layer of redis that is stored in gzip, and a derived one for the top of it."""
    store = shared_store("bash", "coreutils", "passwd", "libcap2-bin")
    contents = ["--copy-to-root", store.path("bash"), "--copy-to-root", accounts]
    script = ["--script", user.script(REDIS), "--compression", "gzip"]
    assert user.build(*store.options, *contents, *script, output="redis").status == 0
    derived = user.script("#!/bin/bash\nset -e\n" + DERIVED, "derive")
    options = ["--view", "directory", "--script", derived, "--blob", "derived", "--compression", "gzip"]
    assert user.build(*options, output="derived").status == 0
    return Layers(store, user.home / "redis", user.home / "derived")


def make_small_layers(user: User) -> list[str]:
    """Make two small layers, of which the first is derived, and give the directories that they are in."""
    for name in ("one", "two"):
        (user.home / f"{name}-tree").mkdir()
        (user.home / f"{name}-tree" / name).write_text(name * 1000)
    assert user.build("--copy-to-root", user.home / "one-tree", "--blob", "derived", output="one").status == 0
    assert user.build("--copy-to-root", user.home / "two-tree", "--compression", "gzip", output="two").status == 0
    return [str(user.home / "one"), str(user.home / "two")]


def diff_ids_of(layers: list[str]) -> list[str]:
    """Give the diff IDs of layers' directories."""
    return [json.loads(Path(folder, "layer.json").read_bytes())["diffId"] for folder in layers]
