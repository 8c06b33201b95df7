"""Staged trees made by hand, and what their sessions left behind."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from helpers.trees import plant

from rootless_layer import LayerSpec, Script
from rootless_layer.errors import StoreChangedError
from rootless_layer.plan.plan import Plan, plan
from rootless_layer.session.ownership import OwnershipRecord, Row
from rootless_layer.session.scan import scan
from rootless_layer.session.stage import Staged
from rootless_layer.tree.tree import Entry, Stamp, stamp
from rootless_layer.tree.walk import walk

EPOCH = 1_000
FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
SPEC = LayerSpec(source_date_epoch=EPOCH)


@attrs.define
class Session:
    """A tree that was staged by hand, and what its session left behind."""

    top: Path
    staged: Staged
    spec: LayerSpec = SPEC
    record: OwnershipRecord = attrs.field(factory=lambda: OwnershipRecord({}))

    def give(self, name: str, mode: int, uid: int = 0, gid: int = 0, **more: int) -> None:
        """Put a row for a file of the tree in the record."""
        row = Row(mode, uid, gid, more.get("rdev", 0))
        self.record = attrs.evolve(self.record, rows={**self.record.rows, self.inode(name): row})

    def inode(self, name: str) -> tuple[int, int]:
        """Give the inode of a file of the tree."""
        return inode(self.top / name)

    def scan(self) -> dict[str, Entry]:
        """Give the entries by path, without the root."""
        tree, notes = scan(self.staged, self.record, self.spec)
        assert notes == []
        return {os.fsdecode(path): entry for path, entry in tree.entries.items() if path}

    def problems(self) -> list[str]:
        """Give what is said of a changed store path."""
        with pytest.raises(StoreChangedError) as caught:
            scan(self.staged, self.record, self.spec)
        return list(caught.value.problems)


def inode(path: Path) -> tuple[int, int]:
    """Give the inode of a file."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def stamps_of(top: Path) -> dict[bytes, Stamp]:
    """Take the stamps of a tree, and wait until any later change has another time."""
    found = {path: stamp(status) for path, _, status in walk(os.fsencode(top))}
    while time.clock_gettime_ns(5) <= max(
        each[4] for each in found.values()
    ):  # CLOCK_REALTIME_COARSE, as the kernel stamps inodes
        time.sleep(0.001)
    return found


def stage(tmp_path: Path, planned: Plan, **more: object) -> Session:
    """Take what lies in ``tmp_path/tree`` for the staged form of a plan."""
    top = tmp_path / "tree"
    top.chmod(0o755)
    given: dict[str, object] = {
        "top": os.fsencode(top), "tree": os.fsencode(top), "plan": planned, "stamps": stamps_of(top), "rows": {}, "placed": {},
        "mounts": (), "points": {}, "private": {}, "scaffold": {}, "checked": {},
    }  # fmt: skip
    return Session(top, Staged(**(given | more)))  # type: ignore[arg-type]


def session(tmp_path: Path, files: Mapping[str, str | None], **more: object) -> Session:
    """Stage a tree of these files, whose sources lie elsewhere."""
    source = plant(tmp_path / "source", files)
    shutil.copytree(source, tmp_path / "tree", symlinks=True)
    return stage(tmp_path, plan(LayerSpec(copy_to_root=(source,), source_date_epoch=EPOCH, scripts=(Script.text(":"),))), **more)
