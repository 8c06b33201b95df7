"""Files of one target in another, and files of the machine: keys of a file of make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.image_commands import image
from helpers.layers import unpacked
from helpers.make import ends, events, make
from helpers.roots import busybox_root
from helpers.trees import plant
from helpers.users import User, good

pytestmark = pytest.mark.slow

FILE = """
[layer.root]
rootfs = "{root}"

[image.base]
base = "root"
env = {{ GREETING = "hi" }}
workdir = "/srv/w"

[layer.builder]
base = "base"
run = "echo $GREETING $PWD > out; chown app out"

[layer.more]
base = "builder"
run = "echo $GREETING $PWD > more"

[layer.app]
copy = ["src/*:/srv/", {{ source = ["src/a", "src/b"], dest = "/two/", chmod = "0600" }}]
copy-from = ["more:/srv/w:/of", {{ from = "builder", source = "/srv/w/out", dest = "/one", chown = "7:8" }}]
output = "app"
"""


def test_a_target_takes_files_of_others(users: list[User]) -> None:
    """Its needs are made before; what they are built upon is taken up; and nothing is made again for nothing."""
    digests = set()
    for user in users:
        plant(user.home / "src", {"a": "a", "b": "b", "c.log": "c"})
        (user.home / ".dockerignore").write_text("**/*.log\n")
        text = FILE.format(root=busybox_root())
        assert ends(events(user, text, "app")) == {
            "root": "built", "base": "unchanged", "builder": "built", "more": "built", "app": "built",
        }  # fmt: skip
        digests.add(json.loads((user.home / "app/layer.json").read_text())["digest"])
        assert set(ends(events(user, text, "app")).values()) == {"unchanged"}
        (user.home / "src/c.log").write_text("another")
        assert ends(events(user, text, "app"))["app"] == "unchanged"
        (user.home / "src/a").write_text("another")
        assert ends(events(user, text, "app"))["app"] == "built"
    assert len(digests) == 1


def test_what_is_copied(user: User) -> None:
    """Each file is where it is to be, with its owner, and says what the variables of the image below were."""
    plant(user.home / "src", {"a": "a", "b": "b"})
    good(make(user, FILE.format(root=busybox_root()), "app"))
    found = unpacked(
        user, user.build("--base", user.home / "app", "--copy-from", f"{user.home}/app:/:/", output="again"), "again"
    )
    assert found == {}, "the layer has all of it"
    found = unpacked(user, user.build("--copy-from", f"{user.home}/app:/:/", output="whole"), "whole")
    assert {path: (each.owner, each.data) for path, each in found.items() if each.data} == {
        "srv/a": ("0:0:644", b"a"), "srv/b": ("0:0:644", b"b"), "two/a": ("0:0:600", b"a"), "two/b": ("0:0:600", b"b"),
        "of/out": ("1000:0:644", b"hi /srv/w\n"), "of/more": ("0:0:644", b"hi /srv/w\n"), "one": ("7:8:644", b"hi /srv/w\n"),
    }  # fmt: skip


FAULTS = {
    "no target": ('[layer.a]\ncopy-from = "b:/x:/y"\n', "copy-from: there is no layer, image or file 'b'"),
    "itself": ('[layer.a]\ncopy-from = "a:/x:/y"\n', "a cycle"),
    "no copy": ('[layer.a]\ncopy = "x"\n', "copy: "),
    "no source": ('[layer.a]\ncopy = "none:/x"\n', "copy: none: does not exist"),
    "no shell": ("[layer.a]\nworkdir = '/x'\nshell = \"sh '\"\n", "shell: "),
    "no user": ("[layer.a]\nworkdir = '/x'\nuser = 'a:b:c'\n", "user: "),
    "no ignore file": ("[layer.a]\ncopy = '.:/x'\nignore-file = 'none'\n", "none: "),
    "a bad ignore file": ("[layer.a]\ncopy = '.:/x'\nignore-file = 'bad'\n", "bad:1: "),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named(somebody: User, case: str) -> None:
    """The key, and the value at fault."""
    text, said = FAULTS[case]
    (somebody.home / "bad").write_text("[\n")
    result = make(somebody, text)
    assert (result.status in {65, 66}, said in result.err) == (True, True), result.err


def history(path: Path) -> list[dict[str, str]]:
    """Read the history of a layout's one image."""
    index = json.loads((path / "index.json").read_text())
    manifest = json.loads((path / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_text())
    said: list[dict[str, str]] = json.loads((path / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())["history"]
    return said


HISTORY = """
[layer.one]
workdir = "/x"
created-by = "RUN one"
comment = "first"
output = "one"

[layer.same]
workdir = "/x"

[image.app]
layers = ["one"]
created-by = "CMD x"
tag = "app"
output = "app"

[image.other]
layers = ["same"]
comment = "no more"
output = "other"
"""


def test_the_history_says_who_made_a_layer(user: User) -> None:
    """By build and image, and by make, where another layer of the same bytes says nothing of the sort."""
    good(make(user, HISTORY))
    good(make(user, HISTORY))  # and out of the cache
    own = {"created": "1970-01-01T00:00:01Z", "created_by": "RUN one", "comment": "first"}
    step = {"created": own["created"], "created_by": "CMD x", "empty_layer": True}
    assert history(user.home / "app") == [own, step]
    assert [row.get("comment") for row in history(user.home / "other")] == [None, "no more"]
    assert [row["created_by"] for row in history(user.home / "other")] == ["rootless-layer build", "rootless-layer image"]
    good(user.build("--workdir", "/x", "--created-by", "RUN one", "--comment", "first", output="two"))
    assert (user.home / "two/layer.json").read_text() == (user.home / "one/layer.json").read_text()
    good(image(user, "--layer", user.home / "two", "--created-by", "CMD x", "-t", "app"))
    assert history(user.home / "image") == [own, step]
