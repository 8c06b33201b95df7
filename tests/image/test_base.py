"""Layers upon bases: what the scripts see, and that the layer is the difference."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import assert_nothing_left, assert_said, members
from helpers.effort import PATIENT, examples
from helpers.place import PLACE, remove
from helpers.stores import Store
from helpers.users import COMMAND, User
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer.cache.bases import open_base
from rootless_layer.image.image import Image
from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.layer.changeset import changeset, difference
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, Platform, sha256
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar.parallel import serialise
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Entry, Tree

pytestmark = pytest.mark.slow

# --- the difference of two trees, and the layer applied again ---

NAMES = [b"a", b"b", b"a/a", b"a/b", b"b/a", b"a/a/a", b"a/a/b", b"a/-x", b"+y", b"b/\xff"]
DATA = [b"", b"one", b"two", b"x" * 3000]


@pytest.fixture(scope="module")
def files() -> Iterator[list[Path]]:
    """A file for each path and each of the data."""
    folder = Path(tempfile.mkdtemp(dir=os.environ[PLACE]))
    made = [folder / str(number) for number in range(len(NAMES) * len(DATA))]
    for number, path in enumerate(made):
        path.write_bytes(DATA[number % len(DATA)])
    yield made
    remove(folder)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[bytes, str, int, int, int]]:
    """Some paths, each with a kind, an owner, a mode and data."""
    paths = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [
        (path, draw(st.sampled_from(["file", "file", "dir", "link", "device", "hard"])), draw(st.sampled_from([0, 7, 3_000_000])),
         draw(st.sampled_from([0o644, 0o4755, 0])), draw(st.integers(0, len(DATA) - 1)))
        for path in paths
    ]  # fmt: skip


def make(rows: list[tuple[bytes, str, int, int, int]], files: list[Path]) -> Tree:
    """Make a tree of what was drawn: what has something below it is a directory."""
    entries: dict[bytes, Entry] = {}
    above = {name for path, *_ in rows for name in (path.rpartition(b"/")[0], path.split(b"/")[0]) if name != path}
    plain = [path for path, kind, *_ in rows if kind == "file" and path not in above]
    for path, kind, owner, mode, data in rows:
        common = {"path": path, "uid": owner, "gid": owner, "mtime": 1}
        if path in above or kind == "dir":
            entries[path] = Entry(**common, mode=stat.S_IFDIR | 0o700 | mode)
        elif kind == "link":
            entries[path] = Entry(**common, mode=stat.S_IFLNK | 0o777, target=b"../t%d" % data)
        elif kind == "device":
            entries[path] = Entry(**common, mode=stat.S_IFCHR | mode, rdev=os.makedev(1, data))
        elif kind == "hard" and plain:
            entries[path] = Entry(path=path, mode=0, link=plain[data % len(plain)])
        else:
            entries[path] = Entry(
                **common, mode=stat.S_IFREG | mode, source=os.fsencode(files[NAMES.index(path) * len(DATA) + data]), size=len(DATA[data]),
                xattrs=((b"user.x", b"\0\xff"),) if owner == 7 else (),
            )  # fmt: skip
    for path, entry in entries.items():
        if entry.link is not None:
            entries[path] = attrs.evolve(entries[entry.link], path=path, link=entry.link)
    return Tree.of(entries.values())


def told(tree: Tree) -> dict[bytes, tuple[object, ...]]:
    """Say all of a tree that a layer can say: the names of one file share a number."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path, entry in tree.entries.items():
        data = Path(os.fsdecode(entry.source)).read_bytes() if entry.source is not None else None
        names = sorted(other for other, one in tree.entries.items() if (one.link or other) == (entry.link or path))
        found[path] = (entry.mode, entry.uid, entry.gid, entry.rdev, entry.target, entry.xattrs, data, tuple(names))
    return found


def applied(layers: list[Tree], folder: str) -> Base:
    """Write layers' tars, and open them as the image that they are: each is unpacked into a snapshot."""
    image = Image.empty(Platform.host())
    with Temporary() as temporary:
        for number, layer in enumerate(layers):
            path = f"{folder}/{number}.tar"
            with open(path, "wb") as file:
                serialise(layer.archived(), file.write, processes=0)
            data = Path(path).read_bytes()
            descriptor = Descriptor(MEDIA_TYPES["none"], sha256(data), len(data))
            image = image.append(LayerBlob(descriptor, descriptor.digest, Piece(path, len(data))))
        return open_base(image, Path(folder), temporary)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=PATIENT)
@given(before=trees(), after=trees())
def test_the_difference_makes_the_one_of_the_other(
    before: list[tuple[bytes, str, int, int, int]], after: list[tuple[bytes, str, int, int, int]], files: list[Path]
) -> None:
    """A base with the difference over it is the tree, whatever was added, changed, replaced and removed."""
    lower, tree = make(before, files), make(after, files)
    base = Base.of(lower)
    layer = changeset(base, difference(base, tree), 1)
    folder = tempfile.mkdtemp(dir=os.environ[PLACE])
    try:
        whole = applied([lower, layer], folder).with_({})
        assert told(whole) == told(tree)
    finally:
        remove(Path(folder))


@settings(max_examples=examples(50), deadline=None, suppress_health_check=PATIENT)
@given(rows=trees())
def test_what_is_the_same_is_in_no_layer(rows: list[tuple[bytes, str, int, int, int]], files: list[Path]) -> None:
    """Between two equal trees there is nothing but the root."""
    base = Base.of(make(rows, files))
    assert list(changeset(base, difference(base, make(rows, files)), 1).entries) == [b""]


# --- real builds upon real images ---


@pytest.fixture(scope="module")
def small(shell_store: Store) -> Store:
    """A closure with a shell and coreutils."""
    return shell_store


BASE = """mkdir -p /etc/sub /data /gone/deep /opaque
echo root:x:0:0::/root:/bin/sh > /etc/passwd
echo secret > /etc/shadow; chown 0:42 /etc/shadow; chmod 640 /etc/shadow
echo one > /data/one; ln /data/one /data/two; chown 33:33 /data/one
echo x > /gone/deep/file; echo y > /opaque/below
cp /etc/passwd /data/tool; chmod 4755 /data/tool
mknod /data/null c 1 3
ln -s passwd /etc/link
"""


@pytest.fixture
def image(user: User, small: Store) -> Path:
    """An image of two layers: a closure, and what a script made."""
    script = user.script(BASE, "base")
    cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    assert user.build(*small.options, output="lower").status == 0
    result = user.build(*small.options, "--base", user.home / "lower", "--script", script, output="upper", env=cache)
    assert result.status == 0, result.err
    layers = ["--layer", user.home / "lower", "--layer", user.home / "upper"]
    result = user.run([*COMMAND, "image", *layers, "-t", "base:1", "-o", user.home / "image.tar"])
    assert result.status == 0, result.err
    return user.home / "image.tar"


def build_upon(user: User, image: Path, small: Store, text: str, *more: str | Path) -> dict[str, object]:
    """Build upon an image; give the layer's entries by path."""
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    words = ["--base", image, *small.options, *more]
    if text:
        words += ["--script", user.script(text)]
    result = user.build(*words, env=env)
    assert result.status == 0, result.err
    assert_nothing_left(user)
    return dict(members(user).items())


def test_a_script_sees_the_base(user: User, image: Path, small: Store) -> None:
    """Owners, modes, devices and hard links of the base are what a script sees; nothing of it is in the layer."""
    text = """test "$(stat -c %u:%g:%a /etc/shadow)" = 0:42:640
test "$(stat -c %u:%h /data/two)" = 33:2
test "$(stat -c %a /data/tool)" = 4755
test "$(stat -c %F:%t:%T /data/null)" = "character special file:1:3"
test "$(cat /etc/link)" = root:x:0:0::/root:/bin/sh
touch /etc/seen
"""
    assert sorted(build_upon(user, image, small, text)) == ["etc", "etc/seen"]


def test_what_was_written_again_is_not_in_the_layer(user: User, image: Path, small: Store) -> None:
    """A file with the same bytes and metadata as before is unchanged, also where a script wrote it, or renamed it back."""
    text = """cp /etc/passwd /etc/new; mv /etc/new /etc/passwd
chown 1 /data/tool; chown 0 /data/tool; chmod 4755 /data/tool
mv /gone /else; mv /else /gone
"""
    assert sorted(build_upon(user, image, small, text)) == []


def test_what_was_removed_has_a_whiteout(user: User, image: Path, small: Store) -> None:
    """One whiteout stands for a directory with all in it; a directory that was made anew has no more than it needs."""
    text = "rm -r /gone\nrm -r /opaque; mkdir /opaque; echo z > /opaque/other\nrm /etc/link; mkdir /etc/link\n"
    found = build_upon(user, image, small, text)
    assert sorted(found) == [".wh.gone", "etc", "etc/link", "opaque", "opaque/.wh.below", "opaque/other"]


def test_names_of_one_file_stay_together(user: User, image: Path, small: Store) -> None:
    """A new name for a file of the base brings the file and all its names along: no link reaches into another layer."""
    found = build_upon(user, image, small, "ln /data/one /data/three\n")
    assert sorted(found) == ["data", "data/one", "data/three", "data/two"]
    assert sorted(build_upon(user, image, small, "rm /data/two\n")) == ["data", "data/.wh.two"]


def test_store_paths_of_the_base_are_not_in_the_layer(user: User, image: Path, small: Store) -> None:
    """A closure that the base has is left out, and root files for it become symbolic links, or copies."""
    bash = small.path("bash")
    found = build_upon(user, image, small, "", "--copy-to-root", small.on_disk("bash"))
    assert not [path for path in found if path.startswith("nix")]
    assert found["bin/bash"].linkname == f"{bash}/bin/bash"  # type: ignore[attr-defined]
    assert found["bin/bash"].issym()  # type: ignore[attr-defined]
    found = build_upon(user, image, small, "", "--copy-to-root", small.on_disk("bash"), "--link", "copy")
    assert found["bin/bash"].isreg()  # type: ignore[attr-defined]


def test_everybody_builds_the_same_upon_a_base(users: list[User], small: Store) -> None:
    """Root and somebody get one digest for the same layer upon the same base, staged in any way and in both views."""
    digests = set()
    for user in users:
        env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        lower = user.build("--copy-to-root", small.on_disk("bash"), *small.options, output="lower")
        assert lower.status == 0, lower.err
        for view, stage in (("root", "bind"), ("root", "copy"), ("directory", "bind")):
            script = user.script("mkdir -p srv; chown 5:6 srv; rm -r share 2>/dev/null || exit 1\n")
            words = ["--base", user.home / "lower", "--view", view, "--stage", stage, *small.options, "--script", script]
            digests.add(user.build(*words, output=f"{view}-{stage}", env=env).layer["digest"])
    assert len(digests) == 1


def test_the_whole_image_is_the_tree(user: User, image: Path, small: Store) -> None:
    """umoci unpacks base and layer to what the script left."""
    build_upon(user, image, small, "rm -r /gone /etc/shadow\necho two > /data/one\nmkdir /opaque/new\n")
    layout = user.home / "whole"
    made = user.run([*COMMAND, "image", "--base", image, "--layer", user.home / "layer", "-t", "whole:1", "-o", layout])
    assert made.status == 0, made.err
    rootless = [] if user.is_root else ["--rootless"]
    unpacked = user.run(["umoci", "unpack", *rootless, "--image", f"{layout}:whole:1", user.home / "bundle"])
    assert unpacked.status == 0, unpacked.err
    root = user.home / "bundle/rootfs"
    assert not (root / "gone").exists()
    assert not (root / "etc/shadow").exists()
    assert (root / "data/two").read_text() == "two\n"
    assert os.path.samefile(root / "data/one", root / "data/two")
    assert (root / "opaque/new").is_dir()
    assert (root / "opaque/below").exists()
    remove(user.home / "bundle")


def test_a_base_is_unpacked_once(user: User, image: Path, small: Store) -> None:
    """What is in the cache is not unpacked again, and a build that fails leaves no half of a snapshot."""
    snapshots = user.home / "cache/snapshots"
    build_upon(user, image, small, "true\n")
    before = {path.name: path.stat().st_ino for path in snapshots.iterdir()}
    assert len(before) == 2
    build_upon(user, image, small, "true\n")
    assert {path.name: path.stat().st_ino for path in snapshots.iterdir()} == before


def damaged(archive: Path) -> None:
    """Change one byte in the middle of an archive's largest part."""
    with open(archive, "r+b") as file:
        file.seek(os.path.getsize(archive) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 1,)))


def test_a_damaged_base_is_refused(user: User, image: Path, small: Store) -> None:
    """A layer that is not what its digest says is an error that names the file; nothing of it is kept."""
    damaged(image)
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "fresh")}
    result = user.build("--base", image, *small.options, "--script", user.script("true\n"), env=env)
    assert_said(result, result.status, r"image\.tar")
    assert result.status in {65, 66}
    assert not (user.home / "layer").exists()
    assert [name for name in os.listdir(user.home / "fresh/snapshots") if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("names", "status"),
    [(["../escape"], 65), (["a", "a/../../escape"], 65), (["/absolute"], 0)],
    ids=["above", "within", "absolute"],
)
def test_a_base_that_leaves_the_root(user: User, names: list[str], status: int) -> None:
    """A name in a layer that leaves the root is refused; an absolute one is taken from the root."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_text("x\n")
    lower = user.home / "lower.tar"
    for name in names:
        option = "-rf" if lower.exists() else "-cf"
        words = ["tar", "-P", f"--transform=s,.*,{name},", option, lower, "-C", tree, "file"]
        subprocess.run(words, check=True)
    config = user.home / "image"
    assert user.build("--copy-to-root", tree, output="lower").status == 0
    replace_layer(user, config, lower)
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    result = user.build("--base", config, env=env)
    assert result.status == status, result.err
    if status:
        assert_said(result, 65, "escape", "leaves the root")
    assert not list(user.home.rglob("escape"))
    assert not os.path.lexists("/absolute")


def replace_layer(user: User, layout: Path, archive: Path) -> None:
    """Make an image of one layer, a tar as it is, by umoci."""
    for words in (
        ["umoci", "init", "--layout", layout],
        ["umoci", "new", "--image", f"{layout}:test"],
        ["umoci", "raw", "add-layer", "--image", f"{layout}:test", archive],
    ):
        result = user.run(words)
        assert result.status == 0, result.err


def test_a_base_may_be_larger_than_is_allowed(user: User, image: Path, small: Store) -> None:
    """A layer that unpacks to more than --most-bytes is refused, and the option that allows it is named."""
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "fresh")}
    result = user.build("--base", image, "--most-bytes", "1000", *small.options, env=env)
    assert_said(result, 65, "1000 bytes", "--most-bytes")
    result = user.build("--base", image, *small.options, env=env)
    assert result.status == 0
    assert "unpacking layer 2 of 2" in result.err
