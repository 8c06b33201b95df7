"""A graph made: what needs nothing that is missing is looked up, or worked on, several at a time.

To look a layer up takes no process, unless others work, which are listened to meanwhile. What has
to be built, put in its place or written is done by a forked child each, so that one that fails takes
nothing with it but what needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.cache.build import Holder, hold_layers, sources
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import LayerCache
from rootless_layer.cache.outputs import Outputs
from rootless_layer.errors import OutputError, RootlessLayerError, from_report
from rootless_layer.image.image import Image
from rootless_layer.image.index import index
from rootless_layer.image.read import NamedImage
from rootless_layer.image.write import write_images
from rootless_layer.layer.blob import open_layer
from rootless_layer.oci.descriptor import chain_ids, sha256
from rootless_layer.oci.reference import tag_of
from rootless_layer.options.layer import LayerOptions
from rootless_layer.progress import Progress
from rootless_layer.system.border import of_machine
from rootless_layer.system.temporary import Temporary

from .chain import Made, Placed, missing, placed
from .events import Done, Failed, Output, Skipped, Start, Working
from .resolve import format_of, image_of, open_below, platform_of
from .task import Task
from .worker import Job, Teller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.cache.layers import Entry
    from rootless_layer.image.open import Foreign
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.options.image import ImageOptions
    from rootless_layer.plan.spec import LayerSpec

    from .events import Display, Status
    from .graph import Node

_TICK_MILLISECONDS = 500


@attrs.define(slots=True)
class Maker:
    """Makes nodes, each after what it needs; ``show`` is called with an event for each thing that happens.

    ``specs`` has a spec for each layer, ``splittings`` says how each image's closure is split,
    ``cache`` is the cache's directory, ``jobs`` is how many may be worked on at a time. Entries
    of the cache stay in use until ``stack`` unwinds.
    """

    specs: Mapping[str, LayerSpec]
    splittings: Mapping[str, Splitting]
    cache: Path
    jobs: int
    show: Display
    stack: contextlib.ExitStack
    foreign: Foreign
    made: dict[str, Made] = attrs.field(factory=dict)
    status: int = 0
    _built: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    _needed: set[str] = attrs.field(factory=set)
    _read: dict[str, list[Any]] = attrs.field(factory=dict)
    """What is known of nodes for which trees or layers had to be read."""
    _lost: dict[str, str] = attrs.field(factory=dict)
    _tasks: list[Task] = attrs.field(factory=list)
    _running: dict[str, tuple[Task, Job]] = attrs.field(factory=dict)
    _holder: Holder = attrs.field(
        default=attrs.Factory(lambda self: Holder(LayerCache.within(self.cache), self.stack), takes_self=True)
    )

    def make(self, nodes: Sequence[Node]) -> int:
        """Make the nodes, which are in order; give 0, or the exit status of the first that failed."""
        waiting = {node.name: node for node in nodes}
        self._needed.update(need for node in nodes for need in node.needs)
        while waiting or self._tasks or self._running:
            for node in [node for node in waiting.values() if self._may_begin(node)]:
                del waiting[node.name]
                self._look(node)
                self._start()
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
            self.show(Skipped(node, because))
            return
        try:
            match node.options:
                case LayerOptions() as options:
                    task = self._layer(node, options)
                case options:
                    task = self._image(node, options)
        except Exception as error:
            told = error if isinstance(error, RootlessLayerError) else of_machine(error, node.name)
            if told is None:
                raise
            self._fail(Failed(node, told))
            return
        if task is not None:
            self._tasks.append(task)

    # --- layers ---

    def _layer(self, node: Node, options: LayerOptions) -> Task | None:
        below, chain = self._below(node, options)
        spec, blob = self.specs[node.name], options.blob
        chain_id = None if below is None else below.chain_id
        read = self._reading(
            node, lambda: [layer_key(spec, blob=blob, chain_id=chain_id)], long=bool(spec.copy_to_root or spec.rootfs)
        )
        if isinstance(read, Task):
            return read
        [key] = read
        entry, output = self._holder.find(key), options.output
        what = sha256(json.dumps([key, sources(spec, chain_id)], sort_keys=True).encode())

        def place(found: Entry) -> None:
            if output is not None:
                with Outputs.within(self.cache).noting(output, what):
                    found.deliver(output, sources(spec, chain_id))

        if entry is not None:
            layer = entry.open()
            own = chain_ids([*(each.layer.diff_id for each in chain), layer.diff_id])[-1]
            made = Made(layer.descriptor.digest, (*chain, Placed(layer, own)))
            if output is None or Outputs.within(self.cache).holds(output, what):
                self._have(node, made, "built" if node.name in self._built else "unchanged")
                return None
            return Task(node, "place", lambda _tell: place(entry), made)

        self._check_not_built(node)

        def build(tell: Teller) -> None:
            with contextlib.ExitStack() as stack:
                base = None if below is None else open_below(below, options, self.cache, tell, stack.enter_context(Temporary()))
                whole = attrs.evolve(spec, base=base)
                built = self._holder.layers.build(key, whole, blob=blob, stage=options.stage, progress=tell)
                place(built)
                tell.held()

        return Task(node, "build", build, keys=(key,))

    def _below(self, node: Node, options: LayerOptions) -> tuple[Image | None, list[Placed]]:
        """Give what a layer is built upon, of the file's layers each once; no image where it has no base."""
        bases, platform = options.base, platform_of(options)
        chain: list[Placed] = []
        for base in bases:
            chain += missing(chain, self.made[base].chain) if base in node.needs else placed(self.foreign.read(base, platform))
        layers = tuple(each.layer for each in chain)
        return Image(Image.empty(platform).config, layers) if bases else None, chain

    # --- images ---

    def _image(self, node: Node, options: ImageOptions) -> Task | None:
        base, chain = self._base(node, options.base, platform_of(options))
        above: list[Placed] = []
        for name in options.layers:
            brought = self.made[name].chain if name in node.needs else [Placed(open_layer(name))]
            above += missing([*chain, *above], brought) if name in node.needs else brought
        own = self._split(node, chain, len(above))
        if isinstance(own, Task):
            return own
        ids = chain_ids([each.diff_id for each in (*(below.layer for below in chain), *own)])[len(chain) :]
        split = [Placed(layer, chain_id) for layer, chain_id in zip(own, ids, strict=True)]
        above = missing(split, above)  # what is put on top may be built upon the same closure
        image = image_of(options, base, own, [each.layer for each in above])
        made = Made(image.manifest_digest, (*chain, *split, *above), image)
        output = options.output
        if output is None:
            if node.name not in self._needed:
                self._note(node, "has no output, so that nothing is written")
            self._have(node, made, "unchanged")
            return None
        stored = [NamedImage(image, tuple(dict.fromkeys(map(tag_of, options.tag))))]
        kind = format_of(options)
        what = hashlib.sha256(kind.encode() + index(stored, several_platforms=False)[0]).hexdigest()
        if Outputs.within(self.cache).holds(output, what):
            self._have(node, made, "unchanged")
            return None

        def write(tell: Teller) -> None:
            with Outputs.within(self.cache).noting(output, what):
                write_images(stored, output, kind, progress=tell)

        return Task(node, "write", write, made)

    def _split(self, node: Node, below: Sequence[Placed], above: int) -> tuple[LayerBlob, ...] | Task:
        """Give the layers of an image's closure, where it has one; or what is to be done for them."""
        splitting = self.splittings.get(node.name)
        if splitting is None:
            return ()
        groups = self._reading(node, lambda: splitting.groups([each.layer for each in below], above), long=bool(below))
        if isinstance(groups, Task):
            return groups
        specs = splitting.of_groups(groups)
        keys = tuple(map(layer_key, specs))
        layers = self._holder.open(keys)
        if layers is not None:
            return layers
        self._check_not_built(node)

        def build(tell: Teller) -> None:
            hold_layers(specs, self._holder, tell)
            tell.held()

        return Task(node, "build", build, keys=keys)

    def _check_not_built(self, node: Node) -> None:
        """Refuse to build what was just built, and is not there."""
        if node.name in self._built:
            message = f"{self._holder.layers.place}: what was built for {node.name} is not there any more"
            raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")

    def _base(self, node: Node, name: str | None, platform: Platform) -> tuple[Image | None, list[Placed]]:
        """Give an image's base, where it has one, and the layers of that."""
        if name is None:
            return None, []
        if name not in node.needs:
            image = self.foreign.read(name, platform)
            return image, placed(image)
        made = self.made[name]
        image = made.image or Image.empty(platform).append(*(each.layer for each in made.chain))
        return image, list(made.chain)

    def _reading(self, node: Node, read: Callable[[], list[Any]], *, long: bool) -> list[Any] | Task:
        """Give what has to be read for a node, once; where that takes long and others work, a child reads it."""
        if node.name not in self._read:
            if long and self._running:
                return Task(node, "read", lambda tell: tell.read(read()))
            self._read[node.name] = read()
        return self._read[node.name]

    # --- work ---

    def _start(self) -> None:
        """Begin with as many tasks as there may be. Of layers that are the same only one is built: the others are found then."""
        for task in list(self._tasks):
            if len(self._running) >= self.jobs:
                break
            if task.keys and any(of.keys == task.keys for of, _ in self._running.values()):
                continue
            self._tasks.remove(task)
            if task.keys and all(key in self._holder for key in task.keys):
                self._look(task.node)
                continue
            if task.action != "read":
                self.show(Start(task.node, task.action))
            self._running[task.node.name] = task, Job(task.work)

    def _listen(self) -> None:
        """Wait until one of those that work says something, or ends."""
        poll = select.poll()
        of: dict[int, str] = {}
        for name, (_, job) in self._running.items():
            for descriptor in (job.reports, job.words):
                poll.register(descriptor, select.POLLIN)
                of[descriptor] = name
        ready = poll.poll(_TICK_MILLISECONDS)
        if not ready:
            self.show.tick()
        for descriptor, _ in ready:
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
                    self._report(task, job, json.loads(line))

    def _report(self, task: Task, job: Job, said: dict[str, Any]) -> None:
        if "failed" in said:
            job.failed = from_report(*said["failed"])
        elif "read" in said:
            self._read[task.node.name] = said["read"]
        elif "held" in said:
            with contextlib.suppress(OSError):  # they are looked for again, and it is said then
                for key in task.keys:
                    self._holder.find(key)
            job.let_go()
        else:
            self.show(Working(task.node, Progress(**said["progress"])))

    def _say(self, node: Node, lines: Sequence[bytes]) -> None:
        for line in lines:
            self.show(Output(node, line.decode(errors="backslashreplace")))

    def _finish(self, task: Task, job: Job) -> None:
        node = task.node
        if job.failed is not None:
            self._fail(Failed(node, job.failed))
        elif task.made is not None:
            self._have(node, task.made, "placed" if task.action == "place" else "written")
        else:
            if task.action == "build":
                self._built[node.name] = task.keys
            self._look(node)  # it is found now

    def _note(self, node: Node, note: str) -> None:
        self.show(Working(node, Progress("check", note=note)))

    def _have(self, node: Node, made: Made, status: Status) -> None:
        self.made[node.name] = made
        if node.name in self._built and status != "written":
            status = "built"
        self.show(Done(node, status, made.digest))

    def _fail(self, failed: Failed) -> None:
        self._lost[failed.name] = failed.name
        self.status = self.status or failed.exit_status
        self.show(failed)
