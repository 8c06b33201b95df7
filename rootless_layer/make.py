"""A graph made: what needs nothing that is missing is looked up, or worked on, several at a time.

To look a layer up takes no process. What has to be built, put in its place or written is done
by a forked child each, so that one that fails takes nothing with it but what needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
from typing import TYPE_CHECKING, Any

import attrs

from .blob import LayerBlob, open_layer
from .cache import LayerCache
from .compression import MOST_BYTES
from .errors import OutputError, RootlessLayerError
from .image import Image
from .job import Job
from .key import layer_key
from .layout import Stored, choose, read_images
from .lookup import sources
from .oci import Platform, sha256
from .recipe import assemble, missing, platform_of
from .record import Outputs
from .temporary import Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .cache import Entry
    from .export import Format
    from .graph import Node
    from .layer import Progress
    from .spec import LayerSpec

Event = dict[str, Any]


@attrs.frozen(slots=True)
class Made:
    """A node that is made: the digest of its blob or manifest, the layers up to it, the lowest first, and its image."""

    digest: str
    chain: tuple[LayerBlob, ...]
    image: Image | None = None


@attrs.define(slots=True)
class _Task:
    """What is left to do for a node: how that is called, and the work itself."""

    node: Node
    action: str
    work: Any
    made: Made | None = None


@attrs.define(slots=True)
class Maker:
    """Makes nodes, each after what it needs; ``show`` is called with an event for each thing that happens.

    ``specs`` has a spec for each layer, ``cache`` is the cache's directory, ``jobs`` is how many may be worked on
    at a time. Entries of the cache stay in use until ``stack`` unwinds.
    """

    specs: Mapping[str, LayerSpec]
    cache: Path
    jobs: int
    show: Callable[[Event], object]
    stack: contextlib.ExitStack
    made: dict[str, Made] = attrs.field(factory=dict)
    status: int = 0
    _built: set[str] = attrs.field(factory=set)
    _there: set[str] = attrs.field(factory=set)
    _lost: dict[str, str] = attrs.field(factory=dict)
    _keys: dict[str, str] = attrs.field(factory=dict)
    _images: dict[tuple[str, Platform], Image] = attrs.field(factory=dict)
    _tasks: list[_Task] = attrs.field(factory=list)
    _running: dict[str, tuple[_Task, Job]] = attrs.field(factory=dict)
    _spool: str = ""

    def make(self, nodes: Sequence[Node]) -> int:
        """Make the nodes, which are in order; give 0, or the exit status of the first that failed."""
        waiting = {node.name: node for node in nodes}
        while waiting or self._tasks or self._running:
            for node in [node for node in waiting.values() if self._may_begin(node)]:
                del waiting[node.name]
                self._look(node)
            self._start()
            if self._running:
                self._listen()
        return self.status

    def _may_begin(self, node: Node) -> bool:
        if all(need in self.made for need in node.needs):
            return True
        lost = next((self._lost[need] for need in node.needs if need in self._lost), None)
        if lost is not None:
            self._lost.setdefault(node.name, lost)
        return lost is not None

    def _look(self, node: Node) -> None:
        """See whether there is anything to do for a node, whose needs are made or lost."""
        if (because := self._lost.get(node.name)) is not None:
            self.show({"event": "skipped", "kind": node.kind, "name": node.name, "because": because})
            return
        try:
            task = self._layer(node) if node.kind == "layer" else self._image(node)
        except RootlessLayerError as error:
            self._fail(node, {"problems": list(error.problems), "hint": error.hint, "exitStatus": error.exit_code})
            return
        if task is not None:
            self._tasks.append(task)

    # --- layers ---

    def _layer(self, node: Node) -> _Task | None:
        below = self._below(node)
        spec, blob = self.specs[node.name], node.options.get("blob", "stored")
        chain_id = None if below is None else below.chain_id
        if node.name not in self._built:
            self._keys[node.name] = layer_key(spec, blob=blob, chain_id=chain_id)
        key = self._keys[node.name]
        layers = LayerCache.within(self.cache)
        entry, output = layers.find(key), node.options.get("output")
        what = sha256(json.dumps([key, sources(spec, chain_id)], sort_keys=True).encode())

        def place(found: Entry) -> None:
            if output is not None:
                with Outputs.within(self.cache).noting(output, what):
                    found.deliver(output, sources(spec, chain_id))

        if entry is not None:
            self.stack.callback(entry.lease.release)
            layer = open_layer(str(entry.folder))
            made = Made(layer.descriptor.digest, (*(below.layers if below is not None else ()), layer))
            if output is None or Outputs.within(self.cache).holds(output, what):
                self._have(node, made, "built" if node.name in self._built else "unchanged")
                return None
            return _Task(node, "place", lambda _tell: place(entry), made)

        if node.name in self._built:
            message = f"{layers.place / key}: was removed as soon as it was built"
            raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")

        def build(tell: Callable[[Progress], None]) -> None:
            with contextlib.ExitStack() as stack:
                base = None if below is None else _open(below, node, self.cache, tell, stack)
                whole = attrs.evolve(spec, base=base)
                stage = node.options.get("stage", "auto")
                built = layers.build(key, whole, blob=blob, stage=stage, progress=tell)
                place(built)

        return _Task(node, "build", build)

    def _below(self, node: Node) -> Image | None:
        """Give what a layer is built upon, of its bases each layer once; nothing where it has no base."""
        bases = node.options.get("base", ())
        if not bases:
            return None
        layers: list[LayerBlob] = []
        for base in bases:
            if base in node.needs:
                layers += missing(layers, self.made[base].chain)
            else:
                layers += self._read(base, platform_of(node.options)).layers
        return Image(Image.empty(platform_of(node.options)).config, tuple(layers))

    # --- images ---

    def _image(self, node: Node) -> _Task | None:
        options, base = node.options, node.options.get("base")
        below = None
        if base is not None:
            below = self._made_image(base) if base in node.needs else self._read(base, platform_of(options))
        chains = [self.made[name].chain if name in node.needs else (open_layer(name),) for name in options.get("layers", ())]
        image = assemble(options, below, chains)
        made = Made(image.manifest_digest, image.layers, image)
        output = options.get("output")
        if output is None:
            self._have(node, made, "unchanged")
            return None
        from .export import export_images, index, tag_of  # noqa: PLC0415 - for those that write

        stored = [Stored(image, tuple(dict.fromkeys(map(tag_of, options.get("tag", ())))))]
        kind: Format = options.get("format") or ("archive" if output.endswith(".tar") else "layout")
        what = hashlib.sha256(kind.encode() + index(stored, several_platforms=False)[0]).hexdigest()
        if Outputs.within(self.cache).holds(output, what):
            self._have(node, made, "unchanged")
            return None

        def write(_tell: Callable[[Progress], None]) -> None:
            with Outputs.within(self.cache).noting(output, what):
                export_images(stored, output, kind)

        return _Task(node, "write", write, made)

    def _made_image(self, name: str) -> Image:
        made = self.made[name]
        if made.image is not None:
            return made.image
        image = Image.empty(Platform.host())
        for layer in made.chain:
            image = image.append(layer)
        return image

    def _read(self, given: str, platform: Platform) -> Image:
        """Read an image that is a file or a directory, each once."""
        if (given, platform) not in self._images:
            path, _, name = given.partition("#")
            if os.path.isfile(f"{path}/layer.json"):  # it is for any platform
                image = Image.empty(platform).append(open_layer(path))
            else:
                image = choose(read_images(path, self._new), path, platform, name)
            self._images[given, platform] = image
        return self._images[given, platform]

    def _new(self) -> str:
        """Name a file for what has to be decompressed."""
        if not self._spool:
            place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as build does
            try:
                self._spool = self.stack.enter_context(Temporary()).make(place, "rootless-layer-")
            except OSError as error:
                message = f"{place}: nothing can be unpacked there: {error.strerror}"
                raise OutputError(message, hint="Set TMPDIR to a directory with room that you may write to.") from error
        return f"{self._spool}/{len(os.listdir(self._spool))}"

    # --- work ---

    def _start(self) -> None:
        """Begin with as many tasks as there may be. Of layers that are the same only one is built: the others are found then."""
        for task in list(self._tasks):
            if len(self._running) >= self.jobs:
                break
            key = self._keys[task.node.name] if task.action == "build" else ""
            if key and any(task.action == "build" and self._keys[name] == key for name, (task, _) in self._running.items()):
                continue
            self._tasks.remove(task)
            if key in self._there:
                self._look(task.node)
                continue
            self.show({"event": "start", "kind": task.node.kind, "name": task.node.name, "action": task.action})
            self._running[task.node.name] = task, Job(task.work)

    def _listen(self) -> None:
        """Wait until one of those that work says something, or ends."""
        poll = select.poll()
        of: dict[int, str] = {}
        for name, (_, job) in self._running.items():
            for descriptor in (job.reports, job.words):
                poll.register(descriptor, select.POLLIN)
                of[descriptor] = name
        for descriptor, _ in poll.poll():
            if of[descriptor] not in self._running:
                continue
            task, job = self._running[of[descriptor]]
            lines = job.read(descriptor)
            if descriptor == job.words:
                self._say(task.node, lines or [])
            elif lines is None:
                del self._running[task.node.name]
                self._say(task.node, job.end())
                self._finish(task, job)
            else:
                for line in lines:
                    self._report(task.node, job, json.loads(line))

    def _report(self, node: Node, job: Job, said: Event) -> None:
        if "failed" in said:
            job.failed = said["failed"]
        else:
            self.show({"event": "progress", "kind": node.kind, "name": node.name, **said})

    def _say(self, node: Node, lines: Sequence[bytes]) -> None:
        for line in lines:
            self.show({"event": "output", "kind": node.kind, "name": node.name, "text": line.decode(errors="backslashreplace")})

    def _finish(self, task: _Task, job: Job) -> None:
        node = task.node
        if job.failed is not None:
            self._fail(node, job.failed)
        elif task.made is not None:
            self._have(node, task.made, {"place": "placed", "write": "written"}[task.action])
        else:
            self._built.add(node.name)
            self._there.add(self._keys[node.name])
            self._look(node)  # it is found now

    def _have(self, node: Node, made: Made, status: str) -> None:
        self.made[node.name] = made
        if node.name in self._built:
            status = "built"
        self.show({"event": "done", "kind": node.kind, "name": node.name, "status": status, "digest": made.digest})

    def _fail(self, node: Node, failed: Event) -> None:
        self._lost[node.name] = node.name
        self.status = self.status or failed["exitStatus"]
        self.show({"event": "failed", "kind": node.kind, "name": node.name, **failed})


def _open(below: Image, node: Node, cache: Path, tell: Callable[[Progress], None], stack: contextlib.ExitStack) -> Any:  # noqa: ANN401 - a base
    """Open a base in the child that builds upon it."""
    from .cache import hold_base  # noqa: PLC0415
    from .layer import Progress  # noqa: PLC0415

    temporary = stack.enter_context(Temporary())
    most = node.options.get("most-bytes", MOST_BYTES)
    base, leases = hold_base(below, cache, temporary, most_bytes=most, tell=lambda note: tell(Progress("plan", note=note)))
    for lease in leases:
        stack.callback(lease.release)
    return base
