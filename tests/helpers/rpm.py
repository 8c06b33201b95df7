"""Headers and databases as rpm writes them."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping
from pathlib import Path

Value = str | int | list[str] | list[int]


def header(said: Mapping[int, Value]) -> bytes:
    """Write an rpm header as rpm's database has it (rpm's ``lib/header.c``)."""
    rows, store = b"", b""
    for tag, value in sorted(said.items()):
        values = value if isinstance(value, list) else [value]
        numbers = [each for each in values if isinstance(each, int)]
        if numbers:
            store += bytes(-len(store) % 4)
        kind = 4 if numbers else 8 if isinstance(value, list) else 6
        rows += struct.pack(">IIII", tag, kind, len(store), len(values))
        store += struct.pack(f">{len(numbers)}I", *numbers) + b"".join(
            f"{each}\0".encode() for each in values if isinstance(each, str)
        )
    return struct.pack(">II", len(said), len(store)) + rows + store


def rpm_database(path: Path, *headers: bytes) -> bytes:
    """Write a database of rpm's, which keeps a write-ahead log."""
    path.unlink(missing_ok=True)
    made = sqlite3.connect(path)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
    made.executemany("INSERT INTO Packages (blob) VALUES (?)", [(each,) for each in headers])
    made.commit()
    made.close()
    return path.read_bytes()
