"""A disk without room is an error that names the place; nothing is kept, and no owner is lost."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import FULL, assert_said, assert_whole_or_absent, marked, members, owner
from helpers.place import remove
from helpers.running import script_of
from helpers.small_disk import small_disk
from helpers.stores import Store, fingerprint
from helpers.users import COMMAND, User

from rootless_layer import Entry, LayerSpec
from rootless_layer.plan.plan import plan
from rootless_layer.tree.sparse import check_holes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def tiny(user: User) -> Iterator[Path]:
    """A file system of 4 MiB that is the user's."""
    with small_disk(user, "4m") as folder:
        yield folder


@pytest.fixture
def heavy(user: User) -> Path:
    """A tree of 6 MiB."""
    folder = user.home / "heavy"
    folder.mkdir()
    for number in range(6):
        (folder / f"part{number}").write_bytes(bytes([number]) * (1 << 20))
    return folder


def test_no_room_to_stage(user: User, small: Store, heavy: Path, tiny: Path) -> None:
    """A tree that does not fit into TMPDIR is an error that names the place and TMPDIR: 73."""
    result = script_of(user, small, "true\n", "--copy-to-root", heavy, env={"TMPDIR": str(tiny)})
    assert_said(result, 73, FULL, "TMPDIR", str(tiny))
    assert not (user.home / "layer").exists()


def test_no_room_to_unpack(user: User, heavy: Path, tiny: Path) -> None:
    """Where a base or a root filesystem does not fit unpacked, nobody says that it is damaged: 73, and the place is named."""
    assert user.build("--copy-to-root", heavy, "--compression", "zstd", *marked(user), output="base").status == 0
    subprocess.run(["tar", "-C", heavy, "-cJf", user.home / "root.tar.xz", "."], check=True)
    script = ["--view", "directory", "--script", user.script("true\n")]
    small = {"ROOTLESS_LAYER_CACHE": str(tiny / "cache")}
    for words, env in ((["--base", user.home / "base"], small), (["--rootfs", user.home / "root.tar.xz"], {"TMPDIR": str(tiny)})):
        result = user.build(*words, *script, *marked(user), env=env)
        assert_said(result, 73, "No space left", str(tiny), "room")
        assert "damaged" not in result.err
    remove(tiny / "cache")


def test_a_sparse_giant_is_named_before_it_is_written(user: User) -> None:
    """A file with more than 1 GiB of holes is an error with both sizes, be it a script's or a tree's; less is written."""
    giant = ["--view", "directory", "--", "truncate", "-s", "500G", "lastlog"]
    assert_said(user.build(*giant), 65, "/lastlog: ", "500.0 GiB", "--allow-sparse")
    tree = user.home / "sparse"
    tree.mkdir()
    with open(tree / "holes", "wb") as file:
        file.truncate((1 << 30) + 1)
    for words in ([], ["--cache"]):
        result = user.build("--copy-to-root", tree, *words, env={"ROOTLESS_LAYER_CACHE": str(user.home / "cache")})
        assert_said(result, 65, "/holes: ", "1.0 GiB", "0 bytes")
    assert not (user.home / "layer").exists()
    entry = Entry(path=b"holes", mode=stat.S_IFREG | 0o644, size=(1 << 30) + 1, source=os.fsencode(tree / "holes"))
    os.truncate(tree / "holes", 1 << 30)
    check_holes([attrs.evolve(entry, size=1 << 30), attrs.evolve(entry, path=b"link", link=b"holes")])
    os.truncate(tree / "holes", 1 << 40)
    assert plan(LayerSpec(copy_to_root=(tree,), allow_sparse=True)).tree.entries[b"holes"].size == 1 << 40


def test_no_room_for_the_record(user: User, small: Store, tiny: Path) -> None:
    """A script that fills the disk never costs a row of the record: the build fails, or every owner is right."""
    bash = small.path("bash")
    text = f"#!{bash}/bin/bash\nfor i in {{1..300}}; do echo > f$i; chown $i:$i f$i; done\ncat /dev/zero > fill 2>/dev/null\nexit 0\n"
    result = user.build(*small.options, *marked(user), "--script", user.script(text), env={"TMPDIR": str(tiny)})
    assert "Traceback" not in result.err, result.err
    if result.status == 0:
        found = members(user)
        assert [owner(found[f"f{i}"])[:2] for i in range(1, 301)] == [(i, i) for i in range(1, 301)]
    else:
        assert_said(result, result.status, "space|disk|room|TMPDIR")
        assert result.status in {71, 73}


def test_a_script_that_finds_no_room(user: User, small: Store, tiny: Path) -> None:
    """A script that cannot write fails by its own status."""
    result = script_of(user, small, "cat /dev/zero > fill\n", env={"TMPDIR": str(tiny)})
    assert_said(result, 1, FULL, "exit status 1")


def test_no_room_for_the_output(user: User, heavy: Path, tiny: Path) -> None:
    """A blob that does not fit is an error that says so: 73, and nothing of it is kept."""
    for compression in ("none", "gzip:0"):
        (heavy / "random").write_bytes(random.Random(0).randbytes(6 << 20))
        result = user.run(
            [*COMMAND, "build", "-o", tiny / "layer", "--copy-to-root", heavy, "--compression", compression, *marked(user)]
        )
        assert_said(result, 73, FULL, str(tiny), "[Nn]othing was kept")
        assert os.listdir(tiny) == []


def test_no_room_beside_an_earlier_layer(user: User, content: Path, heavy: Path, tiny: Path) -> None:
    """Where a new layer does not fit, the one that was there stays, whole."""
    command = [*COMMAND, "build", "-o", str(tiny / "layer"), *marked(user)]
    assert user.run([*command, "--copy-to-root", content]).status == 0
    before = fingerprint(tiny)
    assert_said(user.run([*command, "--copy-to-root", heavy]), 73, FULL)
    assert fingerprint(tiny).keys() == before.keys()
    assert assert_whole_or_absent(tiny / "layer")
    remove(tiny / "layer")


def test_no_temporary_directory(user: User, small: Store) -> None:
    """A TMPDIR that is not there, or not writable, is an error with a hint, or another place is taken."""
    result = script_of(user, small, "true\n", env={"TMPDIR": "/no/such/folder"})
    assert "Traceback" not in result.err
    assert result.status in {0, 73}
