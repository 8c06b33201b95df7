"""Where names that go through links come to stand, against what the kernel makes of them on a disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rootless_layer.tree.changes import Added
from rootless_layer.tree.placing import Placing
from rootless_layer.tree.tree import Entry

NAMES = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "a/b/c", "b/c/a", "c/a/b"])
TARGETS = st.sampled_from(["a", "b", "a/b", "b/a", ".", "..", "../b", "c"])
MEMBERS = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.just(""), TARGETS)), max_size=7)
"""A name, and what it is: a directory, a file, or a link to a target."""


def unpacked(top: Path, members: list[tuple[str, str | None]]) -> None:
    """Unpack as engines do: what is no directory takes the place of what was there; parents that are missing are made."""
    for name, kind in members:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not (kind is None and path.is_dir() and not path.is_symlink()):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if kind is None:
            path.mkdir(exist_ok=True)
        elif kind:
            path.symlink_to(kind)
        else:
            path.write_bytes(b"")


@settings(max_examples=300)
@given(MEMBERS, st.lists(st.tuples(NAMES, st.one_of(st.none(), st.just(""), TARGETS)), max_size=5, unique_by=lambda one: one[0]))
def test_members_come_to_stand_where_the_kernel_puts_them(
    lower: list[tuple[str, str | None]], upper: list[tuple[str, str | None]]
) -> None:
    """Every tree that can be unpacked is the one that the disk has; no name leads out of it."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name, "above/top")
        outside.mkdir(parents=True)
        with contextlib.suppress(OSError):
            unpacked(outside, [*lower, *upper])
            assume(sorted(os.listdir(outside.parent)) == ["top"])  # a chroot of the engines' would have kept it within
            on_disk = {
                os.path.relpath(os.path.join(here, one), outside).encode()
                for here, dirs, files in os.walk(outside)
                for one in (*dirs, *files)
            }
            below: dict[bytes, Entry] = {}
            for layer in (lower, upper):
                added = Added[Entry]()
                placing = Placing(added.get, below.get)
                for given_, kind in layer:
                    path = placing.place(given_.encode())
                    mode = 0o40755 if kind is None else 0o120777 if kind else 0o100644
                    entry = Entry(path=path, mode=mode, target=kind.encode() if kind else None)
                    added.add(path, entry)
                    placing.put(path, is_dir=entry.is_dir)
                gone = [path for path in added.all() if not added.all()[path].is_dir]
                below = {path: one for path, one in below.items() if not any(path.startswith(file + b"/") for file in gone)}
                below |= added.all()
            implied = {path.rpartition(b"/")[0] for path in below} - {b""}
            assert below.keys() <= on_disk
            assert on_disk - below.keys() <= implied | {one.rpartition(b"/")[0] for one in implied}
