"""What layers are made of: trees by their texts, two store paths, scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from helpers.trees import plant
from helpers.users import User

LIBRARY = "/nix/store/7l2a4vd7ggk7mk80ya2zdh940m1lf9h0-library"
PROGRAM = "/nix/store/ipm92mjvz1w93ivyh212n0r8p19q00vy-program-1.0"
ABSENT = "/nix/store/cs88p2hnci9msivdfw652b2wr4cm8lwh-absent"
REDIS = "groupadd -r redis\nuseradd -r -g redis -d /data -M redis\nmkdir /data\nchown redis:redis /data\n"
ODD = """\
umask 022
mkdir -p folder/deep set
echo data > folder/file
ln folder/file folder/deep/hard
ln -s ../file folder/deep/symbolic
chown -h 7:8 folder/deep/symbolic
mknod null c 1 3
mknod disk b 259 1000
mkfifo queue
echo set > set/uid; chown 33:44 set/uid; chmod 4711 set/uid
chmod 2775 set; chmod 1777 folder
chown 3000000:4000000000 folder/deep
: > empty
touch -- "$(printf 'new\\nline')" 'space # = \\ back' "$(printf 'b\\377d')" é -dash
"""
LARGE_ID, LARGER_ID = 3_000_000, 4_000_000_000


def write(top: Path, files: Mapping[str, str | None]) -> Path:
    """Write a tree: by path a text, ``-> TARGET`` for a symbolic link, or nothing for a directory."""
    plant(top, files)
    return top


def odd(user: User) -> list[str | Path]:
    """Give the options of a layer with an entry of every kind."""
    script = user.script("#!/bin/bash\nset -e\n" + ODD, "odd")
    return ["--view", "directory", "--script", script]


def tree_with(user: User, text: str) -> Path:
    """Make a tree with one file."""
    folder = user.home / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)
    return folder
