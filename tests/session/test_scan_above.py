"""What an overlay has above a base, read after its session: written, removed, or given another owner."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs
from helpers.staged import EPOCH, FILE, SPEC, Session, stage
from helpers.trees import plant

from rootless_layer.plan.plan import Plan
from rootless_layer.session.ownership import OwnershipRecord, Row, Shown
from rootless_layer.session.scan import scan_above
from rootless_layer.tree.base import Base, Delta, Entries, Facts
from rootless_layer.tree.tree import Tree
from rootless_layer.tree.walk import walk


def base_of(top: Path, links: Mapping[bytes, tuple[bytes, ...]] | None = None) -> Base:
    """Make a base of a tree on disk."""
    facts = {
        path: Facts(
            status.st_mode if not stat.S_ISLNK(status.st_mode) else stat.S_IFLNK | 0o777, 0, 0, EPOCH,
            status.st_size if stat.S_ISREG(status.st_mode) else 0, 0,
            os.readlink(on_disk) if stat.S_ISLNK(status.st_mode) else None, (), os.fsencode(top),
        )
        for path, on_disk, status in walk(os.fsencode(top))
    }  # fmt: skip
    return Base(Entries(facts, {}), "", links or {}, (os.fsencode(top),))


@attrs.define
class Above:
    """A session upon a base, which an overlay showed."""

    base: Base
    made: Session
    shown: Shown

    def scan(self, rows: Mapping[tuple[int, int], Row] | None = None) -> Delta:
        """Give what is otherwise than in the base."""
        record = OwnershipRecord(rows or {}, shown=self.shown)
        delta, notes = scan_above(self.base, self.made.staged, record, SPEC)
        assert notes == []
        return delta


BELOW: dict[str, str | None] = {"etc": None, "etc/name": "name", "etc/link": "-> name", "var/deep/file": "file", "var/other": "2"}


def above(tmp_path: Path, *known: str, links: Mapping[bytes, tuple[bytes, ...]] | None = None) -> Above:
    """Stage nothing upon a base; of the ``known`` files of the base the record may have rows, by 1, 2, …."""
    plant(tmp_path / "base", BELOW)
    base = base_of(tmp_path / "base", links)
    (tmp_path / "tree").mkdir()
    made = stage(tmp_path, Plan(Tree.of([base.entries[b""]])))
    shown = Shown(9, {}, {number: name.encode() for number, name in enumerate(known, 1)})
    return Above(base, made, shown)


def test_nothing_above_a_base_is_no_change(tmp_path: Path) -> None:
    """The root, which is the base's own, does not count."""
    assert above(tmp_path).scan() == Delta({}, frozenset())


def test_what_is_written_above_a_base(tmp_path: Path) -> None:
    """Files in the upper directory are new or changed; the record knows them by the device of the overlay."""
    upon = above(tmp_path)
    plant(upon.made.top, {"etc/name": "other", "new": "new"})
    delta = upon.scan({(9, upon.made.inode("new")[1]): Row(FILE, 5, 6, 0)})
    assert delta.there.keys() == {b"etc", b"etc/name", b"new"}
    assert (delta.there[b"etc/name"].size, delta.there[b"new"].uid) == (5, 5)
    assert delta.gone == frozenset()


def test_a_file_that_was_copied_up_has_the_row_of_its_copy(tmp_path: Path) -> None:
    """A row of the base's file counts no more where another stands in the upper directory."""
    upon = above(tmp_path, "etc/name")
    plant(upon.made.top, {"etc/name": "other"})
    delta = upon.scan({(9, 1): Row(FILE, 5, 6, 0)})
    assert (delta.there[b"etc/name"].uid, delta.there[b"etc/name"].size) == (0, 5)


def test_a_socket_takes_the_place_of_a_bases_file(tmp_path: Path) -> None:
    """The socket is no part of the layer, and the file is gone."""
    upon = above(tmp_path)
    plant(upon.made.top, {"etc": None})
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(upon.made.top / "etc/name"))
    delta, notes = scan_above(upon.base, upon.made.staged, OwnershipRecord({}, shown=upon.shown), SPEC)
    assert (delta.gone, len(notes)) == ({b"etc/name"}, 1)


def test_what_is_removed_from_a_base(tmp_path: Path) -> None:
    """An overlay marks a deletion by a device 0, 0; one of what the base does not have is none."""
    upon = above(tmp_path)
    plant(upon.made.top, {"etc": None})
    for name in ("etc/name", "etc/none", "var"):
        os.mknod(upon.made.top / name, stat.S_IFCHR, os.makedev(0, 0))
    delta = upon.scan()
    assert delta.gone == {b"etc/name", b"var"}
    assert delta.there.keys() == {b"etc"}


def test_a_directory_that_took_the_place_of_a_bases(tmp_path: Path) -> None:
    """Of an opaque directory all is gone that the base has in it, and what is below that goes with it."""
    upon = above(tmp_path)
    plant(upon.made.top, {"var/other": "new", "fresh": None})
    for name in ("var", "fresh"):
        os.setxattr(upon.made.top / name, "user.overlay.opaque", b"y")
    delta = upon.scan()
    assert delta.gone == {b"var/deep"}
    assert delta.there.keys() == {b"var", b"var/other", b"fresh"}
    assert not delta.leaves(b"var/deep/file")


def test_an_owner_alone_is_a_change_of_a_base(tmp_path: Path) -> None:
    """A row for a file that was not copied up changes its owner and mode only; one that says what it is changes nothing."""
    upon = above(tmp_path, "etc/name", "etc/link", "var/other")
    rows = {(9, 1): Row(FILE, 5, 6, 0), (9, 2): Row(stat.S_IFLNK | 0o755, 7, 8, 0), (9, 3): Row(FILE, 0, 0, 0)}
    delta = upon.scan(rows)
    entries = upon.base.entries
    assert delta.there == {
        b"etc/name": attrs.evolve(entries[b"etc/name"], uid=5, gid=6),
        b"etc/link": attrs.evolve(entries[b"etc/link"], uid=7, gid=8),
    }


def test_an_owner_of_what_is_gone_is_nobodys(tmp_path: Path) -> None:
    """A row of a file that was removed afterwards, alone or with its directory, counts no more."""
    upon = above(tmp_path, "etc/name", "var/deep/file")
    plant(upon.made.top, {"etc": None})
    for name in ("etc/name", "var"):
        os.mknod(upon.made.top / name, stat.S_IFCHR, os.makedev(0, 0))
    assert upon.scan({(9, 1): Row(FILE, 5, 6, 0), (9, 2): Row(FILE, 5, 6, 0)}).there.keys() == {b"etc"}


def test_an_owner_of_a_file_with_several_names(tmp_path: Path) -> None:
    """All names that are left get it, the first as the file and the others as links to it."""
    names = (b"etc/name", b"var/other", b"var/deep/file")
    upon = above(tmp_path, "etc/name", links=dict.fromkeys(names, names))
    delta = upon.scan({(9, 1): Row(FILE, 5, 6, 0)})
    assert {path: (entry.uid, entry.link) for path, entry in delta.there.items()} == {
        b"etc/name": (5, None), b"var/other": (5, b"etc/name"), b"var/deep/file": (5, b"etc/name"),
    }  # fmt: skip
    plant(upon.made.top, {"var/other": "another file"})
    there = upon.scan({(9, 1): Row(FILE, 5, 6, 0)}).there
    assert {path: entry.uid for path, entry in there.items() if entry.is_regular} == {
        b"etc/name": 5, b"var/deep/file": 5, b"var/other": 0,
    }  # fmt: skip
    os.mknod(upon.made.top / "etc", stat.S_IFCHR, os.makedev(0, 0))
    assert upon.scan({(9, 1): Row(FILE, 5, 6, 0)}).there.keys() == {b"var", b"var/other"}
