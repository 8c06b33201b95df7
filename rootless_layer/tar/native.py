"""Plain rows written by the loop in C (:mod:`rootless_layer.system.native`), where there is one."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int64, c_long, c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING

import attrs

from rootless_layer.system.native import library

from . import libarchive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.tree.table import Table

_FUNCTIONS = (
    "entry_clear", "entry_copy_pathname", "entry_set_size", "entry_set_mode", "entry_set_uid", "entry_set_gid",
    "entry_copy_uname", "entry_copy_gname", "entry_set_mtime", "write_header", "write_data",
)  # fmt: skip
"""The functions of libarchive's that it calls, in the order in which it has them."""


class _Shape(ctypes.Structure):
    _fields_ = (
        ("mode", c_uint32), ("uid", c_uint32), ("gid", c_uint32), ("cut", c_uint32), ("epoch", c_int64), ("device", c_uint64),
        ("top", c_char_p), ("uname", c_char_p), ("gname", c_char_p),
    )  # fmt: skip


class _Rows(ctypes.Structure):
    _fields_ = (
        ("kinds", c_void_p), ("sizes", c_void_p), ("inodes", c_void_p), ("times", c_void_p), ("shapes", c_void_p),
        ("count", c_long),
    )  # fmt: skip


class Output(ctypes.Structure):
    """Where rows go: into the room that an archive has, of which so much is used; their data passes through a buffer."""

    _fields_ = (
        ("functions", c_void_p), ("archive", c_void_p), ("record", c_void_p), ("used", c_void_p), ("room", c_size_t),
        ("buffer", c_void_p), ("largest", c_int64),
    )  # fmt: skip


@attrs.define(slots=True)
class Loop:
    """The loop, for tables that share their shapes as parts of one do."""

    _write: ctypes._NamedFuncPointer
    _functions: ctypes.Array[c_void_p]
    _shared: Sequence[object] | None = None
    _shapes: ctypes.Array[_Shape] | None = None

    @classmethod
    def load(cls) -> Loop | None:
        """Give the loop; nothing where there is none."""
        loaded = library()
        if loaded is None:
            return None
        addresses = [ctypes.cast(getattr(libarchive, name), c_void_p).value for name in _FUNCTIONS]
        return cls(loaded.write_rows, (c_void_p * len(addresses))(*addresses))

    def over(self, table: Table) -> Run:
        """Begin to go over the rows of a table."""
        if self._shared is not table.shapes or self._shapes is None:
            names = table.names
            shapes = [
                _Shape(
                    each.mode, each.uid, each.gid, each.cut, each.epoch, each.device, each.top,
                    names.of_user(each.uid), names.of_group(each.gid),
                )
                for each in table.shapes
            ]  # fmt: skip
            self._shared, self._shapes = table.shapes, (_Shape * len(shapes))(*shapes)
        columns = (column.buffer_info()[0] for column in (table.kinds, table.sizes, table.inodes, table.times))
        rows = _Rows(*columns, ctypes.addressof(self._shapes), len(table))
        return Run(self, table, rows, b"\0".join(table.paths) + b"\0")

    def write(self, output: Output, rows: _Rows, row: int, path: int) -> int:
        """Write rows from one on, as ``loops.c`` says it."""
        output.functions = ctypes.addressof(self._functions)
        done: int = self._write(ctypes.byref(output), ctypes.byref(rows), row, path)
        return done


@attrs.define(slots=True)
class Run:
    """The loop on its way over a table, which stays as it is."""

    _loop: Loop
    _table: Table
    _rows: _Rows
    _paths: bytes
    _row: int = 0
    _place: int = 0
    """Where the path of the row stands in the paths."""

    def write(self, output: Output, row: int) -> int:
        """Write the plain rows from one on; give the first row that was not written, or less than 0 for an error at ``~row``."""
        self._go_to(row)
        address = ctypes.cast(c_char_p(self._paths), c_void_p).value or 0
        done = self._loop.write(output, self._rows, row, address + self._place)
        self._go_to(max(done, row))
        return done

    def _go_to(self, row: int) -> None:
        passed = self._table.paths[self._row : row]
        self._row, self._place = row, self._place + sum(map(len, passed)) + len(passed)
