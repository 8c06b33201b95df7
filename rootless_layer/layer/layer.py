"""A layer written into a directory: its blob, its listing, and ``layer.json``, which says what it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor
from rootless_layer.progress import Progress
from rootless_layer.system.files import WritebackFile
from rootless_layer.system.fork import Child, may_fork, uninterrupted
from rootless_layer.system.replace import make_folder
from rootless_layer.tar.compression import BlobWriter
from rootless_layer.tar.parallel import serialise
from rootless_layer.tree.mtree import lines

from .blob import open_layer
from .made import BLOBS, LAYER_JSON, LISTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.plan.spec import Blob, LayerSpec
    from rootless_layer.tree.tree import Tree

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
    made_from: Mapping[str, Any] = attrs.field(repr=False)
    """What the layer was made from, as ``layer.json`` has it."""
    _tree: Tree | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def at(cls, directory: Path) -> Layer:
        """Read ``layer.json``; raises :class:`InputError` where a directory has none of this form."""
        path = directory / LAYER_JSON
        try:
            said = json.loads(path.read_bytes())
            descriptor = Descriptor(said["mediaType"], said["digest"], said["size"])
            size, entries = said["uncompressedSize"], said["entries"]
            return cls(descriptor, said["diffId"], size, entries, directory, said["blob"], said["madeFrom"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            message = f"{path}: does not describe a layer: {reason(error)}"
            raise InputError(message, hint="Build the layer again.") from error

    @property
    def tree(self) -> Tree:
        """Give the layer's paths; they are read from the listing where this process did not build the layer.

        Raises :class:`InputError` and :class:`SourceError` for a listing that is damaged, or not there any more.
        """
        return self.opened().read_tree() if self._tree is None else self._tree

    def opened(self) -> LayerBlob:
        """Give the layer as an image takes it; raises as :func:`rootless_layer.open_layer`."""
        return open_layer(self.directory)

    def to_json(self) -> dict[str, Any]:
        """Give what ``layer.json`` says."""
        return self.descriptor.to_json() | {
            "diffId": self.diff_id,
            "uncompressedSize": self.uncompressed_size,
            "entries": self.entries,
            "blob": self.blob,
            "listing": LISTING,
            "madeFrom": dict(self.made_from),
        }


def write_layer(  # noqa: PLR0913 - what it is, where it goes, and how
    spec: LayerSpec,
    tree: Tree,
    folder: Path,
    blob: Blob,
    tell: Callable[[Progress], object],
    *,
    processes: int | None = None,
) -> Layer:
    """Write a layer of which all that it is for is known into a directory: blob, listing and ``layer.json``.

    ``processes`` is as of :func:`serialise`; with 0 the listing has none of its own either.
    """
    entries = tree.archived()
    total = sum([entry.size for entry in entries if entry.link is None])
    with contextlib.ExitStack() as stack:
        file = None
        if blob == "stored":
            make_folder(folder / BLOBS)
            file = stack.enter_context(WritebackFile(folder / BLOBS / "blob"))
        writer = stack.enter_context(BlobWriter(spec.compression, file, parts_last=True))

        def consume(part: memoryview) -> None:
            writer.write(part)
            tell(Progress("write", writer.uncompressed_size, total, entries=len(entries)))

        listed = stack.enter_context(_listing(tree, folder, relative=blob == "derived", fork=processes != 0))
        serialise(entries, consume, processes=processes)
        writer.finish()
        listed()
        if file is not None:
            file.settle()
    if blob == "stored":
        (folder / BLOBS / "blob").rename(folder / BLOBS / writer.digest.removeprefix("sha256:"))
    descriptor = Descriptor(MEDIA_TYPES[spec.compression.kind], writer.digest, writer.size)
    layer = Layer(descriptor, writer.diff_id, writer.uncompressed_size, len(tree), folder, blob, made_from(spec), tree)
    (folder / LAYER_JSON).write_text(json.dumps(layer.to_json(), indent=2, sort_keys=True) + "\n")
    return layer


@contextlib.contextmanager
def _listing(tree: Tree, folder: Path, *, relative: bool, fork: bool) -> Iterator[Callable[[], None]]:
    """Write the listing, in a process of its own where there may be one; give what waits for it."""

    def write() -> None:
        with open(folder / LISTING, "wb") as file:
            file.writelines(lines(tree, files=os.fsencode(folder) + b"/" if relative else None))

    if not fork or len(tree) < _FEW or not may_fork():
        yield write
        return
    child: Child | None = None
    try:
        with uninterrupted():
            child = Child(write)
        yield child.join
    finally:
        if child is not None:
            child.stop()


def made_from(spec: LayerSpec) -> dict[str, Any]:
    """Tell what a layer was made from, the same on every machine."""
    made: dict[str, Any] = {"epoch": spec.source_date_epoch, "level": spec.compression.level}
    if spec.base is not None:
        made["base"] = spec.base.chain_id
    if spec.closure is not None:
        made["closure"] = [path.path for path in spec.closure.paths]
    if spec.copy_to_root:
        made["contents"] = list(spec.copy_to_root)
    if spec.rootfs:
        made["rootfs"] = spec.rootfs
    if spec.scripts:
        made["view"] = spec.view
        made["scripts"] = [
            {
                "name": script.name,
                "digest": f"sha256:{hashlib.sha256(script.data or b'').hexdigest()}" if script.data is not None else None,
                "arguments": list(script.arguments),
            }
            for script in spec.scripts
        ]
    return made
