"""``build_layer(spec) -> Layer``: the one path from what is asked for to a layer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from . import given
from .base import Delta
from .changeset import changeset, difference
from .child import Child, may_fork, uninterrupted
from .compression import BlobWriter
from .copying import Flowing
from .errors import OutputError, OverlayError, SourceError, UnavailableError
from .hiding import hidden_by_plan, unusual
from .listing import lines
from .locate import StoreLocation
from .made import BLOBS, FILES, LAYER, LAYER_JSON, LISTING
from .oci import MEDIA_TYPES, Descriptor
from .output import aside, check_replaceable, make_folder, writing
from .pipeline import serialise
from .plan import check_rootfs, plan, read_directory
from .progress import Progress
from .scan import check_sources, scan, scan_above
from .session import Session
from .sparse import check_holes
from .spec import Blob, LayerSpec, Stage
from .temporary import Temporary
from .tools import ToolStager
from .tree import overlay_note, without_overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .base import Base
    from .plan import Plan
    from .stage import Method
    from .tree import Entry, Tree

_FEW = 1000  # entries are listed in less time than a fork takes


@attrs.frozen(slots=True)
class Layer:
    """A complete layer: what it is, what is in it, and where it lies.

    ``diff_id`` is the digest of the uncompressed tar stream, ``uncompressed_size`` its
    size in bytes. ``directory`` holds ``layer.json``, the listing and, where the blob is
    *stored*, the blob; a *derived* layer's bytes come again from the files that the
    listing names.
    """

    descriptor: Descriptor
    diff_id: str
    uncompressed_size: int
    tree: Tree
    directory: Path
    blob: Blob
    made_from: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Give what ``layer.json`` says."""
        return self.descriptor.to_json() | {
            "diffId": self.diff_id,
            "uncompressedSize": self.uncompressed_size,
            "entries": len(self.tree),
            "blob": self.blob,
            "listing": LISTING,
            "madeFrom": self.made_from,
        }


def build_layer(
    spec: LayerSpec,
    output: str | os.PathLike[str],
    *,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], None] | None = None,
) -> Layer:
    """Build a layer and put it in the directory ``output``, whole or not at all.

    ``stage`` says how the store paths get in front of the scripts and ``blob`` whether
    the blob is written; neither changes the layer's digest. ``progress`` is called on
    the calling thread. Raises :class:`RootlessLayerError`; its kinds are drawn in
    :mod:`rootless_layer.errors`.
    """
    given.instance("spec", spec, LayerSpec, "a LayerSpec")
    given.one_of("stage", stage, Stage)
    given.one_of("blob", blob, Blob)
    output = given.path("output", output)
    tell = progress or (lambda _progress: None)
    spec = spec.apart_from(output)
    target = Path(os.path.realpath(output))  # a link to a layer stays, and what it points to is replaced
    check_replaceable(Path(output).absolute(), LAYER)
    with Temporary() as temporary, aside(target, temporary, LAYER) as folder, contextlib.ExitStack() as stack:
        tree, work = _tree(spec, stage, temporary, tell, stack)
        tree = tree.replacing(_cleaned(tree, tell))
        if spec.rootfs and spec.base is None:
            for note in unusual(tree.entries.get, spec.rootfs):
                tell(Progress("scan", note=f"warning: {note}"))
        if not spec.allow_sparse:
            check_holes(tree)
        with writing(target):
            if blob == "derived":
                trees = () if spec.base is None else spec.base.trees
                tree = _keep_own_files(tree, (*filter(None, [os.fsencode(work)]), *trees), folder)
            layer = attrs.evolve(write_layer(spec, tree, folder, blob, tell), directory=target)
        tell(Progress("publish", layer.uncompressed_size, layer.uncompressed_size))
    tell(Progress("done", layer.uncompressed_size, layer.uncompressed_size))
    return layer


def _tree(
    spec: LayerSpec, stage: Stage, temporary: Temporary, tell: Callable[[Progress], None], stack: contextlib.ExitStack
) -> tuple[Tree, str]:
    """Plan the tree, run the scripts over it where there are some, and give the layer's with the directory that it lies in."""
    tell(Progress("plan"))
    for note in spec.left_out.notes(spec.inputs()):
        tell(Progress("plan", note=note))
    if spec.scripts and spec.base is not None and spec.base.trees and stage != "copy":
        try:
            return _attempt(spec, stage, temporary, tell, stack, overlay=True)
        except OverlayError as error:
            tell(Progress("stage", note=f"the base cannot be shown by an overlay, so it is copied: {error}"))
    return _attempt(spec, stage, temporary, tell, stack, overlay=False)


def _work_directory(spec: LayerSpec, temporary: Temporary, *, overlay: bool) -> str:
    """Make a directory for what lasts as long as the build, where one is needed."""
    if not spec.scripts and (spec.rootfs is None or os.path.isdir(spec.rootfs)):
        return ""
    folder, prefix = os.environ.get("TMPDIR") or "/tmp", "rootless-layer-"  # noqa: S108 - tempfile would leave a file at a signal
    if overlay and spec.base is not None and not _beside(spec.base, folder):
        folder, prefix = os.fsdecode(os.path.dirname(os.path.dirname(spec.base.trees[0]))), ".rootless-layer-"
    try:
        return temporary.make(folder, prefix)
    except OSError as error:
        message = f"{folder}: no directory for the build can be made there: {error.strerror}"
        raise OutputError(message, hint="Set TMPDIR to a directory with room that you may write to.") from error


def _beside(base: Base, folder: str) -> bool:
    """Say whether a directory is on the file system of a base's snapshots: overlayfs keeps inode numbers within one only."""
    for tree in base.trees:
        if not os.path.isdir(tree):
            message = f"{os.fsdecode(tree)}: the base that was unpacked there is gone"
            raise SourceError(message, hint="Open the base again: what is not in the cache is unpacked again.")
    return not os.path.isdir(folder) or os.stat(base.trees[0]).st_dev == os.stat(folder).st_dev


def _attempt(  # noqa: PLR0913 - one place, split for its length only
    spec: LayerSpec, stage: Stage, temporary: Temporary, tell: Callable[[Progress], None], outer: contextlib.ExitStack,
    *, overlay: bool,
) -> tuple[Tree, str]:  # fmt: skip
    """Stage a base in one way, by an overlay or by copying it, and all else as it is always done."""
    base = spec.base
    with contextlib.ExitStack() as stack:
        work = _work_directory(spec, temporary, overlay=overlay)
        session = stack.enter_context(Session.open(work)) if spec.scripts else None
        rootfs = {entry.path: entry for entry in _rootfs(spec, work)}
        planned = plan(spec, (rootfs | _cleaned(rootfs.values(), tell)).values(), tell)
        for note in hidden_by_plan(base, planned.tree) if base is not None else ():
            tell(Progress("plan", note=f"warning: {note}"))
        if session is None:
            tree = planned.tree if base is None else changeset(base, Delta(planned.tree.entries), spec.epoch)
            return tree, work
        session.ready()
        overlay = overlay and session.isolation == "namespaces"
        if base is not None:
            shown = () if overlay else tuple(StoreLocation(*pair) for pair in base.mounted)
            tree = (base.above if overlay else base.with_)(planned.tree.entries)
            if not spec.allow_sparse:
                check_holes(tree)  # what of the base is copied
            planned = attrs.evolve(planned, tree=tree, store=(*planned.store, *shown))
        tree = _run(spec, planned, session, stage, tell, overlay=overlay)
        outer.push(stack.pop_all())
    return tree, work


def _run(  # noqa: PLR0913 - as above
    spec: LayerSpec, planned: Plan, session: Session, stage: Stage, tell: Callable[[Progress], None], *, overlay: bool
) -> Tree:
    """Stage the tree, run the scripts, and read what they left."""
    base, work, mounting = spec.base, session.work, session.isolation == "namespaces"
    below = base if overlay else None
    method = _method(stage, session, spec)
    if session.fallback:
        tell(
            Progress(
                "stage", note=f"no namespaces here ({session.fallback}); isolation: {session.isolation}, store paths by {method}"
            )
        )
    rootfs = os.fsencode(f"{work}/rootfs/") if spec.rootfs else b""
    stager = ToolStager(os.fsencode(work), planned, own_sources=rootfs, base=below)
    staged = stager.stage(method, mounting=mounting, root_view=spec.view == "root", writable_store=spec.writable_closure)
    if spec.tools is not None and spec.view == "root":
        stager.show(spec.tools, mounting=mounting, fallback=session.fallback)
    tell(Progress("run"))
    record = session.run(spec, staged, stager, below, started=lambda script: tell(Progress("run", script=script.name)))
    tell(Progress("scan"))
    check_sources(staged)
    delta = None
    if below is not None:
        delta, notes = scan_above(below, staged, record, spec)
    else:
        tree, notes = scan(staged, record, spec)
    for note in notes:
        tell(Progress("scan", note=note))
    if base is None:
        return tree
    return changeset(base, delta or difference(base, tree), spec.epoch)


def _cleaned(entries: Iterable[Entry], tell: Callable[[Progress], None]) -> dict[bytes, Entry]:
    """Give what some entries are without overlayfs's own attributes, and say so."""
    cleaned = without_overlay(entries)
    if cleaned:
        tell(Progress("plan", note=overlay_note(cleaned)))
    return cleaned


def _rootfs(spec: LayerSpec, work: str) -> list[Entry]:
    check_rootfs(spec.rootfs, spec.rootfs_listing)
    if spec.rootfs is None:
        return []
    from .tarball import read_listing, read_tar  # noqa: PLC0415 - needed by few builds

    if os.path.isdir(spec.rootfs):
        owners = read_listing(spec.rootfs_listing) if spec.rootfs_listing else None
        return read_directory(spec.rootfs, spec, owners)
    return read_tar(spec.rootfs, f"{work}/rootfs", spec.epoch)


def _method(stage: Stage, session: Session, spec: LayerSpec) -> Method:
    mounting = session.isolation == "namespaces"
    if stage == "bind" and not mounting:
        message = f"nothing can be mounted here: {session.fallback}"
        raise UnavailableError(message, hint="Use --stage copy, or auto.")
    if spec.writable_closure:
        return "copy"
    if stage == "auto":
        return "bind" if mounting else "copy"
    return stage


def _keep_own_files(tree: Tree, passing: Iterable[bytes], folder: Path) -> Tree:
    """Keep the bytes that are in directories of ours, by digest: what the scripts made, or a snapshot has."""
    prefixes = tuple(place + b"/" for place in passing)
    files = folder / FILES
    kept = {}
    for entry in [entry for entry in tree if entry.source and entry.source.startswith(prefixes) and entry.link is None]:
        make_folder(files)
        with open(entry.source or b"", "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        path = os.fsencode(files / digest)
        if not os.path.exists(path):
            shutil.copyfile(entry.source or b"", path)
            os.chmod(path, os.stat(path).st_mode | 0o600)  # whatever the umask is
        kept[entry.path] = attrs.evolve(entry, source=path, stamp=None)
    return tree.replacing(kept)


def write_layer(  # noqa: PLR0913 - what it is, where it goes, and how
    spec: LayerSpec,
    tree: Tree,
    folder: Path,
    blob: Blob,
    tell: Callable[[Progress], None],
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
            file = stack.enter_context(Flowing(folder / BLOBS / "blob"))
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
    layer = Layer(descriptor, writer.diff_id, writer.uncompressed_size, tree, folder, blob, made_from(spec))
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

    def wait() -> None:
        if child is None or not child.wait():
            write()  # and let whatever is wrong be raised here

    try:
        with uninterrupted():
            child = Child(write)
        yield wait
    finally:
        if child is not None:
            child.stop()


def made_from(spec: LayerSpec) -> dict[str, Any]:
    """Tell what a layer was made from, the same on every machine."""
    made: dict[str, Any] = {"epoch": spec.epoch, "level": spec.compression.level}
    if spec.base is not None:
        made["base"] = spec.base.chain_id
    if spec.closure is not None:
        made["closure"] = [path.path for path in spec.closure.paths]
    if spec.contents:
        made["contents"] = list(spec.contents)
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
