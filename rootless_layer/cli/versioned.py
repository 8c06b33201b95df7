"""What is printed with --json has the version of its form, by which a program knows that it can read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


def versioned(said: Mapping[str, object]) -> dict[str, object]:
    """Give an object with the version of its form."""
    return {"version": VERSION, **said}
