"""What was put where: whether an output is still what it was made to be, without reading it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.system.lease import Lease
from rootless_layer.system.replace import make_folder
from rootless_layer.tree.places import OUTPUTS

from .layers import Stamps, stamps
from .own import MADE_JSON, is_entry, is_work, listed
from .room import keeping

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen(slots=True)
class Outputs:
    """The records below a directory of the cache, one for each output."""

    place: Path

    @classmethod
    def within(cls, cache: Path) -> Outputs:
        """Give the part of the cache that holds records."""
        return cls(cache / OUTPUTS)

    def holds(self, output: str, what: str) -> bool:
        """Say whether an output was made of ``what``, and has the sizes and times that it had then."""
        try:
            said = json.loads((self._path(output) / MADE_JSON).read_bytes())
            return bool(said["what"] == what and said["files"] == _stamps(output))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @contextlib.contextmanager
    def noting(self, output: str, what: str) -> Iterator[None]:
        """Have an output alone while it is made, and note then what it was made of.

        Another process that makes the same one waits. The note is written in one go; what is
        torn all the same says nothing, and the output is made again. Raises :class:`OutputError`.
        """
        folder = self._path(output)
        alone = None
        with keeping(self.place):
            make_folder(folder)
            alone = Lease.exclusive(folder, wait=True)
        try:
            yield
            with keeping(self.place):
                said = {"path": os.path.realpath(output), "what": what, "files": _stamps(output)}
                make_folder(folder)
                (folder / MADE_JSON).write_text(json.dumps(said))
        finally:
            if alone is not None:
                alone.release()

    def stale(self) -> Iterator[Path]:
        """Give the directories of the records whose outputs are not there any more, and of those that were half removed."""
        for path in listed(self.place):
            if not is_entry(path):
                if is_work(path):
                    yield path
                continue
            try:
                there = os.path.lexists(json.loads((path / MADE_JSON).read_bytes())["path"])
            except (OSError, ValueError, KeyError, TypeError):
                there = False
            if not there:
                yield path

    def _path(self, output: str) -> Path:
        return self.place / hashlib.sha256(os.fsencode(os.path.realpath(output))).hexdigest()


def _stamps(output: str) -> Stamps:
    if os.path.isdir(output):
        return stamps(Path(output))
    status = os.stat(output)
    return {"": [status.st_size, status.st_mtime_ns]}
