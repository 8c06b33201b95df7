"""The plan of a layer: the source of each path, where inputs agree, conflict, or lead one into the other."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from helpers.trees import plant

from rootless_layer import LayerSpec, closure_of_paths
from rootless_layer.errors import ConflictError, InputError, MissingClosureError, SourceError
from rootless_layer.plan.plan import Plan, plan
from rootless_layer.plan.rootfs import check_no_image, check_rootfs, read_directory
from rootless_layer.progress import Progress
from rootless_layer.tar.listing import read_listing
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Entry, Tree

ONE, OTHER = (f"/nix/store/{letter * 32}-{letter}" for letter in "ab")
EPOCH = 1_000


def folder(path: bytes, mode: int = 0o755) -> Entry:
    """Make the entry of a directory."""
    return Entry(path=path, mode=stat.S_IFDIR | mode, mtime=EPOCH)


def link(path: bytes, target: bytes) -> Entry:
    """Make the entry of a symbolic link."""
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, target=target, mtime=EPOCH)


def spec_of(top: Path, *trees: Mapping[str, str | None], **more: object) -> LayerSpec:
    """Write trees, and make a spec with them as contents."""
    contents = [plant(top / f"tree-{number}", files) for number, files in enumerate(trees)]
    return LayerSpec(copy_to_root=contents, source_date_epoch=EPOCH, **more)  # type: ignore[arg-type]


def texts(planned: Plan) -> dict[str, str | None]:
    """Give what a plan has, as trees are written: a text, a link's target, or nothing for a directory."""
    found: dict[str, str | None] = {}
    for entry in planned.tree:
        if entry.target is not None:
            found[entry.path.decode()] = f"-> {entry.target.decode()}"
        elif entry.path:
            found[entry.path.decode()] = None if entry.source is None else Path(os.fsdecode(entry.source)).read_text()
    return found


def closure(top: Path, **more: object) -> LayerSpec:
    """Make a closure of two store paths, one of which is a file, and a spec with it."""
    plant(top / "store" / ONE[1:], {"bin/tool": "tool", "nix-support/hook": "hook", "empty": ""})
    (top / "store" / OTHER[1:]).write_text("file")
    given = closure_of_paths([ONE, OTHER], top / "store")
    return LayerSpec(closure=given, source_date_epoch=EPOCH, **more)  # type: ignore[arg-type]


# --- contents ---


def test_nothing_is_an_empty_tree() -> None:
    """A spec without inputs has a plan without paths, but for the root."""
    planned = plan(LayerSpec())
    assert [entry.path for entry in planned.tree] == [b""]
    assert not planned.in_store(b"nix/store/x")


def test_trees_are_merged(tmp_path: Path) -> None:
    """Directories of several trees are one; files with the same bytes and links with the same target agree."""
    same: dict[str, str | None] = {"etc/name": "name", "lib": "-> usr/lib"}
    planned = plan(spec_of(tmp_path, {**same, "etc/one": "1"}, {**same, "etc/two": "2", "var": None}))
    assert texts(planned) == {"etc": None, **same, "etc/one": "1", "etc/two": "2", "var": None}


def test_owners_and_times_are_those_of_the_spec(tmp_path: Path) -> None:
    """Later times are set to the epoch, earlier ones stay; directories have the epoch, and are writable for their owner."""
    spec = spec_of(tmp_path, {"folder/old": "old", "folder/new": "new"}, uid=3, gid=4)
    top = Path(spec.copy_to_root[0]) / "folder"
    os.utime(top / "old", (7, 7))
    os.utime(top / "new", (EPOCH + 7, EPOCH + 7))
    top.chmod(0o555)
    entries = plan(spec).tree.entries
    top.chmod(0o755)
    assert {path.decode(): entry.mtime for path, entry in entries.items() if path} == {
        "folder": EPOCH, "folder/old": 7, "folder/new": EPOCH,
    }  # fmt: skip
    assert {(entry.uid, entry.gid) for path, entry in entries.items() if path} == {(3, 4)}
    assert entries[b"folder"].mode == stat.S_IFDIR | 0o755


def test_a_socket_is_left_out(tmp_path: Path) -> None:
    """A socket belongs to a process."""
    spec = spec_of(tmp_path, {"file": "text"})
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{spec.copy_to_root[0]}/socket")
    assert texts(plan(spec)) == {"file": "text"}


def test_progress_counts_entries(tmp_path: Path) -> None:
    """The number of entries so far is told after each tree."""
    told: list[Progress] = []
    plan(spec_of(tmp_path, {"one": "1"}, {"two": "2", "three": "3"}), progress=told.append)
    assert [(step.stage, step.entries) for step in told] == [("plan", 1), ("plan", 3)]


@pytest.mark.parametrize(("name", "said"), [("absent", "does not exist"), ("file", "is not a directory")])
def test_a_content_that_is_no_tree(tmp_path: Path, name: str, said: str) -> None:
    """A content that is not there, and a file, are errors that name it."""
    (tmp_path / "file").write_text("text")
    with pytest.raises((SourceError, InputError), match=f"^{tmp_path}/{name}: {said}"):
        plan(LayerSpec(copy_to_root=(tmp_path / name,)))


# --- conflicts ---

CONFLICTS: dict[str, tuple[str | None, str | None]] = {
    "bytes": ("one", "two"),
    "sizes": ("one", "three"),
    "targets": ("-> one", "-> two"),
    "a file and a link": ("one", "-> one"),
}


@pytest.mark.parametrize("what", CONFLICTS)
def test_two_trees_that_differ_conflict(tmp_path: Path, what: str) -> None:
    """Both trees and the path are named."""
    one, two = CONFLICTS[what]
    spec = spec_of(tmp_path, {"etc/x": one}, {"etc/x": two})
    with pytest.raises(ConflictError, match=r"^/etc/x: .*tree-0 and .*tree-1 give it differently"):
        plan(spec)


@pytest.mark.parametrize(("choice", "expected"), [("first", 0), ("last", 1)])
@pytest.mark.parametrize("what", CONFLICTS)
def test_one_of_two_trees_counts(tmp_path: Path, what: str, choice: str, expected: int) -> None:
    """The file of the first or of the last tree counts, where the spec says which."""
    one, two = CONFLICTS[what]
    spec = spec_of(tmp_path, {"etc/x": one}, {"etc/x": two}, conflict=choice)
    assert texts(plan(spec)) == {"etc": None, "etc/x": (one, two)[expected]}


@pytest.mark.parametrize("choice", ["error", "first", "last"])
def test_a_directory_and_a_file_conflict_always(tmp_path: Path, choice: str) -> None:
    """No choice settles a directory against a file or a link: what is below it would be lost."""
    spec = spec_of(tmp_path, {"x": "file", "y/z": "1"}, {"x/below": "1", "y": "-> z"}, conflict=choice)
    with pytest.raises(ConflictError) as caught:
        plan(spec)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["/x", "/y"]


def test_modes_conflict(tmp_path: Path) -> None:
    """Two files with the same bytes and other modes are not the same; both modes are said."""
    spec = spec_of(tmp_path, {"x": "same"}, {"x": "same"})
    os.chmod(f"{spec.copy_to_root[1]}/x", 0o755)
    with pytest.raises(ConflictError, match=r"\(-rw-r--r-- and -rwxr-xr-x\)"):
        plan(spec)


def test_all_conflicts_come_at_once(tmp_path: Path) -> None:
    """Each path that two trees give differently is a problem of its own."""
    spec = spec_of(tmp_path, dict.fromkeys("abc", "1"), dict.fromkeys("abcd", "2"))
    with pytest.raises(ConflictError) as caught:
        plan(spec)
    assert len(caught.value.problems) == 3


# --- a root filesystem ---


@pytest.mark.parametrize("choice", ["error", "first", "last"])
def test_a_root_filesystems_file_is_no_matter_of_choice(tmp_path: Path, choice: str) -> None:
    """A root filesystem's file and a content's conflict, whichever content would count."""
    top = plant(tmp_path / "root", {"etc/x": "root"})
    spec = spec_of(tmp_path, {"etc/x": "content"}, conflict=choice, rootfs=top)
    with pytest.raises(ConflictError, match=r"/etc/x: .*root and .*tree-0 give it differently"):
        plan(spec, read_directory(top, spec))


def test_a_root_filesystem_is_below_the_contents(tmp_path: Path) -> None:
    """Its directories keep their modes, and contents are merged into them; what agrees stays the root filesystem's."""
    top = plant(tmp_path / "root", {"etc/x": "same", "tmp": None})
    (tmp_path / "root/tmp").chmod(0o1777)
    spec = spec_of(tmp_path, {"etc/x": "same", "tmp/file": "1"}, rootfs=top, uid=7)
    planned = plan(spec, read_directory(top, spec))
    assert texts(planned) == {"etc": None, "etc/x": "same", "tmp": None, "tmp/file": "1"}
    entries = planned.tree.entries
    assert entries[b"tmp"].mode == stat.S_IFDIR | 0o1777
    assert (entries[b"etc/x"].source, entries[b"tmp/file"].uid) == (os.fsencode(f"{top}/etc/x"), 7)


def test_hard_links_of_a_root_filesystem_are_kept(tmp_path: Path) -> None:
    """The names of one file are one: the first in order has the data, the others are links to it; sockets are left out."""
    top = plant(tmp_path / "root", {"b": "data", "alone": "data"})
    for name in ("a", "c"):
        os.link(tmp_path / "root/b", tmp_path / "root" / name)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{top}/socket")
    found = {entry.path: entry.link for entry in read_directory(top, LayerSpec())}
    assert found == {b"": None, b"a": None, b"alone": None, b"b": b"a", b"c": b"a"}


def test_a_listing_has_the_last_word(tmp_path: Path) -> None:
    """Owners and modes of an mtree file go over those on disk; devices that are not on disk are made."""
    top = plant(tmp_path / "root", {"etc/x": "text"})
    (tmp_path / "listing").write_text(
        "#mtree\n./etc/x type=file uid=5 gid=6 mode=4711\n./etc/null type=char mode=0666 uid=0 gid=0 device=native,1,3\n"
    )
    entries = {each.path: each for each in read_directory(top, LayerSpec(), read_listing(str(tmp_path / "listing")))}
    assert (entries[b"etc/x"].mode, entries[b"etc/x"].uid, entries[b"etc/x"].gid) == (stat.S_IFREG | 0o4711, 5, 6)
    assert (entries[b"etc/null"].mode, entries[b"etc/null"].rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tmp_path / "listing").write_text("#mtree\n./none/null type=char mode=0666 uid=0 gid=0 device=native,1,3\n")
    with pytest.raises(InputError, match="its directory is not in"):
        read_directory(top, LayerSpec(), read_listing(str(tmp_path / "listing")))


def test_a_root_filesystem_is_a_directory(tmp_path: Path) -> None:
    """A file is none."""
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match="a directory or a tar archive"):
        read_directory(str(tmp_path / "file"), LayerSpec())


def test_an_image_is_no_root_filesystem(tmp_path: Path) -> None:
    """The files of an image or of a layer are refused, unless there is anything else beside them."""
    for names in ([b"oci-layout", b"index.json", b"blobs"], [b"layer.json", b"layer.mtree", b"blobs/sha256"]):
        with pytest.raises(InputError, match="is an image or a layer"):
            check_no_image("root", names)
        check_no_image("root", [*names, b"etc"])
    check_no_image("root", [b"blobs", b"version"])
    plant(tmp_path / "layout", {"oci-layout": "{}", "index.json": "{}"})
    with pytest.raises(InputError, match="is an image or a layer"):
        check_rootfs(str(tmp_path / "layout"), None)


def test_a_listing_goes_with_a_directory(tmp_path: Path) -> None:
    """An mtree file alone, one beside an archive, and paths that are not there are refused."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="goes with a root filesystem"):
        check_rootfs(None, "listing")
    with pytest.raises(InputError, match="has its own owners"):
        check_rootfs(str(tmp_path / "file"), "listing")
    with pytest.raises(SourceError) as caught:
        check_rootfs(str(tmp_path / "none"), str(tmp_path / "neither"))
    assert len(caught.value.problems) == 2
    check_rootfs(str(tmp_path), None)
    check_rootfs(None, None)


# --- links to directories ---


def test_a_directory_goes_where_a_link_leads(tmp_path: Path) -> None:
    """With keep_dirlinks what is in a directory goes, over several links, to where an earlier tree's link leads."""
    first: dict[str, str | None] = {"usr/bin": None, "bin": "-> usr/bin", "sbin": "-> /bin"}
    spec = spec_of(tmp_path, first, {"bin/a/deep": "a", "sbin/b": "b"}, keep_dirlinks=True)
    assert texts(plan(spec)) == {"usr": None, **first, "usr/bin/a": None, "usr/bin/a/deep": "a", "usr/bin/b": "b"}


def test_a_conflict_behind_a_link_is_found(tmp_path: Path) -> None:
    """A redirected file and one that is there conflict, by the path that both have in the layer."""
    spec = spec_of(tmp_path, {"usr/bin/x": "1", "bin": "-> usr/bin"}, {"bin/x": "2"}, keep_dirlinks=True)
    with pytest.raises(ConflictError, match=r"^/usr/bin/x: "):
        plan(spec)


@pytest.mark.parametrize("target", ["absent", "file", "bin", "../other"])
def test_a_link_that_leads_to_no_directory(tmp_path: Path, target: str) -> None:
    """A directory does not go where nothing, a file or a loop is."""
    spec = spec_of(tmp_path, {"bin": f"-> {target}", "file": "text"}, {"bin/x": "1"}, keep_dirlinks=True)
    with pytest.raises(ConflictError, match=r"/bin: .*tree-1 has a directory where a link to no directory stands"):
        plan(spec)


def test_without_it_a_directory_and_a_link_conflict(tmp_path: Path) -> None:
    """keep_dirlinks is asked for, and not the default."""
    with pytest.raises(ConflictError, match="/bin: "):
        plan(spec_of(tmp_path, {"usr/bin": None, "bin": "-> usr/bin"}, {"bin/x": "1"}))


def test_links_to_directories_are_followed(tmp_path: Path) -> None:
    """With follow_dirlinks a tree's link becomes a directory of what it leads to; links to files and to nothing stay."""
    first: dict[str, str | None] = {"real/file": "text", "link": "-> real", "to-file": "-> real/file", "nowhere": "-> absent"}
    spec = spec_of(tmp_path, first, follow_dirlinks=True)
    os.utime(f"{spec.copy_to_root[0]}/link", (7, 7), follow_symlinks=False)
    planned = plan(spec)
    assert texts(planned) == {"real": None, **first, "link": None, "link/file": "text"}
    assert planned.tree.entries[b"link"].mtime == EPOCH


def test_a_link_that_was_followed_is_merged(tmp_path: Path) -> None:
    """What a link leads to and a directory of another tree are one, and may conflict."""
    trees: list[dict[str, str | None]] = [{"real/x": "1", "link": "-> real"}, {"link/y": "2"}]
    assert texts(plan(spec_of(tmp_path, *trees, follow_dirlinks=True)))["link/y"] == "2"
    with pytest.raises(ConflictError, match=r"/link/x: .*tree-0/link and .*tree-1"):
        plan(spec_of(tmp_path / "more", trees[0], {"link/x": "3"}, follow_dirlinks=True))


@pytest.mark.parametrize(("choice", "expected"), [("first", 0), ("last", 1)])
@pytest.mark.parametrize("linked", [0, 1])
def test_a_link_to_a_directory_is_merged_with_a_directory(tmp_path: Path, choice: str, expected: int, linked: int) -> None:
    """Where the spec says whose file counts, what the link leads to and what the other tree has there can both be seen."""
    trees: list[dict[str, str | None]] = [{"real/x": "0", "real/in/y": "0", "bin": "-> real"}, {"bin/x": "1", "bin/in/z": "1"}]
    ordered = trees if linked == 0 else trees[::-1]
    found = texts(plan(spec_of(tmp_path, *ordered, conflict=choice)))
    counts = expected if linked == 0 else 1 - expected
    assert {name: text for name, text in found.items() if name.startswith("bin")} == {
        "bin": None, "bin/x": str(counts), "bin/in": None, "bin/in/y": "0", "bin/in/z": "1",
    }  # fmt: skip
    with pytest.raises(ConflictError, match="/bin: "):
        plan(spec_of(tmp_path / "more", *ordered))


# --- the closure ---


def test_a_closure_stands_under_its_own_paths(tmp_path: Path) -> None:
    """Each store path is where Nix says, from where it lies on this machine, as it is; in_store knows what is in one."""
    planned = plan(closure(tmp_path))
    one, other = ONE[1:], OTHER[1:]
    assert texts(planned) == {
        one: None, f"{one}/bin": None, f"{one}/bin/tool": "tool", f"{one}/empty": "", f"{one}/nix-support": None,
        f"{one}/nix-support/hook": "hook", other: "file", "nix": None, "nix/store": None,
    }  # fmt: skip
    assert [location.path.decode() for location in planned.store] == [one, other]
    inside = [name for name in texts(planned) if planned.in_store(name.encode())]
    assert inside == [name for name in texts(planned) if name.startswith((one, other))]
    assert not planned.in_store(b"nix/store/" + b"c" * 32 + b"-c/file")


def test_a_store_path_that_is_not_there(tmp_path: Path) -> None:
    """The closure is checked before it is read."""
    with pytest.raises(MissingClosureError, match=ONE):
        plan(LayerSpec(closure=closure_of_paths([ONE], tmp_path)))


@pytest.mark.parametrize("how", ["hard", "symbolic", "copy"])
def test_a_content_of_the_store_stands_for_its_files(tmp_path: Path, how: str) -> None:
    """A root file is a hard link of the store's, a symbolic link to it, or a copy; an empty file is always its own."""
    entries = plan(closure(tmp_path, copy_to_root=(ONE,), link=how)).tree.entries
    tool, stored = entries[b"bin/tool"], f"{ONE[1:]}/bin/tool".encode()
    assert (tool.link, tool.target) == {"hard": (stored, None), "symbolic": (None, b"/" + stored), "copy": (None, None)}[how]
    assert (entries[b"empty"].link, entries[b"empty"].target, entries[b"empty"].size) == (None, None, 0)
    assert b"nix-support/hook" not in entries


# --- upon a base ---


def upon(*entries: Entry) -> Base:
    """Make a base of these entries."""
    return Base.of(Tree.of([folder(b""), *entries]))


def test_directories_of_a_base_stay_as_they_are(tmp_path: Path) -> None:
    """Above a base there is only what is new, with the base's own entries of the directories that it is in."""
    base = upon(folder(b"etc", 0o700), folder(b"etc/deep"), folder(b"var"))
    planned = plan(spec_of(tmp_path, {"etc/deep/x": "1", "new/y": "2"}, base=base))
    assert texts(planned) == {"etc": None, "etc/deep": None, "etc/deep/x": "1", "new": None, "new/y": "2"}
    for path in (b"", b"etc", b"etc/deep"):
        assert planned.tree.entries[path] is base.entries[path]


def test_what_a_base_has_is_not_laid_out_again(tmp_path: Path) -> None:
    """A file or a link as the base's is left out; one with other bytes, or of another owner, takes its place."""
    top = plant(tmp_path / "base", {"same": "same", "other": "base", "link": "-> same"})
    files = [entry for entry in read_directory(top, LayerSpec()) if entry.path]
    base = upon(*(attrs.evolve(entry, uid=0, gid=0) for entry in files))
    content: dict[str, str | None] = {"same": "same", "other": "mine", "link": "-> same"}
    assert texts(plan(spec_of(tmp_path, content, base=base))) == {"other": "mine"}
    assert texts(plan(spec_of(tmp_path / "owned", content, base=base, uid=1))) == content


def test_a_file_takes_the_place_of_a_bases_directory(tmp_path: Path) -> None:
    """Whatever the base has at a path, a file or a link of a content comes in its place."""
    base = upon(folder(b"x"), folder(b"x/below"))
    assert texts(plan(spec_of(tmp_path, {"x": "file"}, base=base))) == {"x": "file"}


def test_a_directory_where_a_base_has_a_link(tmp_path: Path) -> None:
    """It is refused, as a link would be lost; keep_dirlinks follows the base's link."""
    base = upon(folder(b"usr"), folder(b"usr/bin"), link(b"bin", b"usr/bin"))
    with pytest.raises(
        ConflictError, match=r"/bin: .*a directory where the base has a link to usr/bin; --keep-dirlinks follows it"
    ):
        plan(spec_of(tmp_path, {"bin/x": "1"}, base=base))
    planned = plan(spec_of(tmp_path / "more", {"bin/x": "1"}, base=base, keep_dirlinks=True))
    assert texts(planned) == {"usr": None, "usr/bin": None, "usr/bin/x": "1"}


def test_store_paths_of_a_base_are_not_laid_out_again(tmp_path: Path) -> None:
    """Only what the base does not have comes; no root file is a hard link into another layer."""
    below = plan(closure(tmp_path))
    base = upon(*(entry for entry in below.tree if entry.path not in {b"", OTHER[1:].encode()}))
    planned = plan(closure(tmp_path, base=base, copy_to_root=(ONE,)))
    assert [location.path.decode() for location in planned.store] == [OTHER[1:]]
    tool = planned.tree.entries[b"bin/tool"]
    assert (tool.link, tool.target) == (None, f"{ONE}/bin/tool".encode())
