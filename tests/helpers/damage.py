"""Damage to files: a byte more, another byte, fewer bytes, none."""

from __future__ import annotations

from pathlib import Path


def flip(path: Path) -> None:
    """Change a byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:-9])


def grow(path: Path) -> None:
    """Damage a file: one more byte."""
    with path.open("ab") as file:
        file.write(b"\0")


def empty(path: Path) -> None:
    """Damage a file: nothing is left in it."""
    path.write_bytes(b"")
