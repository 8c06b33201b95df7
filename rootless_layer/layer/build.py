"""``build_layer(spec) -> Layer``: the one path from what is asked for to a layer."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import OverlayError, UnavailableError
from rootless_layer.plan.base import opened
from rootless_layer.plan.locate import StoreLocation
from rootless_layer.plan.plan import plan
from rootless_layer.plan.rootfs import read_rootfs
from rootless_layer.plan.spec import Blob, LayerSpec, Stage
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.session.emulator import emulator_of
from rootless_layer.session.extras import extras_of
from rootless_layer.session.scaffold import Scaffold
from rootless_layer.session.scan import check_sources, scan, scan_above
from rootless_layer.session.session import Session
from rootless_layer.session.stage import stage as stage_tree
from rootless_layer.system.replace import aside, check_replaceable, writing
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar import libarchive
from rootless_layer.tree.base import Delta
from rootless_layer.tree.compiled import COMPILED, mended
from rootless_layer.tree.hiding import hidden_by_plan, in_store, unusual
from rootless_layer.tree.sparse import MOST_HOLES, check_holes
from rootless_layer.tree.tidy import is_key, left_out
from rootless_layer.tree.tree import overlay_note, shown, without_overlay

from .changeset import changeset, difference
from .layer import Layer, write_layer
from .made import LAYER
from .segments import from_outset
from .work import keep_own_files, work_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from rootless_layer.plan.plan import Plan
    from rootless_layer.session.attached import Attached, Terminal
    from rootless_layer.session.stage import Method, Staged
    from rootless_layer.tree.base import Base
    from rootless_layer.tree.sealed import Sealed
    from rootless_layer.tree.tree import Entry, Tree

    from .segments import Outset, Segments


_STAGED = {"bind": "mounted", "hardlink": "hard-linked", "copy": "copied"}
"""What a way of staging does with store paths, for a message."""
_SHARED = {
    "network": "network (its own services, and abstract sockets)",
    "IPC": "IPC (shared memory, semaphores and queues)",
    "cgroup": "cgroup names",
    "UTS": "host name",
}
"""What scripts share with this machine without a namespace, for a message."""


def build_layer(  # noqa: PLR0913 - all but the first two by name
    spec: LayerSpec,
    output: str | os.PathLike[str],
    *,
    stage: Stage = "auto",
    blob: Blob = "stored",
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
    on_failure: Terminal | None = None,
    segments: Segments | None = None,
) -> Layer:
    """Build a layer and put it in the directory ``output``, whole or not at all.

    ``stage`` says how the store paths get in front of the scripts and ``blob`` whether
    the blob is written; neither changes the layer's digest. Mounts of the type cache lie in the directory ``cache``.
    ``progress`` is called on the calling thread, as is ``on_output``: with the bytes that the scripts write, as they
    come, after ``progress`` was told that this script begins. Without it they go to stderr; with it, ``progress`` is
    told of a script twice in a second while it runs.
    Of what ``segments`` know of the layer no file is read.
    On the terminal ``on_failure`` a shell is opened where a script fails, before this raises what it would have.
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
    for image in (spec.base, *(copy.image for copy in spec.copies)):
        if image is not None:
            opened(image, tell)
    with (
        Temporary() as temporary,
        aside(target, temporary, LAYER) as folder,
        _Build(spec, stage, temporary, tell, on_output, cache, on_failure) as build,
    ):

        def write(outset: Outset | None) -> Layer:
            build.sealed = {} if outset is None else outset.sealed
            tree = build.tree()
            if not spec.allow_sparse:
                check_holes(tree.larger(MOST_HOLES))
            with writing(target):
                if blob == "derived":
                    tree = keep_own_files(tree, build.passing(), folder)
                return write_layer(spec, tree, folder, blob, tell, outset=outset)

        layer = attrs.evolve(from_outset(segments, spec, blob, write), directory=target)
        tell(Progress("publish", layer.uncompressed_size, layer.uncompressed_size))
    tell(Progress("done", layer.uncompressed_size, layer.uncompressed_size))
    return layer


def try_command(spec: LayerSpec, attached: Attached, progress: Report = silent) -> int:
    """Run the script of a spec over its tree, ``attached`` to the caller, and keep nothing; give its exit status.

    ``progress`` and what this raises are as of :func:`build_layer`.
    """
    if spec.base is not None:
        opened(spec.base, progress)
    with Temporary() as temporary, _Build(spec, "auto", temporary, progress, None, None, attached) as build:
        build.tree()
        return 0 if build.session is None else build.session.status


@attrs.define(slots=True)
class _Build:
    """A spec on its way to the tree of its layer.

    Files of the tree may lie in ``work``, a session's directory, which goes with the session: so the tree is
    there until the build is left. ``stage`` is the way of staging that was asked for; ``attached`` is as of
    :class:`Session`.
    """

    spec: LayerSpec
    stage: Stage
    temporary: Temporary
    tell: Report
    on_output: Callable[[bytes], object] | None
    cache: str | os.PathLike[str] | None
    attached: Attached | None = None
    work: str = ""
    session: Session | None = None
    extras: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)
    """What the session mounts beside the tree, which outlives it."""
    sealed: Mapping[bytes, Sealed] = attrs.field(factory=dict)
    """Store paths that need not be read."""

    def __enter__(self) -> Self:
        """Give the build itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the session, if there is one."""
        self._end()

    def _end(self) -> None:
        if self.session is not None:
            self.session.close()
        self.extras.close()

    def tree(self) -> Tree:
        """Plan the tree, run the scripts over it where there are some, and give the layer's."""
        self.tell(Progress("plan"))
        libarchive.load()  # where it is not there, no script is to run before that is said
        self._say("plan", self.spec.left_out.notes(self.spec.inputs()))
        tree = self._scripted() if self.spec.scripts else self._unscripted()
        tree = tree.without(frozenset(left_out(tree, tidy=self.spec.tidy)))
        self._say("scan", [_key_note(keys)] if self.spec.tidy and (keys := [*filter(is_key, tree.entries)]) else ())
        tree = tree.replacing(self._cleaned(tree.with_attributes()))
        return tree.replacing(self._valid(tree))

    def _valid(self, tree: Tree) -> dict[bytes, Entry]:
        """Give Python's compiled modules as they are valid in the layer; store paths are what they are."""
        below = {} if self.spec.below is None else self.spec.below.entries
        own = (tree.entries[path] for path in tree.entries if path.endswith(COMPILED) and not in_store(path))
        return mended(own, lambda path: tree.entries.get(path) or below.get(path), self._folder)

    def _folder(self) -> bytes:
        """Give a directory for files of the build's own."""
        if not self.work:
            self.work = work_directory(self.temporary)
        folder = os.fsencode(f"{self.work}/compiled")
        os.makedirs(folder, exist_ok=True)
        return folder

    def passing(self) -> tuple[bytes, ...]:
        """Give the directories that hold files of the tree and may go before the layer does: the session's, and snapshots."""
        images = [self.spec.base, *(copy.image for copy in self.spec.copies)]
        trees = [tree for image in images if image is not None for tree in opened(image).trees]
        return (*filter(None, [os.fsencode(self.work)]), *trees)

    def _unscripted(self) -> Tree:
        if self.spec.rootfs is not None and not os.path.isdir(self.spec.rootfs):
            self.work = work_directory(self.temporary)
        planned = self._plan()
        self._warn("plan", self._odd(planned.tree))
        base = self.spec.below
        return planned.tree if base is None else changeset(base, Delta(planned.tree.entries), self.spec.source_date_epoch)

    def _scripted(self) -> Tree:
        """Run the scripts over the base as an overlay shows it, or else over a copy of it."""
        base = self.spec.below
        if base is not None and base.trees and self.stage != "copy":
            try:
                return self._run(overlay=True)
            except OverlayError as error:
                self._say("stage", [f"the base cannot be shown by an overlay, so it is copied: {error}"])
        return self._run(overlay=False)

    def _run(self, *, overlay: bool) -> Tree:
        session = self._begin(overlay=overlay)
        planned = self._plan()  # while the session's processes start
        session.ready()
        base = self.spec.below
        below = base if overlay and session.isolation == "namespaces" else None
        odd = self._odd(planned.tree)
        staged = self._staged(session, planned if base is None else self._upon(base, planned, below), below)
        self.tell(Progress("run"))
        record = session.run(self.spec, staged, planned.start, below, progress=self.tell)
        if session.trial:
            return planned.tree  # whatever became of it
        self.tell(Progress("scan"))
        check_sources(staged)
        if below is not None:
            delta, notes = scan_above(below, staged, record, self.spec)
            tree = changeset(below, delta, self.spec.source_date_epoch)
        else:
            tree, notes = scan(staged, record, self.spec)
            if base is not None:
                tree = changeset(base, difference(base, tree), self.spec.source_date_epoch)
        self._say("scan", notes)
        tree = planned.linked(self.spec, tree)
        if odd:  # neither mended by a script, nor made by one
            self._warn("scan", [note for note in self._odd(tree) if note in odd])
        return tree

    def _begin(self, *, overlay: bool) -> Session:
        """Start a session, in the place of an earlier one."""
        self._end()
        self.work = work_directory(self.temporary, self.spec.below if overlay else None)
        extras = self.extras.enter_context(extras_of(self.spec, self.work, self.cache, self.tell))
        extras = attrs.evolve(extras, attached=self.attached)
        self.session = Session.open(self.work, self.on_output, emulator_of(self.spec), self.spec.network, extras)
        return self.session

    def _plan(self) -> Plan:
        """Lay out what is put in."""
        rootfs = {entry.path: entry for entry in read_rootfs(self.spec, f"{self.work}/rootfs", self.tell)}
        planned = plan(self.spec, (rootfs | self._cleaned(rootfs.values())).values(), self.tell, self.sealed)
        if self.spec.below is not None:
            self._warn("plan", hidden_by_plan(self.spec.below, planned.tree))
        return planned

    def _upon(self, base: Base, planned: Plan, below: Base | None) -> Plan:
        """Add what of the base is to be staged: all of it, where no overlay shows it from ``below``."""
        shown = () if below is not None else tuple(StoreLocation(*pair) for pair in base.mounted)
        tree = (base.with_ if below is None else base.above)(planned.tree.entries)
        if not self.spec.allow_sparse:
            check_holes(tree.larger(MOST_HOLES))  # what of the base is copied
        return attrs.evolve(planned, tree=tree, store=(*planned.store, *shown))

    def _staged(self, session: Session, planned: Plan, below: Base | None) -> Staged:
        method = self._method(session)
        if session.fallback:
            self._say("stage", [_fallen_back(session, self.spec, method)])
        if session.refused:
            self._say("stage", [_shared(session.refused)])
        own = os.fsencode(f"{self.work}/rootfs/") if self.spec.rootfs else b""
        scaffold, writable = Scaffold.of(self.spec, session), self.spec.closure_writable
        return stage_tree(
            planned, scaffold, method, work=os.fsencode(self.work), writable_store=writable, own_sources=own, base=below
        )

    def _method(self, session: Session) -> Method:
        mounting = session.isolation == "namespaces"
        if self.stage == "bind" and not mounting:
            message = f"nothing can be mounted here: {session.fallback}"
            raise UnavailableError(message, hint="Use --stage copy, or auto.")
        if self.spec.closure_writable:
            return "copy"
        if self.stage == "auto":
            return "bind" if mounting else "copy"
        return self.stage

    def _odd(self, tree: Tree) -> list[str]:
        """Say what is odd about a tree that began as a root filesystem."""
        rootfs = self.spec.rootfs
        if not rootfs or self.spec.base is not None:
            return []
        return list(unusual(tree.entries.get, rootfs, is_tar=not os.path.isdir(rootfs)))

    def _cleaned(self, entries: Iterable[Entry]) -> dict[bytes, Entry]:
        """Give what some entries are without overlayfs's own attributes, and say so."""
        cleaned = without_overlay(entries)
        self._say("plan", [overlay_note(cleaned)] if cleaned else ())
        return cleaned

    def _warn(self, step: Literal["plan", "scan"], notes: Iterable[str]) -> None:
        self._say(step, (f"warning: {note}" for note in notes))

    def _say(self, step: Literal["plan", "stage", "scan"], notes: Iterable[str]) -> None:
        for note in notes:
            self.tell(Progress(step, note=note))


def _key_note(paths: list[bytes]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return f"{shown(paths[0])}{more}: a key that is another in each build; make it where the image runs"


def _fallen_back(session: Session, spec: LayerSpec, method: Method) -> str:
    """Say which way is taken on a machine that does not give all that a session asks for."""
    if session.isolation == "namespaces":
        return f"no PID namespace here, so that the scripts see this machine's /proc ({session.fallback})"
    if spec.view == "directory":
        way = "the directory view shows this machine as it is, and not read-only"
    else:
        way = "the root view is a chroot" if session.isolation == "chroot" else "the root view is proot's"
    return f"no namespaces here, so that {way}; store paths are {_STAGED[method]} ({session.fallback})"


def _shared(refused: Mapping[str, str]) -> str:
    """Say what of this machine scripts reach, as it refuses them namespaces of their own."""
    reasons = ", ".join(dict.fromkeys(refused.values()))
    return f"scripts share this machine's {', '.join(_SHARED[name] for name in refused)}: it refuses them their own ({reasons})"
