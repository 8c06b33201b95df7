"""In which order a tree is archived: each store path is one run of entries, with its own hard links at its end."""

from __future__ import annotations

import io
import stat

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.order import needed_first
from rootless_layer.tree import mtree
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.owner_names import OwnerNames
from rootless_layer.tree.tree import Entry, Tree

NAMES = [
    f"/nix/store/{letter * 32}-{name}" for letter, name in zip("0123456789", ["app", "lib", "libc", *"abcdefg"], strict=True)
]
LETTERS = st.characters(exclude_categories=["C"], exclude_characters=":")
PATHS = [StorePath(name) for name in NAMES]


def file(path: bytes, **more: object) -> Entry:
    """Give a regular file."""
    return attrs.evolve(Entry(path=path, mode=stat.S_IFREG | 0o644), **more)  # type: ignore[arg-type]


def stored(*numbers: int) -> tuple[bytes, ...]:
    """Give paths as trees have them."""
    return tuple(NAMES[number].encode()[1:] for number in numbers)


def test_what_needs_least_is_first() -> None:
    """A path stands behind what it needs, and others of the same height in the order of their names."""
    app, lib, libc, other = PATHS[:4]
    closure = Closure({app: [lib, libc], lib: [libc], libc: [], other: [libc]})
    assert needed_first(closure) == (libc, other, lib, app)
    assert needed_first(Closure(dict.fromkeys(PATHS[:4], ()))) == (other, app, lib, libc)
    assert needed_first(Closure({app: [lib], lib: [app]})) == (app, lib)


@given(st.dictionaries(st.sampled_from(PATHS), st.sets(st.sampled_from(PATHS)), min_size=1))
def test_a_path_stands_behind_all_that_it_needs(graph: dict[StorePath, set[StorePath]]) -> None:
    """Whatever the graph is, each path is there once, and none before one that it needs."""
    upward = {path: {other for other in others if other in graph and other < path} for path, others in graph.items()}
    order = needed_first(Closure(upward))
    assert sorted(order) == sorted(upward)
    for place, path in enumerate(order):
        assert upward[path].isdisjoint(order[place + 1 :])


@given(st.dictionaries(st.sampled_from(PATHS), st.sets(st.sampled_from(PATHS)), min_size=2), st.data())
def test_what_nobody_needs_moves_no_other(graph: dict[StorePath, set[StorePath]], data: st.DataObject) -> None:
    """A path to which none refers comes or goes: the others stay in their order."""
    upward = {path: {other for other in others if other in graph and other < path} for path, others in graph.items()}
    gone = data.draw(st.sampled_from(sorted(set(upward).difference(*upward.values()))))
    left = needed_first(Closure({path: others for path, others in upward.items() if path != gone}))
    assert left == tuple(path for path in needed_first(Closure(upward)) if path != gone)


def test_segments() -> None:
    """Directories above and their whiteouts, store paths in their order with their own links, then all else."""
    libc, app = stored(2, 0)
    tree = Tree.of(
        [
            file(b"bin/sh", link=app + b"/sh"), file(b"etc/passwd"), file(b".wh.old"), file(b"nix/store/.wh.gone"),
            file(app + b"/sh"), file(app + b"/a", link=app + b"/sh"), file(app + b"/z"), file(app + b"/other", link=libc + b"/c"),
            file(libc + b"/c"), file(b"nix/store/stray"), file(b"nix/var/db"),
        ],
        whiteouts=True,
    )  # fmt: skip
    archive = Archive.of(attrs.evolve(tree, stored=(libc, *stored(5), app)))
    segments = [archive.table.paths[begin:end] for begin, end in zip((0, *archive.ends), archive.ends, strict=False)]
    assert archive.names == (b"", libc, app, b"")
    assert segments == [
        [b".wh.old", b"nix", b"nix/store", b"nix/store/.wh.gone"],
        [libc, libc + b"/c"],
        [app, app + b"/sh", app + b"/z", app + b"/a"],
        [b"bin", b"etc", b"etc/passwd", b"nix/store/stray", b"nix/var", b"nix/var/db", b"bin/sh", app + b"/other"],
    ]
    assert Archive.of(tree).names == (b"",)
    assert sorted(archive.table.paths) == sorted(Archive.of(tree).table.paths)


@given(st.lists(st.sampled_from(range(len(NAMES))), unique=True))
def test_a_listing_has_the_order(numbers: list[int]) -> None:
    """Whoever reads a listing knows in which order its store paths are archived, and finds the file at its beginning."""
    tree = attrs.evolve(Tree.of([file(b"x")]), stored=(*stored(*numbers), b"nix/store/a b\\#"))
    listing = io.BytesIO(b"".join(mtree.lines(tree, files=None)))
    assert mtree.Head.of(listing, "").stored == tree.stored
    assert listing.tell() == 0
    assert mtree.read(listing, b"/", "listing") == list(tree)


@given(st.integers(0, 3), st.text(LETTERS), st.integers(0, 3), st.text(LETTERS))
def test_a_listing_has_the_names_of_owners(uid: int, uname: str, gid: int, gname: str) -> None:
    """Names of owners are in the head of a listing, beside their numbers, and an empty one is none."""
    tree = attrs.evolve(Tree.of([file(b"x")]), names=OwnerNames.of(uid, uname, gid, gname), stored=stored(1))
    listing = io.BytesIO(b"".join(mtree.lines(tree, files=None)))
    head = mtree.Head.of(listing, "")
    assert (head.names, head.stored) == (tree.names, tree.stored)
    assert head.names.of_user(uid) == (uname.encode() or None)
    assert head.names.of_group(gid + 1) is None
    assert mtree.read(listing, b"/", "listing") == list(tree)


@pytest.mark.parametrize("line", [b"#uname=x,a", b"#gname=", b"#uname=1,\\377", b"#uname=1,\\000"])
def test_a_name_that_is_none_is_an_error(line: bytes) -> None:
    """A head that was changed is no traceback."""
    with pytest.raises(InputError, match=r"layer\.mtree: the name of an owner"):
        mtree.Head.of(io.BytesIO(b"#mtree\n" + line + b"\n. type=dir"), "layer.mtree")
