"""What is kept between builds is found again exactly when it is the same, and is never wrong."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import assert_nothing_left, assert_said, processes, until
from helpers.effort import EVERY, PATIENT
from helpers.place import remove
from helpers.stores import Store, files
from helpers.users import COMMAND, HANG, Result, User
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer import (  # fmt: skip
    Compression,
    Image,
    LayerSpec,
    Script,
    build_layer,
    closure_of_paths,
    open_layer,
)
from rootless_layer.cache import room  # fmt: skip
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.build import build_cached
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import Entry, LayerCache
from rootless_layer.cache.room import parse_size
from rootless_layer.cache.upkeep import collect
from rootless_layer.errors import InputError, SourceError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.system.lease import Lease
from rootless_layer.system.temporary import Temporary

pytestmark = pytest.mark.slow

ONE, OTHER = (f"/nix/store/{letter * 32}-{letter}" for letter in "ab")
SCRIPT = "echo RAN >&2\nmkdir data\necho 1 > data/file\nchown 33:44 data/file\nchmod 4750 data/file\n"


@pytest.fixture(scope="module")
def inputs(shared: Path) -> Path:
    """Trees, archives and a store, to make specs of."""
    top = shared / "key"
    for name in ("tree", "other"):
        (top / name / "etc").mkdir(parents=True)
        (top / name / "etc/name").write_text(name)
    for path in (ONE, OTHER):
        (top / path[1:]).mkdir(parents=True)
    for name in ("tree", "other"):
        with tarfile.open(top / f"{name}.tar", "w") as archive:
            archive.add(top / name, name)
    (top / "listing").write_text("#mtree\n")
    return top


def spec_of(top: Path, values: dict[str, Any]) -> LayerSpec:
    """Make a spec of values that can be drawn."""
    closure = None if values["closure"] is None else closure_of_paths(values["closure"], top)
    tools = None if values["tools"] is None else closure_of_paths(values["tools"], top)
    contents = tuple(str(top / name) for name in values["copy_to_root"])
    rootfs = None if values["rootfs"] is None else str(top / values["rootfs"])
    scripts = tuple(Script("name", data, arguments) for data, arguments in values["scripts"])
    rest = {
        name: value for name, value in values.items()
        if name not in {"closure", "tools", "copy_to_root", "rootfs", "scripts", "blob", "base"}
    }  # fmt: skip
    return LayerSpec(
        closure=closure, tools=tools, copy_to_root=contents, rootfs=rootfs, scripts=scripts,
        **(rest | {"compression": Compression(*values["compression"]), "environment": dict(values["environment"])}),
    )  # fmt: skip


def key_of(top: Path, values: dict[str, Any]) -> str:
    """Give the key of such a spec."""
    return layer_key(spec_of(top, values), blob=values["blob"], chain_id=values["base"])


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "closure": st.sampled_from([None, (ONE,), (OTHER,), (ONE, OTHER)]),
    "copy_to_root": st.sampled_from([(), ("tree",), ("other",), ("tree", "other"), ("other", "tree")]),
    "rootfs": st.sampled_from([None, "tree", "other", "tree.tar", "other.tar"]),
    "scripts": st.lists(st.tuples(st.sampled_from([b"", b"a", b"b"]), st.sampled_from([(), ("x",), ("x", "y")])), max_size=2),
    "environment": st.permutations([("A", "1"), ("B", "2")]).map(tuple) | st.just(()) | st.just((("A", "2"),)),
    "view": st.sampled_from(["root", "directory"]),
    "closure_writable": st.booleans(),
    "link": st.sampled_from(["hard", "symbolic", "copy"]),
    "keep_dirlinks": st.booleans(),
    "follow_dirlinks": st.booleans(),
    "conflict": st.sampled_from(["error", "first", "last"]),
    "tools": st.sampled_from([None, (ONE,), (OTHER,), (ONE, OTHER)]),
    "uid": st.integers(0, 3),
    "gid": st.integers(0, 3),
    "source_date_epoch": st.integers(0, 3),
    "compression": st.sampled_from([("none", 0), ("gzip", 0), ("gzip", 2), ("zstd", 3), ("zstd", 4)]),
    "blob": st.sampled_from(["stored", "derived"]),
    "base": st.sampled_from([None, "", "sha256:" + 64 * "a", "sha256:" + 64 * "b"]),
}


@settings(max_examples=2000 if EVERY else 150, deadline=None, suppress_health_check=PATIENT)
@given(st.fixed_dictionaries(FIELDS), st.data())
def test_the_key_changes_with_any_field(inputs: Path, values: dict[str, Any], data: st.DataObject) -> None:
    """Two specs that differ in one field have two keys, whatever the field is; the same spec has the same key."""
    field = data.draw(st.sampled_from(sorted(FIELDS)))
    changed = values | {field: data.draw(FIELDS[field])}
    assert (key_of(inputs, values) == key_of(inputs, changed)) == (values[field] == changed[field])


def test_every_field_of_a_spec_is_in_the_key_or_known_to_be_no_part_of_a_layer() -> None:
    """A field that somebody adds to LayerSpec has to be thought of in the key."""
    fields = {attribute.name for attribute in LayerSpec.__attrs_attrs__}  # type: ignore[attr-defined]
    assert fields == (FIELDS.keys() - {"blob"}) | {"timeout", "rootfs_listing", "allow_sparse", "left_out"}


def test_the_key_does_not_change_with_what_is_no_part_of_a_layer(inputs: Path, tmp_path: Path) -> None:
    """A script's name, the timeout and where a tree lies are in no key of a stored layer; the place is in a derived one's."""
    shutil.copytree(inputs / "tree", tmp_path / "moved")
    one = LayerSpec(copy_to_root=(str(inputs / "tree"),), scripts=(Script.text("a", "one"),))
    two = LayerSpec(copy_to_root=(str(tmp_path / "moved"),), scripts=(Script.text("a", "two"),), timeout=3)
    assert layer_key(one) == layer_key(two)
    assert layer_key(one, blob="derived") != layer_key(two, blob="derived")


def test_the_key_has_what_a_tree_holds(tmp_path: Path) -> None:
    """Bytes, modes, names, links and times up to the epoch count; later times, directories' times and inodes do not."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    file = tree / "folder/file"
    file.write_text("one")
    (tree / "link").symlink_to("folder")
    spec = LayerSpec(copy_to_root=(str(tree),), source_date_epoch=1000)
    keys = [layer_key(spec)]

    def changes() -> bool:
        keys.append(layer_key(spec))
        return keys[-1] != keys[-2]

    os.utime(file, (5000, 5000))
    os.utime(tree / "folder", (7, 7))
    assert not changes()
    file.rename(tree / "other")
    shutil.copy2(tree / "other", file)
    (tree / "other").unlink()
    assert not changes()
    os.utime(file, (7, 7))
    assert changes()
    file.write_text("two")
    os.utime(file, (7, 7))
    assert changes()
    file.chmod(0o600)
    assert changes()
    (tree / "folder").chmod(0o700)
    assert changes()
    (tree / "link").unlink()
    assert changes()
    (tree / "link").symlink_to("file")
    assert changes()
    (tree / "empty").mkdir()
    assert changes()


def test_a_store_paths_key_is_its_name(inputs: Path) -> None:
    """A store path is not read for a stored layer; that a derived layer's was built again is seen."""
    spec = LayerSpec(closure=closure_of_paths([ONE], inputs), copy_to_root=(ONE,))
    stored, derived = layer_key(spec), layer_key(spec, blob="derived")
    (inputs / ONE[1:] / "file").write_text("unseen")
    assert layer_key(spec) == stored
    assert layer_key(spec, blob="derived") != derived


def test_sizes_are_read() -> None:
    """A size is a number of bytes, or one with a unit of 1024's powers."""
    assert [parse_size(text) for text in ("0", "7", "2K", "3m", "20G", "1TiB", "5MB")] == [
        0, 7, 2048, 3 << 20, 20 << 30, 1 << 40, 5 << 20,
    ]  # fmt: skip


# --- the command ---


@pytest.fixture(scope="module")
def shell(shell_store: Store) -> Store:
    """A closure with a shell and coreutils."""
    return shell_store


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no process, mount or temporary tree."""
    user: User | None = request.getfixturevalue("user") if "user" in request.fixturenames else None
    yield
    if user is not None:
        assert_nothing_left(user, patiently=True)


def place(user: User) -> Path:
    """Where the user's cache is."""
    return user.home / ".cache/rootless-layer"


def entries(user: User, kind: str = "layers") -> list[Path]:
    """What is in the user's cache, rubbish included."""
    folder = place(user) / kind
    return sorted(folder.iterdir()) if folder.is_dir() else []


def cached(user: User, *words: str | Path, output: str = "layer", **more: Any) -> Result:
    """Build through the cache, in the directory view, which takes least."""
    return user.build("--cache", "--view", "directory", *words, output=output, **more)


def tidy(user: User, *words: str) -> Result:
    """Run ``rootless-layer cache``."""
    return user.run([*COMMAND, "cache", *words])


@pytest.mark.parametrize("more", [(), ("--blob", "derived", "--compression", "zstd"), ("--compression", "gzip:1", "--uid", "7")])
def test_a_cached_layer_is_the_same_as_without(user: User, shell: Store, accounts: Path, more: tuple[str, ...]) -> None:
    """The output of --cache, built or found, has the bytes and modes of a build without; when found, no script runs."""
    words = [*shell.options, "--copy-to-root", accounts, "--view", "directory", "--script", user.script(SCRIPT), *more]
    plain = user.build(*words, output="plain")
    built, found = cached(user, *words, output="built"), cached(user, *words, output="found")
    assert plain.layer == built.layer == found.layer
    assert "RAN" in plain.err
    assert "RAN" in built.err
    assert found.err == ""
    assert files(user.home / "plain") == files(user.home / "built") == files(user.home / "found")
    listed = [user.build(*words, *how, "--list", output="listed").out for how in ((), ("--cache",))]
    assert listed[0] == listed[1]
    kept = [
        path for path in (place(user) / "layers").rglob("*") if path.is_file() and path.name not in {"layer.json", "cache.json"}
    ]
    assert kept
    for path in kept:  # nothing was copied
        assert path.stat().st_nlink == 4, path


def test_a_layers_names_are_not_in_its_key_but_in_its_description(user: User, accounts: Path) -> None:
    """A layer that is found by other names of its sources says those names, as a build of its own would."""
    shutil.copytree(accounts, user.home / "copy")
    cached(user, "--copy-to-root", accounts)
    found = cached(user, "--copy-to-root", user.home / "copy")
    assert len(entries(user)) == 1
    assert found.layer == user.build("--copy-to-root", user.home / "copy", output="plain").layer


def test_a_base_is_not_opened_for_a_layer_that_is_found(user: User, accounts: Path) -> None:
    """A layer upon a base is found by the base's chain ID alone, and is as it would be without the cache."""
    user.build("--copy-to-root", accounts, output="base")
    words = [
        "--base",
        user.home / "base",
        "--script",
        user.script("rm etc/shadow\nchown 3:4 etc/passwd\n"),
        "--view",
        "directory",
    ]
    plain, built = user.build(*words, output="plain"), cached(user, *words, output="built")
    remove(place(user) / "snapshots")
    found = cached(user, *words, output="found")
    assert not (place(user) / "snapshots").exists()
    assert plain.layer == built.layer == found.layer
    assert files(user.home / "plain") == files(user.home / "built") == files(user.home / "found")


def test_a_found_layer_has_the_modes_of_the_umask(user: User, accounts: Path) -> None:
    """Files are linked only where their modes are what a build would give."""
    for umask in (0o077, 0o022):
        user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *COMMAND, "build", "--cache", "--copy-to-root", accounts,
                  "-o", f"layer-{umask}"])  # fmt: skip
        user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *COMMAND, "build", "--copy-to-root", accounts,
                  "-o", f"plain-{umask}"])  # fmt: skip
        assert files(user.home / f"layer-{umask}") == files(user.home / f"plain-{umask}")


def grow(path: Path) -> None:
    """Damage a file: one more byte."""
    with path.open("ab") as file:
        file.write(b"\0")


def flip(path: Path) -> None:
    """Damage a file: another first byte, in place."""
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes((first[0] ^ 1,)))


def empty(path: Path) -> None:
    """Damage a file: nothing is left in it."""
    path.write_bytes(b"")


DAMAGES = (grow, flip, empty, Path.unlink)


def test_any_damage_to_an_entry_is_noticed(tmp_path: Path, accounts: Path) -> None:
    """Whatever happens to whichever file of an entry, it is not found any more, and gone."""
    spec, cache = LayerSpec(copy_to_root=(str(accounts),)), LayerCache(tmp_path / "layers")
    key = layer_key(spec)
    cache.build(key, spec).lease.release()
    shutil.copytree(cache.place / key, tmp_path / "kept")
    names = [path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(names) == 4
    for name, damage in itertools.product(names, DAMAGES):
        shutil.rmtree(cache.place / key, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", cache.place / key)
        found = cache.find(key)
        assert found is not None
        found.lease.release()
        damage(cache.place / key / name)
        assert cache.find(key) is None
        assert list(cache.place.iterdir()) == []


def test_a_damaged_entry_is_built_again(user: User, accounts: Path) -> None:
    """When a file of an entry is damaged, also through an output's hard link, the next build is right, and found again."""
    words = ["--copy-to-root", accounts, "--script", user.script(SCRIPT)]
    right = cached(user, *words, output="first").layer
    names = sorted(path.relative_to(user.home / "first") for path in (user.home / "first").rglob("*") if path.is_file())
    for name, damage in zip(names, (flip, grow, empty), strict=True):
        folder = entries(user)[0] if name.name == "layer.json" else user.home / "layer"
        cached(user, *words)
        damage(folder / name)
        again = cached(user, *words)
        assert again.layer == right
        assert "RAN" in again.err
    assert tidy(user, "verify").status == 0
    assert "RAN" not in cached(user, *words).err


def test_verify_finds_what_sizes_and_times_do_not_tell(user: User, accounts: Path) -> None:
    """A blob that changed and looks as before is found by verify, which drops it and ends with 65."""
    cached(user, "--copy-to-root", accounts)
    (entry,) = entries(user)
    blob = next((entry / "blobs/sha256").iterdir())
    before = blob.stat()
    flip(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = tidy(user, "verify", "--json")
    assert_said(result, 65, "dropped", entry.name)
    assert [dropped["path"] for dropped in json.loads(result.out)["dropped"]] == [str(entry)]
    assert entries(user) == []
    assert tidy(user, "verify").status == 0


SNAPSHOT_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file that is gone": (lambda tree: (tree / "etc/passwd").unlink(), "/etc/passwd is missing"),
    "a file that grew": (lambda tree: grow(tree / "etc/group"), "/etc/group is not what it was"),
    "another time": (lambda tree: os.utime(tree / "etc/group", (5, 5)), "/etc/group is not what it was"),
    "another kind": (lambda tree: ((tree / "etc/group").unlink(), (tree / "etc/group").mkdir()), "/etc/group is not what it was"),
    "another target": (lambda tree: ((tree / "link").unlink(), os.symlink("other", tree / "link")), "/link is not what it was"),
    "one more": (lambda tree: (tree / "more").touch(), "/more is not of it"),
    "a whiteout that is gone": (lambda tree: (tree / "hidden").unlink(), "/hidden is missing"),
    "no index": (lambda tree: (tree.parent / "index.json").unlink(), "it cannot be read: "),
}


@pytest.mark.parametrize("damage", sorted(SNAPSHOT_DAMAGE))
def test_verify_looks_at_unpacked_bases(user: User, damage: str) -> None:
    """A snapshot of which a file went or changed is dropped, 65; the next build unpacks it again, and has the same layer."""
    script = "mkdir etc; echo a > etc/passwd; echo b > etc/group; ln -s etc link; echo > hidden; mkfifo fifo; mknod null c 1 3"
    assert user.build("--view", "directory", "--", "sh", "-c", script, output="one").status == 0
    two = user.build(
        "--view", "directory", "--base", user.home / "one", "--", "sh", "-c", "rm hidden; chown 5:6 etc", output="two"
    )
    assert two.status == 0, two.err
    above = ["--view", "directory", "--base", user.home / "one", "--base", user.home / "two", "--", "touch", "etc/new"]
    first = user.build(*above).layer["digest"]
    assert tidy(user, "verify").status == 0
    snapshots = {path.name for path in entries(user, "snapshots")}
    assert len(snapshots) == 2
    change, problem = SNAPSHOT_DAMAGE[damage]
    trees = [path / "tree" for path in entries(user, "snapshots")]
    [tree] = [tree for tree in trees if (tree / "hidden").is_char_device() == ("whiteout" in damage)]
    change(tree)
    for path in tree.rglob("*"):
        os.chown(path, tree.stat().st_uid, -1, follow_symlinks=False)  # the damage is the user's own
    result = tidy(user, "verify")
    assert_said(result, 65, problem, "dropped", "1 dropped")
    assert {path.name for path in entries(user, "snapshots")} == snapshots - {tree.parent.name}
    assert user.build(*above).layer["digest"] == first
    assert {path.name for path in entries(user, "snapshots")} == snapshots


def test_an_input_that_changes_meanwhile_is_not_kept(tmp_path: Path, accounts: Path) -> None:
    """A layer that was built of something else than what its key says is an error, and not in the cache."""
    spec, cache = LayerSpec(copy_to_root=(str(accounts),)), LayerCache(tmp_path / "layers")
    with pytest.raises(SourceError, match="changed while"):
        cache.build("0" * 64, spec)
    assert list(cache.place.iterdir()) == []


def test_the_library_builds_through_the_cache(tmp_path: Path, accounts: Path) -> None:
    """``build_cached`` gives what ``build_layer`` does, built or found, also upon a base that is open."""
    build_layer(LayerSpec(copy_to_root=(str(accounts),)), tmp_path / "below")
    image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "below")))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("above")
    with Temporary() as temporary:
        spec = LayerSpec(
            base=open_base(image, tmp_path / "cache", temporary), copy_to_root=(str(tmp_path / "tree"), str(accounts))
        )
        plain = build_layer(spec, tmp_path / "plain")
        for name in ("built", "found"):
            layer = build_cached(spec, tmp_path / name, tmp_path / "cache")
            assert layer.to_json() == plain.to_json()
            assert layer.descriptor == plain.descriptor
            assert list(layer.tree) == [attrs.evolve(entry, source=None, stamp=None) for entry in plain.tree]
            assert files(tmp_path / name) == files(tmp_path / "plain")
    assert len(list((tmp_path / "cache/layers").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(user: User, accounts: Path) -> None:
    """Where the cache has no place the build says so, and what to do."""
    (user.home / "file").write_text("")
    result = cached(user, "--copy-to-root", accounts, env={"ROOTLESS_LAYER_CACHE": f"{user.home}/file"})
    assert_said(result, 73, f"{user.home}/file/layers", "ROOTLESS_LAYER_CACHE")
    assert not (user.home / "layer").exists()


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

    def build(number: int) -> Entry:
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
    assert [kept.path for kept in room.contents(tmp_path / "cache")] == [last.folder]
    assert os.listdir(tmp_path / "cache/sizes") == [last.folder.name]
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "none")
    last.lease.release()
    build(7).lease.release()
    assert len(room.contents(tmp_path / "cache")) == 2
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
    assert_said(tidy(user, "ls"), 0, "the limit is 21474836480 bytes")
    text = "[layer.three]\nbase = 'one'\nrun = 'true'\nview = 'directory'\n"
    (user.home / "make.toml").write_text(text)
    assert user.run([*COMMAND, "make", "make.toml"], env={"ROOTLESS_LAYER_CACHE_SIZE": "1"}).status == 0
    kept = {kept["kind"]: kept["digest"] for kept in json.loads(tidy(user, "ls", "--json").out)}
    assert kept["snapshot"] == json.loads((user.home / "one/layer.json").read_bytes())["diffId"]
    assert kept.keys() == {"layer", "snapshot"}


def test_a_lease_is_shared_or_exclusive(tmp_path: Path) -> None:
    """A directory that is leased is not to be had alone, and one that is had alone is not gone through for it; renaming keeps it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    one, two = Lease.shared(folder), Lease.shared(folder)
    assert one is not None
    assert two is not None
    assert Lease.exclusive(folder) is None
    one.release()
    folder.rename(tmp_path / "other")
    assert Lease.shared(folder) is None
    assert Lease.exclusive(tmp_path / "other") is None
    two.release()
    alone = Lease.exclusive(tmp_path / "other")
    assert alone is not None
    alone.release()
    (tmp_path / "link").symlink_to("other")
    assert Lease.exclusive(tmp_path / "link") is None


def test_the_next_build_removes_what_killed_ones_left(tmp_path: Path) -> None:
    """Whoever makes a temporary directory removes those beside it that nobody holds, and no other."""
    dead, used, other = (tmp_path / f".rootless-layer-{name}" for name in ("0" * 16, "1" * 16, "mine"))
    for folder in (dead, used, other):
        (folder / "inner").mkdir(parents=True)
    lease = Lease.shared(used)
    assert lease is not None
    with Temporary() as temporary:
        made = temporary.make(str(tmp_path), ".rootless-layer-")
        assert {Path(made), used, other} == set(tmp_path.iterdir())
    lease.release()
    assert {used, other} == set(tmp_path.iterdir())


def test_a_directory_that_others_tidy_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lease another build may take a directory for one that was left: then there is another."""
    gone: list[str] = []
    chmod = os.chmod

    def swept(path: str, mode: int) -> None:
        if not gone:
            gone.append(path)
            os.rmdir(path)
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", swept)
    with Temporary() as temporary:
        made = temporary.make(str(tmp_path), ".rootless-layer-")
        assert os.listdir(tmp_path) == [os.path.basename(made)]
        assert made not in gone
    assert os.listdir(tmp_path) == []


def test_several_builders_at_once(user: User, accounts: Path) -> None:
    """Four builds of one layer at the same time, and four that find it damaged, all give it, and one entry is left."""
    words = ["--cache", "--copy-to-root", accounts, "--view", "directory", "--script", user.script(SCRIPT)]
    right = user.build("--copy-to-root", accounts, "--view", "directory", "--script", user.home / "script", output="plain").layer
    for _ in range(2):
        running = [
            user.start([*COMMAND, "build", *words, "-o", user.home / f"layer-{number}"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
            for number in range(4)
        ]  # fmt: skip
        assert [process.wait(HANG) for process in running] == [0, 0, 0, 0]
        for number in range(4):
            assert json.loads((user.home / f"layer-{number}/layer.json").read_text()) == right
        (entry,) = entries(user)
        assert tidy(user, "verify").status == 0
        grow(entry / "layer.mtree")


GRAPH = """
[defaults.layer]
view = "directory"
[layer.one]
copy-to-root = "accounts"
script = "script"
output = "out-0"
[layer.two]
base = "one"
run = "rm etc/shadow; chown 5:6 data"
output = "out-1"
"""


def test_builders_killed_at_any_moment(user: User, accounts: Path) -> None:
    """Builders killed outright, also with all that tidies up after them, leave no wrong result, and no rubbish after gc."""
    shutil.copytree(accounts, user.home / "accounts")
    script = user.script(SCRIPT)
    words = ["--copy-to-root", "accounts", "--view", "directory", "--script", "script"]
    begun = time.monotonic()
    plain = [user.build(*words, output="plain-0").layer]
    whole = time.monotonic() - begun
    second = user.script("rm etc/shadow; chown 5:6 data", "run")
    plain.append(user.build("--base", "plain-0", "--view", "directory", "--script", "run", output="plain-1").layer)
    second.unlink()
    (user.home / "make.toml").write_text(GRAPH)
    build, make = [*COMMAND, "build", "--cache", *words, "-o", user.home / "out-0"], [*COMMAND, "make", "make.toml", "-j", "2"]
    pick = random.Random(user.name)
    for number in range(200 if EVERY else 10):
        running = [
            user.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in ([build], [make], [make, build])[number % 3]
        ]
        time.sleep(pick.uniform(0, 2 * whole))
        everything = [int(process.partition(":")[0]) for process in processes(user)] if number % 2 else []
        for pid in [*(process.pid for process in running), *everything]:
            with_pid_gone(pid)
        for process in running:
            process.wait()
        assert until(lambda: not processes(user))
        for one in range(2):
            output = user.home / f"out-{one}"
            if output.exists():
                assert files(output) == files(user.home / f"plain-{one}")
                remove(output)
        assert tidy(user, "verify").status == 0
        if number % 4 == 3:
            assert tidy(user, "gc", "--keep", "0").status == 0
            assert [entries(user), entries(user, "snapshots"), os.listdir(user.home / "tmp")] == [[], [], []]
    result = user.run(make)
    assert result.status == 0, result.err
    assert [json.loads((user.home / f"out-{one}/layer.json").read_text()) for one in range(2)] == plain
    assert tidy(user, "gc").status == 0
    left = [*entries(user), *entries(user, "snapshots"), *user.home.iterdir()]  # beside outputs the next build has tidied up
    assert [path.name for path in left if path.name.startswith(".rootless-layer-")] == []
    assert script.exists()


def with_pid_gone(pid: int) -> None:
    """Kill a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
