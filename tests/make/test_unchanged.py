"""A file that is made again: only what changed is built, and only what is gone or damaged is put in its place."""

from __future__ import annotations

import pytest
from helpers.make import CHAIN, DIRECTORY, chain, ends, events, make
from helpers.place import remove
from helpers.stores import files
from helpers.users import COMMAND, User

pytestmark = pytest.mark.slow


def test_an_unchanged_file_is_looked_up(user: User) -> None:
    """When nothing changed nothing is started, and outputs are not touched; what changed is made with what needs it."""
    chain(user)
    make(user, CHAIN)
    before = {path: path.stat() for name in ("files", "more", "all", "above.tar") for path in [user.home / name]}
    said = events(user, CHAIN)
    assert set(ends(said).values()) == {"unchanged"}
    assert [each["event"] for each in said] == ["done"] * 6 + ["end"]
    assert {path: path.stat() for path in before} == before
    assert ends(events(user, CHAIN.replace("chmod 700", "chmod 750"))) == {
        "files": "unchanged", "users": "built", "more": "built", "other": "unchanged", "all": "written", "above": "written",
    }  # fmt: skip


ALONE = """\
import os, subprocess, sys
def refuse(*_words, **_more):
    os.write(2, b"a process was started\\n")
    os._exit(99)
os.fork = os.posix_spawn = subprocess.Popen.__init__ = refuse
from rootless_layer.cli.main import run
run()
"""


def test_a_look_up_starts_no_process(user: User) -> None:
    """An unchanged make starts no process at all; one that has something to do does."""
    chain(user)
    make(user, CHAIN)
    command = [COMMAND[0], "-c", ALONE, "make", user.home / "make.toml"]
    looked_up = user.run(command)
    assert (looked_up.status, looked_up.err) == (0, "rootless-layer: 6 unchanged\n")
    remove(user.home / "files")
    assert user.run(command).status == 99


def test_an_output_that_is_not_as_it_was_is_made_again(user: User) -> None:
    """Outputs that are missing, damaged or another's are put in their place again, from the cache."""
    chain(user)
    make(user, CHAIN)
    right = {name: files(user.home / name) for name in ("files", "more", "all")}
    archive = (user.home / "above.tar").read_bytes()
    remove(user.home / "files")
    (user.home / "more/layer.mtree").unlink()
    (user.home / "all/oci-layout").write_text("{}")
    (user.home / "above.tar").write_bytes(b"")
    assert ends(events(user, CHAIN)) == {
        "files": "placed", "users": "unchanged", "more": "placed", "other": "unchanged", "all": "written", "above": "written",
    }  # fmt: skip
    assert {name: files(user.home / name) for name in right} == right
    assert (user.home / "above.tar").read_bytes() == archive


def test_what_gc_removed_is_built_again(user: User) -> None:
    """After gc removed everything, outputs that are still there are kept, and layers are built again."""
    text = DIRECTORY + '[layer.a]\nrun = "mkdir a"\noutput = "a"\n[layer.b]\nbase = "a"\nrun = "rmdir a"\n'
    first = make(user, text).out
    assert user.run([*COMMAND, "cache", "gc", "--keep", "0"]).status == 0
    again = make(user, text)
    assert (again.status, again.out) == (0, first)
    assert "2 built" in again.err
