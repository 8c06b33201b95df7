"""A tree is ordered and complete, or it does not exist."""

from __future__ import annotations

import os
import stat
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import UnrepresentableError
from rootless_layer.tree.tree import ROOT_MODE, Entry, Tree, shown, stamp, unrepresentable

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o700, stat.S_IFLNK | 0o777


def file(path: bytes, **more: object) -> Entry:
    """Make a regular file's entry."""
    return Entry(path=path, mode=FILE, **more)  # type: ignore[arg-type]


def folder(path: bytes, **more: object) -> Entry:
    """Make a directory's entry."""
    return Entry(path=path, mode=FOLDER, **more)  # type: ignore[arg-type]


def problems(*entries: Entry) -> tuple[str, ...]:
    """Make a tree, which must fail, and give its problems."""
    with pytest.raises(UnrepresentableError) as caught:
        Tree.of(entries)
    return caught.value.problems


def test_missing_parents_are_roots() -> None:
    """A parent that nobody gave is a 0755 directory of root's; one that was given stays, before or after its children."""
    tree = Tree.of([file(b"a/b/c"), folder(b"a", uid=5), file(b"d/e")])
    assert list(tree.entries) == [b"", b"a", b"a/b", b"a/b/c", b"d", b"d/e"]
    assert tree.entries[b"a"] == folder(b"a", uid=5)
    for path in (b"", b"a/b", b"d"):
        assert tree.entries[path] == Entry(path=path, mode=ROOT_MODE)


def test_an_empty_tree_has_its_root() -> None:
    """Without entries there is the root, and nothing in the archive."""
    assert len(Tree.of([])) == 1
    assert Tree.of([]).archived() == []


def test_every_problem_is_found() -> None:
    """One error has all that is wrong: repeated paths, parents that are none, links to nothing, whiteouts' names."""
    found = problems(
        file(b"twice"), file(b"twice"), file(b"file"), file(b"file/below"), Entry(path=b"link", mode=LINK, target=b"/"),
        file(b"link/below"), file(b"dangling", link=b"absent"), file(b"chained", link=b"dangling"), folder(b"folder"),
        file(b"wrong", link=b"folder"), file(b"etc/.wh.passwd"), folder(b".wh..wh..opq"),
    )  # fmt: skip
    expected = {
        "/twice: the path occurs twice", "/file/below: /file is not a directory", "/link/below: /link is not a directory",
        "/dangling: no file for the hard link to /absent", "/chained: no file for the hard link to /dangling",
        "/wrong: no file for the hard link to /folder", "/etc/.wh.passwd: a layer cannot hold a name that begins with .wh.",
        "/.wh..wh..opq: a layer cannot hold a name that begins with .wh.",
    }  # fmt: skip
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("name", [b".wh.", b".wh.x", b"a/.wh.x", b".wh..wh.plnk/x", b"a/.wh.\xff"])
def test_a_whiteouts_name_is_refused_anywhere(name: bytes) -> None:
    """Any part of a path that begins with .wh. would be read as a deletion."""
    assert any("begins with .wh." in problem for problem in problems(file(name)) if problem)


@pytest.mark.parametrize("name", [b"x.wh.y", b".wh", b"wh.", b".whx", b"a.wh.", b".wh/.wh"])
def test_a_name_that_only_looks_like_a_whiteout_is_kept(name: bytes) -> None:
    """The prefix is .wh. at the beginning of a name, and nothing else."""
    assert name in Tree.of([file(name)]).entries


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**32 + 5, 2**40, -(2**63)])
def test_an_owner_that_linux_cannot_have_is_refused(number: int) -> None:
    """Ids are 32 bits, and the last one means "as it is" (chown(2)): no value is cut, the path and it are named."""
    for said in problems(file(b"f", uid=number), file(b"ok", uid=3)), problems(folder(b"d", gid=number)):
        assert len(said) == 1
        assert str(number) in said[0]
    assert len(Tree.of([file(b"f", uid=2**32 - 2, gid=2**32 - 2)])) == 2


@pytest.mark.parametrize(
    "entry",
    [
        file(b"n" * 256), file(b"d/" + b"n" * 256), file(b"d/" * 1920 + b"d"), Entry(path=b"l", mode=LINK, target=b"n" * 4096),
        file(b"f", xattrs=((b"user.a=b", b"v"),)), file(b"f", xattrs=((b"", b"v"),)),
    ],
    ids=["a name", "one below", "a path", "a target", "an attribute with =", "one without a name"],
)  # fmt: skip
def test_a_name_that_linux_or_a_tar_cannot_have(entry: Entry) -> None:
    """With a script or without one: it is an error that names the path."""
    assert unrepresentable(entry)
    assert not unrepresentable(Entry(path=b"l", mode=LINK, target=b"n" * 300))  # which symlink(2) takes
    if entry.target is None:
        assert any(said.startswith(f"{shown(entry.path)}: ") for said in problems(entry))


def test_names_as_long_as_linux_takes() -> None:
    """255 bytes a part; what marks a deletion may be longer, as it is no file."""
    assert Tree.of([file(b"n" * 255), file(b"d/" + b"m" * 255)])
    assert Tree.of([file(b".wh." + b"n" * 255)], whiteouts=True)


def test_a_hard_links_target_is_no_link() -> None:
    """A hard link names a regular file directly: not a directory, not a symbolic link, not itself."""
    assert Tree.of([file(b"b", link=b"a"), file(b"a")]).entries[b"b"].link == b"a"
    assert problems(file(b"a", link=b"a"))
    assert problems(Entry(path=b"a", mode=LINK, target=b"x"), file(b"b", link=b"a"))
    assert problems(Entry(path=b"a", mode=stat.S_IFIFO | 0o600), file(b"b", link=b"a"))


def test_hard_links_follow_their_targets() -> None:
    """In the archive links come last, in the order of their paths, whatever the paths are."""
    tree = Tree.of([file(b"a", link=b"z"), file(b"b"), file(b"y", link=b"b"), file(b"z")])
    assert [entry.path for entry in tree.archived()] == [b"b", b"z", b"a", b"y"]


def test_the_root_is_archived_where_it_says_something() -> None:
    """The root's entry is left out as long as it is what it is without one."""
    plain = Entry(path=b"", mode=ROOT_MODE, mtime=7)
    assert Tree.of([plain]).archived() == []
    for root in (
        Entry(path=b"", mode=stat.S_IFDIR | 0o1777), Entry(path=b"", mode=ROOT_MODE, uid=1), Entry(path=b"", mode=ROOT_MODE, gid=1),
        Entry(path=b"", mode=ROOT_MODE, xattrs=((b"user.a", b""),)),
    ):  # fmt: skip
        assert Tree.of([root, file(b"a")]).archived()[0] == root


def test_the_order_is_that_of_the_bytes() -> None:
    """Paths are sorted as bytes, which no locale changes: a parent is before its children."""
    names = [b"a-b", b"a", b"a/c", b"A", "é".encode(), b"\xff", b"a.d"]
    made = Tree.of([folder(name) if name == b"a" else file(name) for name in names])
    assert list(made.entries) == [b"", b"A", b"a", b"a-b", b"a.d", b"a/c", "é".encode(), b"\xff"]


def test_a_tree_cannot_be_changed() -> None:
    """Entries and trees are values."""
    tree = Tree.of([file(b"a")])
    with pytest.raises(AttributeError):
        tree.entries[b"a"].mode = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        tree.entries[b"b"] = file(b"b")  # type: ignore[index]


def test_a_path_is_shown_in_one_line() -> None:
    """What a person reads of a path is absolute, and odd bytes and control characters are escaped."""
    assert shown(b"") == "/"
    assert shown("etc/é".encode()) == "/etc/é"
    for name in (b"a\nb", b"a\x1b[31mb", b"\xff", b"a\tb", b"a\x7fb", "a\u0085b".encode(), "a\u2028b".encode()):
        assert len(shown(name).splitlines()) == 1
        assert shown(name).isprintable()
    assert shown(b"\xff") == "/\\xff"


def test_a_stamp_tells_a_file_from_another(tmp_path: object) -> None:
    """A file that is written again has another stamp."""
    path = f"{tmp_path}/file"
    with open(path, "w") as first:
        first.write("1")
    before = stamp(os.lstat(path))
    assert stamp(os.lstat(path)) == before
    with open(path, "w") as second:
        second.write("22")
    assert stamp(os.lstat(path)) != before


NAME = (
    st.binary(min_size=1, max_size=4).map(lambda name: name.replace(b"/", b"-")).filter(lambda name: not name.startswith(b".wh."))
)
PATH = st.lists(NAME, min_size=1, max_size=4).map(b"/".join)


@given(st.sets(PATH, max_size=12), st.data())
def test_any_set_of_paths_is_made_complete(paths: set[bytes], data: st.DataObject) -> None:
    """Whatever paths are given in whatever order: sorted, each once, every parent there, files as they were given."""
    parents = {path[:at] for path in paths for at in range(len(path)) if path[at : at + 1] == b"/"}
    given_entries = [folder(path) if path in parents else file(path) for path in sorted(paths)]
    shuffled = data.draw(st.permutations(given_entries))
    tree = Tree.of(shuffled)
    assert tree == Tree.of(given_entries)
    found = list(tree.entries)
    assert all(one < other for one, other in pairwise(found))
    assert set(found) == paths | parents | {b""}
    assert all(tree.entries[path.rpartition(b"/")[0]].is_dir for path in found)
    assert all(tree.entries[entry.path] is entry for entry in given_entries)
    assert [entry.path for entry in tree] == found
    assert len(tree) == len(found)


@given(st.dictionaries(NAME, st.one_of(st.none(), NAME), max_size=10))
def test_links_are_archived_behind_files(links: dict[bytes, bytes | None]) -> None:
    """In any archive each hard link stands behind its target; with a wrong one there is no tree."""
    entries = [file(path, link=link) for path, link in links.items()]
    right = all(link is None or (link in links and links[link] is None) for link in links.values())
    if not right:
        assert problems(*entries)
        return
    seen: set[bytes] = set()
    for entry in Tree.of(entries).archived():
        assert entry.link is None or entry.link in seen
        seen.add(entry.path)
    assert seen == set(links)
