"""``build_layer(spec) -> Layer``: the one path from what is asked for to a layer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer import given
from rootless_layer.errors import OverlayError, SourceError, UnavailableError
from rootless_layer.plan.locate import StoreLocation
from rootless_layer.plan.plan import check_no_image, check_rootfs, plan, read_directory
from rootless_layer.plan.spec import Blob, LayerSpec, Stage
from rootless_layer.progress import Progress, silent
from rootless_layer.session.scaffold import ToolStager
from rootless_layer.session.scan import check_sources, scan, scan_above
from rootless_layer.session.session import Session
from rootless_layer.system.machine import unwritable
from rootless_layer.system.replace import aside, check_replaceable, make_folder, writing
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar import libarchive
from rootless_layer.tree.base import Delta
from rootless_layer.tree.hiding import hidden_by_plan, unusual
from rootless_layer.tree.sparse import check_holes
from rootless_layer.tree.tree import overlay_note, without_overlay

from .changeset import changeset, difference
from .layer import Layer, write_layer
from .made import FILES, LAYER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless_layer.plan.plan import Plan
    from rootless_layer.session.stage import Method
    from rootless_layer.tree.base import Base
    from rootless_layer.tree.tree import Entry, Tree


_STAGED = {"bind": "mounted", "hardlink": "hard-linked", "copy": "copied"}
"""What a way of staging does with store paths, for a message."""


def build_layer(  # noqa: PLR0913 - all but the first two by name
    spec: LayerSpec,
    output: str | os.PathLike[str],
    *,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
) -> Layer:
    """Build a layer and put it in the directory ``output``, whole or not at all.

    ``stage`` says how the store paths get in front of the scripts and ``blob`` whether
    the blob is written; neither changes the layer's digest. ``progress`` is called on
    the calling thread, as is ``on_output``: with the bytes that the scripts write, as they come. Without it they
    go to stderr; with it, ``progress`` is told of a script twice in a second while it runs.
    Raises :class:`RootlessLayerError`; its kinds are drawn in :mod:`rootless_layer.errors`.
    """
    given.instance("spec", spec, LayerSpec, "a LayerSpec")
    given.one_of("stage", stage, Stage)
    given.one_of("blob", blob, Blob)
    output = given.path("output", output)
    tell = given.function("progress", silent if progress is None else progress)
    if on_output is not None:
        given.function("on_output", on_output)
    spec = spec.apart_from(output)
    target = Path(os.path.realpath(output))  # a link to a layer stays, and what it points to is replaced
    check_replaceable(Path(output).absolute(), LAYER)
    with Temporary() as temporary, aside(target, temporary, LAYER) as folder, contextlib.ExitStack() as stack:
        tree, work = _tree(spec, stage, temporary, tell, on_output, stack)
        tree = tree.replacing(_cleaned(tree, tell))
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


def _tree(  # noqa: PLR0913, PLR0917 - as below
    spec: LayerSpec, stage: Stage, temporary: Temporary, tell: Callable[[Progress], object],
    on_output: Callable[[bytes], object] | None, stack: contextlib.ExitStack,
) -> tuple[Tree, str]:  # fmt: skip
    """Plan the tree, run the scripts over it where there are some, and give the layer's with the directory that it lies in."""
    tell(Progress("plan"))
    libarchive.load()  # where it is not there, no script is to run before that is said
    for note in spec.left_out.notes(spec.inputs()):
        tell(Progress("plan", note=note))
    if spec.scripts and spec.base is not None and spec.base.trees and stage != "copy":
        try:
            return _attempt(spec, stage, temporary, tell, on_output, stack, overlay=True)
        except OverlayError as error:
            tell(Progress("stage", note=f"the base cannot be shown by an overlay, so it is copied: {error}"))
    return _attempt(spec, stage, temporary, tell, on_output, stack, overlay=False)


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
        hint = "Set TMPDIR to a directory that is there."
        raise unwritable(error, folder, "no directory for the build can be made there", hint=hint) from error


def _beside(base: Base, folder: str) -> bool:
    """Say whether a directory is on the file system of a base's snapshots: overlayfs keeps inode numbers within one only."""
    for tree in base.trees:
        if not os.path.isdir(tree):
            message = f"{os.fsdecode(tree)}: the base that was unpacked there is gone"
            raise SourceError(message, hint="Open the base again: what is not in the cache is unpacked again.")
    return not os.path.isdir(folder) or os.stat(base.trees[0]).st_dev == os.stat(folder).st_dev


def _attempt(  # noqa: PLR0913, PLR0917 - one place, split for its length only
    spec: LayerSpec, stage: Stage, temporary: Temporary, tell: Callable[[Progress], object],
    on_output: Callable[[bytes], object] | None, outer: contextlib.ExitStack, *, overlay: bool,
) -> tuple[Tree, str]:  # fmt: skip
    """Stage a base in one way, by an overlay or by copying it, and all else as it is always done."""
    base = spec.base
    with contextlib.ExitStack() as stack:
        work = _work_directory(spec, temporary, overlay=overlay)
        session = stack.enter_context(Session.open(work, on_output)) if spec.scripts else None
        rootfs = {entry.path: entry for entry in _rootfs(spec, work, tell)}
        planned = plan(spec, (rootfs | _cleaned(rootfs.values(), tell)).values(), tell)
        for note in hidden_by_plan(base, planned.tree) if base is not None else ():
            tell(Progress("plan", note=f"warning: {note}"))
        odd = _odd(spec, planned.tree)
        if session is None:
            for note in odd:
                tell(Progress("plan", note=f"warning: {note}"))
            tree = planned.tree if base is None else changeset(base, Delta(planned.tree.entries), spec.source_date_epoch)
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
        for note in _odd(spec, tree) if odd else ():
            if note in odd:  # neither mended by a script, nor made by one
                tell(Progress("scan", note=f"warning: {note}"))
        outer.push(stack.pop_all())
    return tree, work


def _odd(spec: LayerSpec, tree: Tree) -> list[str]:
    """Say what is odd about a tree that began as a root filesystem."""
    return (
        list(unusual(tree.entries.get, spec.rootfs, is_tar=not os.path.isdir(spec.rootfs)))
        if spec.rootfs and spec.base is None
        else []
    )


def _run(  # noqa: PLR0913 - as above
    spec: LayerSpec, planned: Plan, session: Session, stage: Stage, tell: Callable[[Progress], object], *, overlay: bool
) -> Tree:
    """Stage the tree, run the scripts, and read what they left."""
    base, work, mounting = spec.base, session.work, session.isolation == "namespaces"
    below = base if overlay else None
    method = _method(stage, session, spec)
    if session.fallback:
        tell(Progress("stage", note=_fallen_back(session, spec, method)))
    rootfs = os.fsencode(f"{work}/rootfs/") if spec.rootfs else b""
    stager = ToolStager(os.fsencode(work), planned, own_sources=rootfs, base=below)
    staged = stager.stage(method, mounting=mounting, root_view=spec.view == "root", writable_store=spec.closure_writable)
    if spec.tools is not None and spec.view == "root":
        stager.show(spec.tools, mounting=mounting, fallback=session.fallback)
    tell(Progress("run"))
    record = session.run(spec, staged, stager, below, progress=tell)
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
    return changeset(base, delta or difference(base, tree), spec.source_date_epoch)


def _fallen_back(session: Session, spec: LayerSpec, method: Method) -> str:
    """Say which way is taken on a machine that does not give all that a session asks for."""
    if session.isolation == "namespaces":
        return f"no PID namespace here, so that the scripts see this machine's /proc ({session.fallback})"
    if spec.view == "directory":
        way = "the directory view shows this machine as it is, and not read-only"
    else:
        way = "the root view is a chroot" if session.isolation == "chroot" else "the root view is proot's"
    return f"no namespaces here, so that {way}; store paths are {_STAGED[method]} ({session.fallback})"


def _cleaned(entries: Iterable[Entry], tell: Callable[[Progress], object]) -> dict[bytes, Entry]:
    """Give what some entries are without overlayfs's own attributes, and say so."""
    cleaned = without_overlay(entries)
    if cleaned:
        tell(Progress("plan", note=overlay_note(cleaned)))
    return cleaned


def _rootfs(spec: LayerSpec, work: str, tell: Callable[[Progress], object]) -> list[Entry]:
    check_rootfs(spec.rootfs, spec.rootfs_listing)
    if spec.rootfs is None:
        return []
    if os.path.isdir(spec.rootfs):
        from rootless_layer.tar.listing import read_listing  # noqa: PLC0415 - needed by few

        owners = read_listing(spec.rootfs_listing) if spec.rootfs_listing else None
        return read_directory(spec.rootfs, spec, owners)
    from rootless_layer.tar.unpack import read_tar  # noqa: PLC0415 - as above

    entries = read_tar(spec.rootfs, f"{work}/rootfs", spec.source_date_epoch, tell)
    check_no_image(spec.rootfs, (entry.path for entry in entries))
    return entries


def _method(stage: Stage, session: Session, spec: LayerSpec) -> Method:
    mounting = session.isolation == "namespaces"
    if stage == "bind" and not mounting:
        message = f"nothing can be mounted here: {session.fallback}"
        raise UnavailableError(message, hint="Use --stage copy, or auto.")
    if spec.closure_writable:
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
