"""A layer written into a directory: its blob, its listing, and ``layer.json``, which says what it is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import struct
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor
from rootless_layer.progress import Progress
from rootless_layer.store.closure import StorePath
from rootless_layer.store.order import needed_first
from rootless_layer.system.files import WritebackFile
from rootless_layer.system.fork import Child, may_fork, uninterrupted
from rootless_layer.system.replace import make_folder
from rootless_layer.tar.compression import BlobWriter
from rootless_layer.tar.parallel import serialise
from rootless_layer.tree import mtree
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.compact import CompactTree
from rootless_layer.tree.owner_names import OwnerNames

from .blob import open_layer
from .description import LAYER_JSON, LISTING, Description
from .made import BLOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.plan.spec import Blob, LayerSpec
    from rootless_layer.tree.tree import Tree

    from .segments import Outset, Runs

_RUN = struct.Struct("=QQ")
_BUFFER_BYTES = 1 << 20
_FEW = 1000  # entries are listed in less time than a fork takes


@attrs.frozen(slots=True)
class Layer:
    """A complete layer: what it is, what is in it, and where it lies."""

    descriptor: Descriptor
    """The blob's media type, digest and size in bytes."""
    diff_id: str
    """The digest of the uncompressed tar."""
    uncompressed_size: int
    """The size of the uncompressed tar, in bytes."""
    entries: int
    """How many paths the layer has, its root among them."""
    directory: Path
    """Where ``layer.json``, the listing and, of a *stored* layer, the blob lie."""
    blob: Blob
    """Whether the blob is *stored*, or *derived*: made again from the files that the listing names."""
    made_from: Mapping[str, object] = attrs.field(repr=False)
    """What the layer was made from, as ``layer.json`` has it."""
    _tree: Tree | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def at(cls, directory: Path) -> Layer:
        """Read ``layer.json`` of a ``directory``; raises :class:`InputError` where there is none of this form."""
        path = directory / LAYER_JSON
        try:
            said = Description.parse(path.read_bytes(), str(path))
        except OSError as error:
            message = f"{path}: cannot be read: {reason(error)}"
            raise InputError(message, hint="Build the layer again.") from error
        return cls(said.descriptor, said.diff_id, said.uncompressed_size, said.entries, directory, said.blob, said.made_from)

    @property
    def tree(self) -> Tree:
        """Give the layer's paths; they are read from the listing where this process did not build the layer.

        Raises :class:`InputError` and :class:`SourceError` for a listing that is damaged, or not there any more.
        """
        return self.opened().read_tree() if self._tree is None else self._tree

    def opened(self) -> LayerBlob:
        """Give the layer as an image takes it; raises as :func:`rootless_layer.open_layer`."""
        return open_layer(self.directory)

    def to_json(self) -> dict[str, object]:
        """Give what ``layer.json`` says."""
        return Description(
            descriptor=self.descriptor, diff_id=self.diff_id, uncompressed_size=self.uncompressed_size, entries=self.entries,
            blob=self.blob, made_from=self.made_from,
        ).to_json()  # fmt: skip


def in_order(tree: Tree, spec: LayerSpec) -> Tree:
    """Give a tree that has its store paths in the order in which a layer of this spec has them, with its names of owners."""
    paths = () if spec.closure is None else needed_first(spec.closure)
    names = OwnerNames.of(spec.uid, spec.uname, spec.gid, spec.gname)
    return attrs.evolve(tree, stored=tuple(os.fsencode(path.path).lstrip(b"/") for path in paths), names=names)


def write_layer(  # noqa: PLR0913 - what it is, where it goes, and how
    spec: LayerSpec,
    tree: Tree,
    folder: Path,
    blob: Blob,
    tell: Callable[[Progress], object],
    *,
    processes: int | None = None,
    outset: Outset | None = None,
) -> Layer:
    """Write a layer of which all that it is for is known into a directory: blob, listing and ``layer.json``.

    ``processes`` is as of :func:`serialise`; with 0 the listing has none of its own either. What is known of the layer at
    the ``outset`` is not computed again, and what is learnt lies beside it then. Raises :class:`.UnsealedError` where that does
    not hold any more.
    """
    tree = in_order(tree, spec)
    archive = Archive.of(tree)
    sealed = tree.sealed if isinstance(tree, CompactTree) else {}
    below = sum(each.size for each in sealed.values() if each.entries > 1)  # a path that is one file is its top, and in the table
    total = sum(archive.table.sizes) + below
    with contextlib.ExitStack() as stack:
        beginning = None if outset is None else stack.enter_context(outset.begun(spec, tree, archive, stored=blob == "stored"))
        file = None
        if blob == "stored":
            make_folder(folder / BLOBS)
            file = stack.enter_context(WritebackFile(folder / BLOBS / "blob"))
        listed = stack.enter_context(_listing(tree, folder, relative=blob == "derived", fork=processes != 0))
        if beginning is not None and file is not None:
            beginning.copy(file)
        known = None if beginning is None else beginning.known
        writer = stack.enter_context(BlobWriter(spec.compression, file, known))

        if known is not None and known.start is not None:
            size = known.start.plain.size
            tell(Progress("write", size, total, entries=len(tree), known=size))

        def consume(part: memoryview) -> None:
            writer.write(part)
            tell(Progress("write", writer.uncompressed_size, total, entries=len(tree)))

        unknown = archive if beginning is None else archive.behind(beginning.count)
        serialise(unknown, consume, writer.cut, processes=processes)
        writer.finish()
        runs = listed()
        if beginning is not None and outset is not None:
            outset.segments.keep(spec, beginning, folder, runs)
        if file is not None:
            file.sync()
    if blob == "stored":
        (folder / BLOBS / "blob").rename(folder / BLOBS / writer.digest.removeprefix("sha256:"))
    descriptor = Descriptor(MEDIA_TYPES[spec.compression.kind], writer.digest, writer.size)
    said = Description(
        descriptor=descriptor, diff_id=writer.diff_id, uncompressed_size=writer.uncompressed_size, entries=len(tree),
        blob=blob, made_from=made_from(spec),
    )  # fmt: skip
    said.write(folder)
    there = None if sealed else tree  # else whoever asks for it reads the listing
    return Layer(descriptor, said.diff_id, said.uncompressed_size, said.entries, folder, blob, said.made_from, there)


@contextlib.contextmanager
def _listing(tree: Tree, folder: Path, *, relative: bool, fork: bool) -> Iterator[Callable[[], Runs]]:
    """Write the listing, in a process of its own where there may be one; give what waits for it, and gives its runs."""
    runs = mmap.mmap(-1, _RUN.size * max(len(tree.stored), 1))  # shared with that process

    def write() -> None:
        with io.BufferedWriter(WritebackFile(folder / LISTING), _BUFFER_BYTES) as file:  # readable whatever the umask is
            found = mtree.write(tree, file, files=os.fsencode(folder) + b"/" if relative else None)
        for number, path in enumerate(tree.stored):
            _RUN.pack_into(runs, _RUN.size * number, *found.get(path, (0, 0)))

    def written() -> Runs:
        return {path: _RUN.unpack_from(runs, _RUN.size * number) for number, path in enumerate(tree.stored)}

    def join() -> Runs:
        (write if child is None else child.join)()
        return written()

    child: Child | None = None
    try:
        if fork and len(tree.entries) >= _FEW and may_fork():
            with uninterrupted():
                child = Child(write)
        yield join
    finally:
        if child is not None:
            child.stop()


def _by_name(path: str) -> str:
    """Leave out a store path's digest: Nix would find in it a reference to a tree of which the layer may have only links."""
    stored = StorePath.containing(path) if path.startswith("/") else None
    return path if stored is None else path.replace(f"{stored.store_dir}/{stored.digest}-", "")


def made_from(spec: LayerSpec) -> dict[str, object]:
    """Tell what a layer was made from, the same on every machine."""
    made: dict[str, object] = {"epoch": spec.source_date_epoch, "level": spec.compression.level}
    made |= {name: value for name, value in (("createdBy", spec.created_by), ("comment", spec.comment)) if value}
    if spec.base is not None:
        made["base"] = spec.base.chain_id
    if spec.closure is not None:
        made["closure"] = [path.path for path in spec.closure.paths]
    if spec.copy_to_root:
        made["contents"] = [_by_name(path) for path in spec.copy_to_root]
    if spec.copies:
        made["copies"] = [{"sources": list(copy.sources), "destination": copy.destination} for copy in spec.copies]
    if spec.rootfs:
        made["rootfs"] = spec.rootfs
    if spec.scripts:
        made["view"] = spec.view
        if spec.network != "none":  # of the bytes that came from there no digest is in the key
            made["network"] = spec.network
        made |= {name: value for name in ("user", "workdir") if (value := getattr(spec, name))}
        made["scripts"] = [
            {
                "name": script.name,
                "digest": f"sha256:{hashlib.sha256(script.data or b'').hexdigest()}" if script.data is not None else None,
                "arguments": list(script.arguments),
            }
            for script in spec.scripts
        ]
    return made
