"""Files for make, what it says of them, and what comes of each node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.stores import Store, own
from helpers.users import COMMAND, Result, User

DIRECTORY = '[defaults.layer]\nview = "directory"\n'


def write(user: User, text: str, name: str = "make.toml") -> Path:
    """Write a file for make."""
    path = user.home / name
    path.write_text(text)
    return path


def make(user: User, text: str, *words: str | Path, **more: Any) -> Result:
    """Run ``rootless-layer make`` on a file with this text."""
    return user.run([*COMMAND, "make", write(user, text), *words], **more)


def events(user: User, text: str, *words: str | Path, status: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Run it, and give its events."""
    result = make(user, text, "--json", *words, **more)
    assert result.status == status, result.err + result.out
    return [json.loads(line) for line in result.out.splitlines()]


def ends(said: list[dict[str, Any]]) -> dict[str, str]:
    """Say what came of each node: its status, or ``failed``, or ``skipped``."""
    return {each["name"]: each.get("status", each["event"]) for each in said if each["event"] in {"done", "failed", "skipped"}}


CHAIN = """
[defaults.layer]
view = "directory"
source-date-epoch = 7
env = { WHO = "make", WHAT = "layer" }

[layer.files]
copy-to-root = "tree"
output = "files"

[layer.users]
base = "files"
script = ["setup", { text = "echo $WHO $WHAT > data/who" }, { command = ["touch", "data/touched"] }]
run = "chmod 700 data"
env = { WHAT = "users" }
output = "users"

[layer.more]
base = "users"
run = "rm etc/name; cp data/who etc/who"
blob = "derived"
output = "more"

[image.all]
layers = ["more"]
tag = ["all:1", "registry.example/all"]
cmd = ["sh", "-c", "true"]
env = { A = "1" }
expose = [80, "53/udp"]
label = { is = "made" }
config = { User = "me", Env = ["B=2"] }
created = 2026-01-31T12:00:00Z
output = "all"

[image.above]
base = "all"
layers = ["other"]
tag = "above"
config = "config.json"
user = "you"
output = "above.tar"

[layer.other]
run = "mkdir other"
compression = "zstd:1"
"""


def chain(user: User) -> None:
    """Write what that file names."""
    (user.home / "tree/etc").mkdir(parents=True)
    (user.home / "tree/etc/name").write_text("name\n")
    user.script("mkdir data; chown 33:44 data\n", "setup")
    (user.home / "config.json").write_text('{"WorkingDir": "/data"}')


SPLIT = (
    DIRECTORY
    + """
[defaults.image]
closure = "store/graph"
store-root = "store"
[layer.top]
run = "echo top > top"
[layer.some]
closure = "some"
store-root = "store"
[image.all]
max-layers = 3
layers = ["top"]
tag = "all:1"
output = "all.tar"
[image.zipped]
compression = "gzip"
uid = 7
layering = "groups.json"
output = "zipped"
[image.above]
base = "some"
layers = ["top"]
output = "above"
[image.nothing]
base = "all"
cmd = "sh"
output = "nothing"
"""
)


def split(user: User) -> Store:
    """Write what that file names."""
    made = own(user.home / "store", {"a": "text", "b": "more", "c": "most", "d": "much"}, {"c": ["a"]})
    (user.home / "some").write_text("".join(f"{made.paths[name]}\n" for name in "ab"))
    (user.home / "groups.json").write_text('[["a", "b"], ["c"]]')
    return made


def layers(user: User, output: str) -> list[dict[str, Any]]:
    """Say what an image's layers are."""
    [described] = json.loads(user.run([*COMMAND, "inspect", "--json", output]).out)
    return list(described["layers"])
