"""The limit of the cache: what goes first when it is reached or when gc is told to, and what stays because it is in use."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.caches import cached, entries, tidy
from helpers.place import remove
from helpers.users import COMMAND, HANG, User

from rootless_layer import (  # fmt: skip
    Image,
    LayerSpec,
    Script,
    build_layer,
    open_layer,
)
from rootless_layer.cache import room  # fmt: skip
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import CachedLayer, LayerCache
from rootless_layer.cache.room import parse_size
from rootless_layer.cache.upkeep import collect
from rootless_layer.errors import InputError, SourceError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.system.lease import Lease
from rootless_layer.system.temporary import Temporary

pytestmark = pytest.mark.slow


def test_sizes_are_read() -> None:
    """A size is a number of bytes, or one with a unit of 1024's powers."""
    assert [parse_size(text) for text in ("0", "7", "2K", "3m", "20G", "1TiB", "5MB")] == [
        0, 7, 2048, 3 << 20, 20 << 30, 1 << 40, 5 << 20,
    ]  # fmt: skip


def test_gc_removes_what_was_not_used_for_longest(user: User, accounts: Path) -> None:
    """What was used last stays, as far as it fits; ls and gc list what is and what was there."""
    scripts = [user.script(f"echo {number} > file\n", f"script-{number}") for number in range(3)]
    cached(user, "--script", scripts[0], output="base")
    for number in (1, 2):
        cached(user, "--base", user.home / "base", "--script", scripts[number], output=f"layer-{number}")
    listed = json.loads(tidy(user, "ls", "--json").out)
    assert sorted(kept["kind"] for kept in listed) == ["layer", "layer", "layer", "snapshot"]
    assert [kept["lastUsed"] for kept in listed] == sorted((kept["lastUsed"] for kept in listed), reverse=True)
    assert len(tidy(user, "ls").out.splitlines()) == 4
    for age, kept in enumerate(listed):
        os.utime(kept["path"], (1000 - age, 1000 - age))
    keep = listed[0]["bytes"] + listed[1]["bytes"]
    removed = json.loads(tidy(user, "gc", "--keep", str(keep), "--json").out)
    assert [kept["path"] for kept in removed["removed"]] == [listed[3]["path"], listed[2]["path"]]
    assert [kept["digest"] for kept in removed["removed"]] == [listed[3]["digest"], listed[2]["digest"]]
    assert [kept["path"] for kept in json.loads(tidy(user, "ls", "--json").out)] == [kept["path"] for kept in listed[:2]]
    assert tidy(user, "gc", "--keep", "0").status == 0
    assert entries(user) == []
    assert_said(tidy(user, "gc", "--keep", "some"), 2, "--keep: 'some' is not a size")
    lots = user.run([*COMMAND, "cache", "gc"], env={"ROOTLESS_LAYER_CACHE_SIZE": "lots"})
    assert_said(lots, 2, "ROOTLESS_LAYER_CACHE_SIZE: 'lots' is not a size")


def test_gc_leaves_what_a_running_build_uses(user: User, accounts: Path) -> None:
    """While a build runs upon a base, gc removes neither the base's snapshot nor what is half built; nor leased layers."""
    user.build("--copy-to-root", accounts, output="base")
    os.mkfifo(user.home / "go", 0o666)
    os.chmod(user.home / "go", 0o666)
    script = user.script(f"echo ready >&2\nread word < {user.home}/go\ncat etc/passwd > copy\n")
    command = [*COMMAND, "build", "--cache", "--base", user.home / "base", "--view", "directory", "--script", script]
    running = user.start([*command, "-o", user.home / "layer"], stderr=subprocess.PIPE)
    assert running.stderr is not None
    while b"ready" not in running.stderr.readline():
        assert running.poll() is None
    said = json.loads(tidy(user, "gc", "--keep", "0", "--json").out)
    assert [kept["kind"] for kept in said["inUse"]] == ["snapshot"]
    assert said["removed"] == []
    with open(user.home / "go", "w", encoding="ascii") as fifo:
        fifo.write("go\n")
    assert running.wait(HANG) == 0
    running.stderr.close()
    (entry,) = entries(user)
    lease = Lease.shared(entry)
    assert lease is not None
    said = json.loads(tidy(user, "gc", "--keep", "0", "--json").out)
    lease.release()
    assert [kept["path"] for kept in said["inUse"]] == [str(entry)]
    assert [kept["kind"] for kept in said["removed"]] == ["snapshot"]


def test_entries_are_removed_by_their_names(users: list[User]) -> None:
    """A layer goes by its key or digest, a base by its chain, a mounted cache by its id; nothing goes where one name is wrong."""
    for user in users:
        cached(user, "--script", user.script("touch base\n"), output="base")
        mount = ("--mount", "type=cache,target=/tmp/c,id=of tool")
        for number in range(2):
            script = user.script(f"touch file-{number}\n", f"script-{number}")
            cached(user, "--base", user.home / "base", *mount, "--script", script, output=f"layer-{number}")
        kept = json.loads(tidy(user, "ls", "--json").out)
        keys = [Path(each["path"]).name for each in kept]
        assert_said(tidy(user, "rm", keys[0], "absent"), 65, "absent: is no entry of the cache")
        assert_said(tidy(user, "rm"), 2, "NAME")
        assert json.loads(tidy(user, "ls", "--json").out) == kept
        lease = Lease.shared(Path(kept[0]["path"]))
        assert lease is not None
        used = tidy(user, "rm", keys[0])
        lease.release()
        assert_said(used, 73, "is in use")
        assert len(tidy(user, "rm", keys[0]).out.splitlines()) == 1
        names = {each.get("id") or each["digest"][:20] for each in kept[1:]}
        assert len(names) < len(kept[1:])  # the base's layer and its snapshot have one digest, as it is not compressed
        removed = json.loads(tidy(user, "rm", "--json", *names).out)["removed"]
        assert sorted(each["path"] for each in removed) == sorted(each["path"] for each in kept[1:])
        assert json.loads(tidy(user, "ls", "--json").out) == []


def test_a_person_sees_what_the_columns_are(user: User) -> None:
    """On a terminal the list begins with the names of its columns, with sizes for a person; for a program it does not."""
    cached(user, "--script", user.script("touch file\n"))
    listing = shlex.join(map(str, [*COMMAND, "cache", "ls"]))
    shown = user.run(["script", "-qec", listing, "/dev/null"]).out.splitlines()
    listed = tidy(user, "ls").out.splitlines()
    head = next(line for line in shown if line.startswith("kind"))
    row, plain = shown[shown.index(head) + 1].split(), listed[0].split()
    assert row[2] in {"byte", "bytes", "KiB"}
    assert [row[0], *row[3:]] == [plain[0], *plain[2:]]
    assert plain[1].isdigit()
    assert head.index("name") == listed[0].index("sha256:")


def test_gc_leaves_a_base_that_is_open(tmp_path: Path, accounts: Path) -> None:
    """The library's base keeps its snapshots from being removed for as long as somebody has it, and no longer."""
    cache = tmp_path / "cache"
    build_layer(LayerSpec(copy_to_root=(str(accounts),)), tmp_path / "base")
    image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "base")))
    with Temporary() as temporary:
        for _ in ("unpacked", "found"):
            spec = LayerSpec(
                base=open_base(image, cache, temporary), scripts=(Script.text("cat etc/passwd > copy"),), view="directory"
            )
            done = collect(cache, 0)
            assert (done.removed, [kept.digest for kept in done.used]) == ([], [image.chain_id])
            assert build_layer(spec, tmp_path / "layer").tree.entries[b"copy"].size
    del spec
    assert [kept.digest for kept in collect(cache, 0).removed] == [image.chain_id]


def test_a_base_that_is_gone_is_named(tmp_path: Path, accounts: Path) -> None:
    """Where somebody removed an open base by hand, that is what the message says."""
    build_layer(LayerSpec(copy_to_root=(str(accounts),)), tmp_path / "base")
    image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "base")))
    with Temporary() as temporary:
        base = open_base(image, tmp_path / "cache", temporary)
    remove(tmp_path / "cache/snapshots")
    spec = LayerSpec(base=base, scripts=(Script.text("true"),), view="directory")
    with pytest.raises(SourceError, match=str(tmp_path / "cache/snapshots")):
        build_layer(spec, tmp_path / "layer")


def test_the_cache_keeps_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is added, what was not used for longest goes, and nothing that is in use; each entry is measured once."""
    cache, measured = LayerCache.within(tmp_path / "cache"), []
    real = room._measured
    monkeypatch.setattr(room, "_measured", lambda folder: measured.append(folder) or real(folder))
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "100K")

    def build(number: int) -> CachedLayer:
        tree = tmp_path / f"tree-{number}"
        tree.mkdir(exist_ok=True)
        (tree / "file").write_bytes(bytes([number]) * 30_000)
        spec = LayerSpec(copy_to_root=(str(tree),))
        entry = cache.build(layer_key(spec), spec)
        os.utime(entry.folder, (number, number))
        return entry

    held = build(0)
    for number in range(1, 6):
        build(number).lease.release()
    assert [int(kept.used) for kept in room.entries(tmp_path / "cache")] in (
        [0, 4, 5],
        [0, 5, 4],
        [4, 0, 5],
        [4, 5, 0],
        [5, 0, 4],
        [5, 4, 0],
    )
    assert len(measured) == len(set(measured)) == 6
    held.lease.release()
    remove(tmp_path / "cache/sizes")  # a cache of before sizes were noted
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "0")
    last = build(6)
    assert [kept.path for kept in room.list_kept(tmp_path / "cache")] == [last.folder]
    assert os.listdir(tmp_path / "cache/sizes") == [last.folder.name]
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "none")
    last.lease.release()
    build(7).lease.release()
    assert len(room.list_kept(tmp_path / "cache")) == 2
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "much")
    with pytest.raises(InputError, match="much"):
        build(8)


def test_unpacked_bases_keep_within_the_limit(user: User, accounts: Path) -> None:
    """A base that was unpacked for an earlier build goes without anybody asking, whichever verb adds something."""
    user.build("--copy-to-root", accounts, output="one")
    user.build("--copy-to-root", accounts, "--uid", "7", output="two")
    script = user.script("true\n")
    for base in ("one", "two"):
        words = ["--base", user.home / base, "--script", script, "--view", "directory", "--cache-size", "1"]
        assert user.build(*words, output=f"upon-{base}").status == 0
    (kept,) = json.loads(tidy(user, "ls", "--json").out)
    assert kept["digest"] == json.loads((user.home / "two/layer.json").read_bytes())["diffId"]
    assert_said(tidy(user, "ls"), 0, "the limit is 20.0 GiB")
    text = "[layer.three]\nbase = 'one'\nrun = 'true'\nview = 'directory'\n"
    (user.home / "make.toml").write_text(text)
    assert user.run([*COMMAND, "make", "make.toml"], env={"ROOTLESS_LAYER_CACHE_SIZE": "1"}).status == 0
    kept = {kept["kind"]: kept["digest"] for kept in json.loads(tidy(user, "ls", "--json").out)}
    assert kept["snapshot"] == json.loads((user.home / "one/layer.json").read_bytes())["diffId"]
    assert kept.keys() == {"layer", "snapshot"}
