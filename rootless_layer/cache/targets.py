"""What was made of each target of a file: the key with which it was built last, and the log of its scripts."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING

import attrs

from rootless_layer.system.replace import make_folder
from rootless_layer.tree.places import TARGETS

from .own import MADE_JSON
from .room import keeping

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

MOST_LOGGED = 1 << 20
"""How many bytes of a log's beginning are kept at the most, and how many of its end."""
_LONGEST_NAME = 200


@attrs.frozen(slots=True)
class Targets:
    """The records below a directory of the cache, one for each target of each file."""

    place: Path

    @classmethod
    def within(cls, cache: Path) -> Targets:
        """Give the part of the cache that holds them."""
        return cls(cache / TARGETS)

    def of(self, file: str, name: str) -> Target:
        """Give the record of a target, which need not be there."""
        file = os.path.realpath(file)
        return Target(self.place / hashlib.sha256(os.fsencode(f"{file}\0{name}")).hexdigest(), file, name)


@attrs.frozen(slots=True)
class Target:
    """The record of one target: the directory, the file and the name there."""

    folder: Path
    file: str
    name: str

    @property
    def key(self) -> str:
        """Give the key with which the target was last made; nothing where it never was."""
        try:
            return str(json.loads((self.folder / MADE_JSON).read_bytes())["key"] or "")
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def note(self, key: str) -> None:
        """Note with which key it is made now, ``""`` for none yet. Raises :class:`OutputError`."""
        if key and self.key == key:
            return
        said = {"path": self.file, "name": self.name, "key": key}
        with keeping(self.folder):
            make_folder(self.folder)
            aside = self.folder / f"{MADE_JSON}.{os.getpid()}"
            aside.write_text(json.dumps(said))
            aside.rename(self.folder / MADE_JSON)

    @property
    def log(self) -> Path:
        """Give the path of the log."""
        return self.folder / f"{self.name[:_LONGEST_NAME]}.log"


class Log:
    """The log of a target that is built: what its scripts say, a line each, with the seconds since the beginning.

    It begins anew each time. Of very much only the beginning and the end are kept.
    """

    def __init__(self, target: Target) -> None:
        """Begin; the file is made with the first line."""
        self.path = target.log
        self._target = target
        self._began = time.monotonic()
        self._file: IO[bytes] | None = None
        self._written = 0
        self._end: list[bytes] = []
        self._end_size = self._left_out = 0

    @property
    def seconds(self) -> float:
        """Say for how long the target has been worked on."""
        return time.monotonic() - self._began

    @property
    def said(self) -> str:
        """Give the path where there is anything to read there, else nothing."""
        return str(self.path) if self._file is not None else ""

    def write(self, line: bytes) -> None:
        """Add a line, without its end. Raises :class:`OutputError`."""
        row = b"%10.3f  %s\n" % (self.seconds, line)
        with keeping(self._target.folder):
            if self._file is None:
                self._file = self._opened()
            if self._written + len(row) <= MOST_LOGGED:
                self._written += len(row)
                self._file.write(row)
                self._file.flush()
                return
        self._written = MOST_LOGGED
        self._end.append(row[-MOST_LOGGED:])
        self._end_size += len(self._end[-1])
        while self._end_size > MOST_LOGGED:
            gone = len(self._end.pop(0))
            self._end_size -= gone
            self._left_out += gone

    def close(self) -> None:
        """Write the end. Raises :class:`OutputError`."""
        if self._file is None:
            return
        with keeping(self._target.folder):
            if self._left_out:
                self._file.write(b"%10s  [%d bytes are left out here]\n" % (b"", self._left_out))
            self._file.writelines(self._end)
            self._file.close()

    def _opened(self) -> IO[bytes]:
        """Make the file anew: whoever reads the earlier one goes on reading that."""
        if not self._target.key:
            self._target.note("")  # by which the directory is known to be a record
        self.path.unlink(missing_ok=True)
        return self.path.open("xb")
