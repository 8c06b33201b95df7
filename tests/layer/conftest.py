"""A closure that the tests of layers share."""

from __future__ import annotations

import pytest
from helpers.inputs import LIBRARY, PROGRAM, write
from helpers.stores import Store
from helpers.users import User


@pytest.fixture
def small(user: User) -> Store:
    """A closure of two store paths, one of which refers to the other and to itself."""
    root = user.home / "store"
    write(root / LIBRARY[1:], {"lib/library.so": "library", "lib/empty": "", "share/text": "text"})
    write(root / PROGRAM[1:], {
        "bin/program": "program", "bin/alias": "-> program", "bin/library": f"-> {LIBRARY}/lib/library.so",
        "share/doc/program": "documents", "share/empty": "", "var/empty": None,
    })  # fmt: skip
    (root / PROGRAM[1:] / "bin/program").chmod(0o555)
    (root / "graph").write_text(f"{LIBRARY}\n\n0\n{PROGRAM}\n\n2\n{LIBRARY}\n{PROGRAM}\n")
    return Store(root, root / "graph", {path[44:]: path for path in (LIBRARY, PROGRAM)})
