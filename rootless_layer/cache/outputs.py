"""What was put where: whether an output is still what it was made to be, without reading it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.registry.name import is_registry
from rootless_layer.system.lease import Lease
from rootless_layer.system.replace import make_folder
from rootless_layer.tree.places import OUTPUTS

from .own import MADE_JSON
from .room import keeping
from .whole import Stamps, stamps

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

    def lacks(self, output: str, what: str) -> str:
        """Say why an output is not what is made of ``what``, with the sizes and times that it had then; nothing where it is.

        Of a registry's image the registry says it, by a request for each blob.
        """
        if is_registry(output):
            return "the registry is asked"
        try:
            said = json.loads((self._path(output) / MADE_JSON).read_bytes())
            made_of, files = said["what"], said["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return "not written before"
        try:
            there = _stamps(output)
        except OSError:
            return "the output is gone"
        return "what it is made of changed" if made_of != what else "the output was changed" if files != there else ""

    @contextlib.contextmanager
    def noting(self, output: str, what: str) -> Iterator[None]:
        """Have an output alone while it is made, and note then what it was made of.

        Another process that makes the same one waits. The note is written in one go; what is
        torn all the same says nothing, and the output is made again. Raises :class:`OutputError`.
        """
        if is_registry(output):
            yield
            return
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

    def _path(self, output: str) -> Path:
        return self.place / hashlib.sha256(os.fsencode(os.path.realpath(output))).hexdigest()


def _stamps(output: str) -> Stamps:
    if os.path.isdir(output):
        return stamps(Path(output))
    status = os.stat(output)
    return {"": [status.st_size, status.st_mtime_ns]}
