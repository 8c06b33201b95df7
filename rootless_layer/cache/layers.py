"""Layers kept by their keys, so that a layer of which nothing changed is only looked up.

An entry is a layer's directory, as :func:`rootless_layer.build_layer` writes it, under its
key, with two files beside: in ``cache.json`` the sizes and times that its files had, in
``key.json`` the parts of the key. A file that was
damaged since, or written to through a hard link, does not have them any more. An entry
appears by being renamed. When it was last used is the directory's own time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import OutputError, SourceError
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.build import build_layer
from rootless_layer.layer.description import LAYER_JSON, Description
from rootless_layer.layer.made import LAYER
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.files import WritebackFile, transfer
from rootless_layer.system.lease import Lease
from rootless_layer.system.removal import remove
from rootless_layer.system.replace import ASIDE, aside, check_replaceable, make_folder, umask, writing
from rootless_layer.system.temporary import Temporary
from rootless_layer.tree.places import LAYERS

from .key import key_of
from .own import CACHE_JSON
from .parts import KEY_JSON
from .room import alone_in, keeping, making_room, move_away, put_aside, using, within_cache
from .segments import SEGMENTS, CachedSegments
from .whole import is_whole, stamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.plan.spec import Blob, LayerSpec, Stage
    from rootless_layer.session.attached import Terminal

    from .parts import Key

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})


@attrs.frozen(slots=True)
class CachedLayer:
    """A layer in the cache, which stays there for as long as its lease is not released."""

    folder: Path
    lease: Lease

    def deliver(self, output: str | os.PathLike[str], made_from: dict[str, object], *, progress: Report = silent) -> None:
        """Put the layer in the directory ``output``, whole or not at all, as a build would have.

        Its files are linked or reflinked where that is possible. ``made_from`` is what
        ``layer.json`` says of its sources, whose names are no part of the key; ``progress`` is told
        before it takes its place. Raises :class:`OutputError`.
        """
        target = Path(os.path.realpath(output))
        check_replaceable(Path(output).absolute(), LAYER)
        with Temporary() as temporary, aside(target, temporary, LAYER) as folder, writing(target):
            for name in self._files():
                if name == LAYER_JSON:
                    said = Description.parse((self.folder / name).read_bytes(), str(self.folder / name))
                    attrs.evolve(said, made_from=made_from).write(folder)
                else:
                    make_folder((folder / name).parent)
                    _link(self.folder / name, folder / name)
            progress(Progress("publish"))

    def open(self) -> LayerBlob:
        """Give the layer: its sizes and times answer for its bytes. What its first builder called it is no other's business."""
        return attrs.evolve(open_layer(str(self.folder)), trusted=True, created_by="", comment="")

    def _files(self) -> list[str]:
        return sorted({*json.loads((self.folder / CACHE_JSON).read_bytes())["files"]} - {KEY_JSON, SEGMENTS})


def _link(source: Path, target: Path) -> None:
    """Make a hard link where that gives what a new file would be, else a copy, which may share the data."""
    mode = 0o666 & ~umask() | 0o600
    if source.stat().st_mode & 0o777 == mode:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return
    with open(source, "rb", buffering=0) as data, open(target, "xb", buffering=0) as copy:
        os.fchmod(copy.fileno(), mode)
        transfer(data.fileno(), copy.fileno())
        os.fsync(copy.fileno())


@attrs.frozen(slots=True)
class LayerCache:
    """The layers below a directory, by their keys."""

    place: Path

    @classmethod
    def within(cls, cache: Path) -> LayerCache:
        """Give the part of the cache that holds layers."""
        return cls(cache / LAYERS)

    def find(self, key: str) -> CachedLayer | None:
        """Look a layer up. One that is damaged is dropped, and not found. Raises :class:`OutputError`."""
        with using(self.place):
            return self._find(self.place / key)

    def _find(self, folder: Path) -> CachedLayer | None:
        while (lease := Lease.shared(folder)) is not None:
            try:
                whole = is_whole(folder)
            except OSError:
                lease.release()
                raise
            if whole:
                with contextlib.suppress(OSError):  # a cache that may only be read
                    os.utime(folder)
                return CachedLayer(folder, lease)
            self.drop(folder, lease)
        return None

    def build(  # noqa: PLR0913 - what build_layer takes, and a key
        self,
        key: str,
        spec: LayerSpec,
        *,
        blob: Blob = "stored",
        stage: Stage = "auto",
        progress: Callable[[Progress], object] | None = None,
        on_output: Callable[[bytes], object] | None = None,
        on_failure: Terminal | None = None,
        anew: Callable[[LayerBlob, LayerBlob], object] | None = None,
    ) -> CachedLayer:
        """Build a layer and keep it; ``key`` is its :func:`rootless_layer.cache.key.layer_key`.

        With ``anew`` it takes the place of one that is there: it is called with that one, and with the one in its place.
        Raises what :func:`rootless_layer.build_layer` does, and :class:`SourceError` where an input
        changed meanwhile: what was built is then not kept.
        """
        with making_room(self.place.parent), Temporary() as temporary:
            with keeping(self.place):
                make_folder(self.place)
                made = Path(temporary.make(str(self.place), ASIDE)) / "layer"
            with within_cache(self.place):
                build_layer(
                    spec, made, stage=stage, blob=blob, cache=self.place.parent,
                    progress=progress, on_output=on_output, on_failure=on_failure,
                    segments=CachedSegments(self.place, anew is not None),
                )  # fmt: skip
            known = key_of(spec, blob=blob)
            if known.digest != key:
                message = "an input changed while the layer was built from it"
                raise SourceError(message, hint="Build again when nothing else writes to it.")
            if anew is not None and (earlier := self.find(key)) is not None:
                try:
                    anew(earlier.open(), open_layer(made))
                finally:
                    earlier.lease.release()
            return self.keep(made, known, anew=anew is not None)

    def keep(self, made: Path, key: Key, *, anew: bool = False) -> CachedLayer:
        """Take over a layer's directory beside; what another build has put in its place meanwhile is as good.

        With ``anew`` it is not: it goes. Raises :class:`OutputError` where it is in use.
        """
        folder = self.place / key.digest
        with keeping(self.place):
            _record(made, key)
            if anew:
                self._make_way(folder)
            while (lease := Lease.shared(made)) is not None:  # which it keeps when it is renamed: nobody may remove it first
                with self._alone():
                    if not os.path.lexists(folder):
                        made.rename(folder)
                        return CachedLayer(folder, lease)
                if (entry := self.find(key.digest)) is not None:
                    return entry
        message = f"{made}: was removed as soon as it was there"
        raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")

    def _make_way(self, folder: Path) -> None:
        """Remove an entry that nobody uses."""
        with self._alone():
            gone = put_aside(folder)
        if gone is not None:
            remove(str(gone))
        elif os.path.lexists(folder):
            message = f"{folder}: is in use, so that the layer that was built anew cannot take its place"
            raise OutputError(message, hint="Build it anew when nobody else uses it.")

    def drop(self, folder: Path, lease: Lease) -> None:
        """Remove a damaged entry; nobody else does any more with it than find that out."""
        gone = folder.with_name(f"{ASIDE}{os.urandom(8).hex()}")
        with self._alone():
            if lease.is_at(folder):
                move_away(folder, gone)
        lease.release()
        remove(str(gone))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from renaming entries."""
        lease = alone_in(self.place)
        try:
            yield
        finally:
            if lease is not None:
                lease.release()


def _record(made: Path, key: Key) -> None:
    key.write(made)
    record = json.dumps({"key": key.digest, "files": stamps(made)}, indent=1, sort_keys=True)
    with WritebackFile(made / CACHE_JSON) as file:
        file.write(record.encode())
        file.sync()
