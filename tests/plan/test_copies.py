"""Copies: what is found, where it goes, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.trees import plant

from rootless_layer import Copy, Ignored, LayerSpec, closure_of_paths
from rootless_layer.cache.key import layer_key
from rootless_layer.errors import ConflictError, InputError, OutputError, SourceError
from rootless_layer.options.copies import COPIES, COPIES_FROM, CopyFrom
from rootless_layer.plan.base import LazyBase
from rootless_layer.plan.plan import plan
from rootless_layer.plan.rootfs import read_directory
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Entry, Tree

EPOCH = 1_000


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with some files."""
    top = tmp_path / "context"
    plant(top, {"a": "a", "b": "b", "sub/c": "c", "sub/deep/d": "d", "out": "-> ../outside", "in": "-> sub/c"})
    plant(tmp_path / "outside", {"secret": "secret"})
    monkeypatch.chdir(top)
    return top


def tree(*copies: Copy, **more: object) -> dict[str, Entry]:
    """Give what a layer of copies has."""
    planned = plan(LayerSpec(copies=copies, source_date_epoch=EPOCH, **more)).tree  # type: ignore[arg-type]
    return {os.fsdecode(entry.path): entry for entry in planned if entry.path}


def root(**entries: Entry) -> Base:
    """Make a base."""
    return Base.of(Tree.of(entries.values()), "sha256:x")


# --- sources ---


def test_no_link_leads_out_of_the_working_directory(context: Path) -> None:
    """A link is followed as if the working directory were the root; an absolute path is another's word."""
    for source in ("out", "out/secret", "link"):
        (context / "link").unlink(missing_ok=True)
        (context / "link").symlink_to(context / "a")
        with pytest.raises(SourceError, match=source):
            tree(Copy(source, "/x"))
    assert tree(Copy("in", "/x"))["x"].source == os.fsencode(context / "sub/c")
    for source in ("../outside", str(context / "out"), "sub/../../outside/"):
        assert tree(Copy(source, "/x")).keys() == {"x", "x/secret"}


def test_names_of_any_bytes(context: Path) -> None:
    """A name need not be text; a pattern's character is one of UTF-8's, or a byte that is none."""
    names = [b"\xff", "é".encode(), b"x\ny"]
    (context / "odd").mkdir()
    for name in names:
        (context / "odd" / os.fsdecode(name)).touch()
    assert {os.fsencode(path) for path in tree(Copy("odd", "/x"))} == {b"x", *(b"x/" + name for name in names)}
    assert {os.fsencode(path) for path in tree(Copy("odd/?", "/x/"))} == {b"x", b"x/\xff", "x/é".encode()}
    assert os.fsdecode(b"\xff") in tree(Copy(["odd/" + os.fsdecode(b"\xff")], os.fsdecode(b"/\xff")))


def test_a_copy_is_root_s_with_its_own_mode(context: Path) -> None:
    """Set-ID bits are kept, times up to the epoch; attributes, sockets and who owns the file are this machine's own."""
    (context / "a").chmod(0o6711)
    (context / "sub").chmod(0o3770)
    os.utime(context / "a", (5, 5))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("sub/socket")
        found = tree(Copy(["a", "sub"], "/x/"), uid=3, gid=4)
    assert {path: (entry.mode & 0o7777, entry.uid, entry.gid, entry.mtime) for path, entry in found.items()} == {
        "x": (0o755, 3, 4, EPOCH), "x/a": (0o6711, 3, 4, 5), "x/c": (0o644, 3, 4, EPOCH), "x/deep": (0o755, 3, 4, EPOCH),
        "x/deep/d": (0o644, 3, 4, EPOCH),
    }  # fmt: skip
    assert tree(Copy("sub", "/y"))["y"].mode & 0o7777 == 0o3770, "the destination is the source"


def test_what_is_ignored_is_not_there(context: Path) -> None:
    """A source that is left out is as one that does not exist, but the file that says so is named."""
    rules = Ignored.of_text("a\nsub\n!sub/deep\n", "rules")
    assert tree(Copy(["sub", "b"], "/x/"), ignored=rules).keys() == {"x", "x/b", "x/deep", "x/deep/d"}
    for source in ("a", "sub/c", "sub/c*", "?z"):
        with pytest.raises(SourceError, match=source.replace("*", r"\*").replace("?", r"\?")):
            tree(Copy(source, "/x"), ignored=rules)
    with pytest.raises(SourceError, match="but for what rules leaves out"):
        tree(Copy("a", "/x"), ignored=rules)
    assert tree(Copy(str(context / "a"), "/x"), ignored=rules).keys() == {"x"}


def test_an_output_is_no_source(context: Path) -> None:
    """What a build makes in the directory that it copies is left out of it, and never taken for a source."""
    (context / "layer").mkdir()
    plant(context / "layer", {"blob": "old"})
    spec = LayerSpec(copies=[Copy(".", "/x")]).apart_from("layer")
    assert b"x/layer" not in plan(spec).tree.entries
    spec = LayerSpec(copies=[Copy("*", "/x/")]).apart_from("layer")
    assert b"x/a" in plan(spec).tree.entries
    assert b"x/blob" not in plan(spec).tree.entries
    with pytest.raises(OutputError, match="is the output as well"):
        LayerSpec(copies=[Copy("layer", "/x")]).apart_from("layer")
    assert Copy(["/a/b*/c", "*", "d/e"], "/x").inputs() == ("/a", ".", "d/e")


# --- destinations ---


def test_a_copy_takes_the_place_of_a_file(context: Path) -> None:
    """Of a file with several names the others stay what they were."""
    (context / "root").mkdir()
    plant(context / "root", {"etc/one": "one"})
    for name in ("two", "three"):
        os.link(context / "root/etc/one", context / "root/etc" / name)
    entries = read_directory("root", LayerSpec())
    planned = plan(LayerSpec(copies=[Copy("a", "/etc/one"), Copy("b", "/etc/three")]), entries).tree.entries
    texts = {}
    for name in ("one", "two", "three"):
        entry = planned[b"etc/" + name.encode()]
        source = planned[entry.link].source if entry.link else entry.source
        texts[name] = Path(os.fsdecode(source or b"")).read_text()
    assert texts == {"one": "a", "two": "one", "three": "b"}


REFUSED: dict[str, tuple[Callable[[], LayerSpec], type[Exception], str]] = {
    "a file where a directory is": (lambda: LayerSpec(copies=[Copy("sub", "/x"), Copy(["a", "sub"], "/x"), Copy("a", "/x/deep/d/")]), ConflictError, "no directory"),
    "a directory onto a file": (lambda: LayerSpec(copies=[Copy("a", "/x"), Copy("sub", "/x")]), ConflictError, "onto a file"),
    "a directory where a file is": (lambda: LayerSpec(copies=[Copy("a", "/x/deep"), Copy("sub", "/x")]), ConflictError, "x/deep"),
    "several onto one": (lambda: LayerSpec(copies=[Copy(["a", "b"], "/x")]), InputError, "2 sources"),
    "an owner that is not there": (lambda: LayerSpec(copies=[Copy("a", "/x", chown="nobody")]), InputError, "etc/passwd"),
    "a pattern that is none": (lambda: LayerSpec(copies=[Copy("[a", "/x")]), InputError, "no pattern"),
    "a source that is not there": (lambda: LayerSpec(copies=[Copy("none", "/x")]), SourceError, "none"),
    "a pattern that fits nothing": (lambda: LayerSpec(copies=[Copy("n*", "/x")]), SourceError, "nothing fits"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("context")
def test_what_is_refused(case: str) -> None:
    """The path at fault is named."""
    make, kind, said = REFUSED[case]
    with pytest.raises(kind, match=said):
        plan(make())


def test_no_copy_changes_a_store_path(context: Path) -> None:
    """Store paths are as they are."""
    path = "/nix/store/" + 32 * "a" + "-a"
    plant(context / "store" / path[1:], {"bin/tool": "tool"})
    closure = closure_of_paths([path], context / "store")
    with pytest.raises(ConflictError, match="store paths are as they are"):
        plan(LayerSpec(closure=closure, copies=[Copy("a", f"{path}/bin/tool")]))
    assert "nix/store/x" in tree(Copy("a", "/nix/store/x"), closure=closure)


# --- of images ---


def test_of_an_image(context: Path) -> None:
    """Owners, attributes and hard links are the image's own; its links are followed in it, and paths are from its root."""
    attribute = ((b"security.capability", b"x"),)
    entries = {
        "out": Entry(path=b"out", mode=stat.S_IFDIR | 0o750, uid=7, gid=8, mtime=9),
        "file": Entry(
            path=b"out/f", mode=stat.S_IFREG | 0o4755, uid=5, gid=6, source=os.fsencode(context / "a"), size=1, xattrs=attribute
        ),
        "hard": Entry(path=b"out/g", mode=stat.S_IFREG | 0o4755, link=b"out/f"),
        "link": Entry(path=b"link", mode=stat.S_IFLNK | 0o777, target=b"/out"),
        "device": Entry(path=b"out/null", mode=stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3)),
    }
    image = root(**entries)
    found = tree(Copy("/link/../link", "/x", image=image))
    assert found.keys() == {"x", "x/f", "x/g", "x/null"}
    assert (found["x"].mode & 0o7777, found["x"].uid, found["x/f"].uid, found["x/f"].xattrs) == (0o750, 7, 5, attribute)
    assert found["x/g"].link == b"x/f"
    assert tree(Copy("/out/g", "/x", image=image))["x"].source == os.fsencode(context / "a")
    found = tree(Copy("/out/[f-g]", "/x/", image=LazyBase("sha256:x", lambda _: image), chown="1", chmod=0o600))
    assert [(found[path].uid, found[path].gid, found[path].mode & 0o7777) for path in ("x/f", "x/g")] == [(1, 1, 0o600)] * 2
    assert "bin" in tree(Copy("/", "/", image=root(bin=Entry(path=b"bin", mode=stat.S_IFDIR | 0o755))))
    with pytest.raises(SourceError, match="/none"):
        tree(Copy("/none", "/x", image=image))


# --- the key ---


def test_what_is_in_the_key(context: Path) -> None:
    """What is found counts, by names, modes and bytes, and where it goes; an image counts by its chain ID, and is not opened."""

    def key(*copies: Copy, **more: object) -> str:
        return layer_key(LayerSpec(copies=copies, **more))  # type: ignore[arg-type]

    before = {name: key(Copy(name, "/x")) for name in ("a", "sub", "*", "s*")}
    assert before.pop("s*") == before["sub"], "what is found counts, and not how"
    others = [key(Copy("a", "/y")), key(Copy("a", "/x", chmod=0o600)), key(Copy("a", "/x", chown="1")), key()]
    assert len({*before.values(), *others}) == 7
    assert key(Copy("sub", "/x"), ignored=Ignored.of_text("sub/deep")) not in before.values()
    assert key(Copy("sub", "/x"), ignored=Ignored.of_text("a")) == before["sub"]
    (context / "sub/deep/d").write_text("other")
    assert {name for name in before if key(Copy(name, "/x")) != before[name]} == {"sub", "*"}
    images = [LazyBase(f"sha256:{letter * 64}", pytest.fail) for letter in "ab"]
    assert len({key(Copy(path, "/x", image=image)) for image in images for path in ("/a", "/b")}) == 4


# --- as it is written ---


def test_how_a_copy_is_written() -> None:
    """A text, or a table of TOML; an image is what stands before the first path that begins with a slash."""
    assert COPIES.of_text("a/b*:/x/") == Copy("a/b*", "/x/")
    assert COPIES.of_text("a:x:chown=app:extra:chmod=0755") == Copy("a", "x", chown="app:extra", chmod=0o755)
    assert COPIES.of_text("a:x:chmod=755:chown=1:2") == Copy("a", "x", chown="1:2", chmod=0o755)
    assert COPIES.of_toml({"source": ["a:b", "c"], "dest": "/x:y/", "chmod": "0640"}) == (
        Copy(["a:b", "c"], "/x:y/", chmod=0o640),
    )
    assert COPIES_FROM.of_text("builder:/out:/x") == CopyFrom("builder", Copy("/out", "/x"))
    assert COPIES_FROM.of_text("/i.tar#app:1:/out:/x:chown=1") == CopyFrom("/i.tar#app:1", Copy("/out", "/x", chown="1"))
    assert COPIES_FROM.of_toml(["i:/a:b", {"from": "j", "source": "/a", "dest": "b"}]) == (
        CopyFrom("i", Copy("/a", "b")), CopyFrom("j", Copy("/a", "b")),
    )  # fmt: skip
    assert COPIES.of_text("a:b:c") == Copy("a:b", "c")
    for text in ("a", "a:", ":b", "a:b:chmod=9", "a:b:chown=a:b:c", "a:b:chmod="):
        with pytest.raises(InputError):
            COPIES.of_text(text)
    for value in (
        {"source": "a"},
        {"source": "a", "dest": "b", "more": 1},
        {"source": "a", "dest": "b", "chmod": 755},
        3,
        {"source": [], "dest": "b"},
    ):
        with pytest.raises(InputError):
            COPIES.of_toml(value)
    assert Copy(Path("a"), Path("/x")) == Copy(["a"], "/x")
    for wrong in (
        lambda: Copy([], "/x"),
        lambda: Copy("a", ""),
        lambda: Copy("a", "/x", chmod=0o10000),
        lambda: Copy("a", "/x", image="i"),
    ):
        with pytest.raises(InputError):
            wrong()
    for text in ("i:a:b", "/a:b", "i:/a"):
        with pytest.raises(InputError):
            COPIES_FROM.of_text(text)
