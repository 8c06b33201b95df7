"""A graph made: what needs nothing that is missing is looked up, or worked on, several at a time.

To look a layer up takes no process, unless others work, which are listened to meanwhile. What has
to be built, put in its place or written is done by a forked child each, so that one that fails takes
nothing with it but what needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.cache.build import Holder, hold_layers
from rootless_layer.cache.key import key_of, layer_key
from rootless_layer.cache.layers import LayerCache
from rootless_layer.cache.outputs import Outputs
from rootless_layer.cache.parts import Key
from rootless_layer.errors import OutputError, RootlessLayerError
from rootless_layer.image.image import Origin
from rootless_layer.image.index import index
from rootless_layer.image.read import NamedImage
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.layer import made_from
from rootless_layer.oci.descriptor import chain_ids, sha256
from rootless_layer.oci.reference import tag_of
from rootless_layer.options.layer import LayerOptions
from rootless_layer.progress import Progress
from rootless_layer.system.border import of_machine

from .anew import Anew, point_to_tidy
from .below import Below
from .chain import Made, Placed, missing
from .crew import Crew
from .events import Done, Failed, Planned, Skipped, Working
from .output import beside, write_output
from .resolve import format_of, image_of, platform_of
from .task import Task
from .why import REFRESHED, Why, above, of_layer
from .worker import shell_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.cache.layers import CachedLayer
    from rootless_layer.cache.targets import Target
    from rootless_layer.image.open import Foreign
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.options.image import ImageOptions
    from rootless_layer.plan.spec import LayerSpec

    from .crew import Work
    from .events import Status
    from .graph import Node
    from .screen import Screen
    from .worker import Teller

_CLOSURE = Why("not in the cache")


def _nothing(_tell: Teller) -> None:
    """Do nothing: it is only planned."""


@attrs.define(slots=True)
class Maker:
    """Makes nodes, each after what it needs; ``show`` is called with an event for each thing that happens.

    ``specs`` has a spec for each layer, ``splittings`` says how each image's closure is split,
    ``cache`` is the cache's directory, ``jobs`` is how many may be worked on at a time. Entries
    of the cache stay in use until ``stack`` unwinds. ``record`` gives a node's record by its name; the layers of those
    that are ``refreshed`` are built although they are in the cache. Where it is ``dry``, all is only said;
    where a script fails, a ``shell`` is opened if that is wanted.
    """

    specs: Mapping[str, LayerSpec]
    splittings: Mapping[str, Splitting]
    cache: Path
    jobs: int
    show: Screen
    stack: contextlib.ExitStack
    foreign: Foreign
    record: Callable[[str], Target]
    refreshed: Collection[str] = ()
    dry: bool = False
    shell: bool = False
    made: dict[str, Made] = attrs.field(factory=dict)
    status: int = 0
    _built: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    _needed: set[str] = attrs.field(factory=set)
    _read: dict[str, list[Any]] = attrs.field(factory=dict)
    """What is known of nodes for which trees or layers had to be read."""
    _lost: dict[str, str] = attrs.field(factory=dict)
    _tasks: list[Task] = attrs.field(factory=list)
    _planned: set[str] = attrs.field(factory=set)
    """The nodes that would be built in a dry run, of which nobody knows yet what would come of them."""
    _whys: dict[str, tuple[Why, str]] = attrs.field(factory=dict)
    """Why nodes were made, and the paths of their logs."""
    _crew: Crew = attrs.field(
        default=attrs.Factory(lambda self: Crew(self.jobs, self.show, self._told, self._ended), takes_self=True)
    )
    _holder: Holder = attrs.field(
        default=attrs.Factory(lambda self: Holder(LayerCache.within(self.cache), self.stack), takes_self=True)
    )
    _anew: Anew = attrs.field(default=attrs.Factory(lambda self: Anew(self.refreshed, self._holder), takes_self=True))
    _below: Below = attrs.field(default=attrs.Factory(lambda self: Below(self.made, self.foreign, self.cache), takes_self=True))

    def make(self, nodes: Sequence[Node]) -> int:
        """Make the nodes, which are in order; give 0, or the exit status of the first that failed."""
        waiting = {node.name: node for node in nodes}
        self._needed.update(need for node in nodes for need in node.needs)
        while waiting or self._tasks or self._crew:
            for node in [node for node in waiting.values() if self._may_begin(node)]:
                del waiting[node.name]
                self._look(node)
                self._start()
            self._start()
            if self._crew:
                self._crew.listen()
        return self.status

    def _may_begin(self, node: Node) -> bool:
        if all(need in self.made or need in self._planned for need in node.needs):
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
        if (need := next((need for need in node.needs if need in self._planned), None)) is not None:
            self._plan(Task(node, "build" if node.kind == "layer" else "write", _nothing, why=above(need)))
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
        if task is not None and self.dry:
            self._plan(task)
        elif task is not None:
            self._tasks.append(task)

    def _plan(self, task: Task) -> None:
        """Say what would be done, and go on as if it were."""
        self.show(Planned(task.node, task.action, task.why))
        if task.made is None:
            self._planned.add(task.node.name)
        else:
            self.made[task.node.name] = task.made

    # --- layers ---

    def _layer(self, node: Node, options: LayerOptions) -> Task | None:
        below, chain = self._below.of_layer(options, options.base)
        copied = {name: self._below.of_layer(options, (name,))[0] for name in options.copied}
        copies = [attrs.evolve(each.copy, image=copied[each.image]) for each in options.copies_from]
        spec, blob = self.specs[node.name], options.blob
        spec = attrs.evolve(spec, base=below, copies=(*spec.copies, *copies))
        read = self._reading(node, lambda: [key_of(spec, blob=blob).to_json()], long=bool(spec.inputs()))
        if isinstance(read, Task):
            return read
        key = Key.of_json(read[0])
        anew = self._anew.layer(node, key.digest)
        entry, output, record = None if anew else self._holder.find(key.digest), options.output, self.record(node.name)

        def what(layer: LayerBlob) -> str:
            return sha256(json.dumps([key.digest, layer.descriptor.digest, made_from(spec)], sort_keys=True).encode())

        def place(found: CachedLayer) -> None:
            if output is not None:
                with Outputs.within(self.cache).noting(output, what(found.open())):
                    found.deliver(output, made_from(spec))

        if entry is not None:
            layer = attrs.evolve(entry.open(), created_by=spec.created_by, comment=spec.comment)
            own = chain_ids([*(each.layer.diff_id for each in chain), layer.diff_id])[-1]
            made = Made(layer.descriptor.digest, (*chain, Placed(layer, own)), run_config=spec.run_config_below)
            self._remember(record, key.digest)
            lacks = "" if output is None else Outputs.within(self.cache).lacks(output, what(layer))
            if not lacks:
                self._have(node, made, "built" if node.name in self._built else "unchanged")
                return None
            return Task(node, "place", lambda _tell: place(entry), made, why=Why(lacks))

        self._check_not_built(node)

        def build(tell: Teller) -> None:
            with shell_for(tell, wanted=self.shell) as terminal:
                built = self._holder.layers.build(
                    key.digest, spec, blob=blob, stage=options.stage, progress=tell, on_failure=terminal,
                    anew=partial(point_to_tidy, tell) if anew else None,
                )  # fmt: skip
            place(built)
            tell.held()

        last = record.key
        why = REFRESHED if anew else of_layer(key, last, self._holder.layers.place / last)
        return Task(node, "build", build, keys=(key.digest,), anew=anew, why=why, record=record)

    def _remember(self, record: Target, key: str) -> None:
        """Note how a layer was made, for the next time; a cache may be one that can only be read."""
        if not self.dry:
            with contextlib.suppress(OutputError):
                record.note(key)

    # --- images ---

    def _image(self, node: Node, options: ImageOptions) -> Task | None:
        base, chain = self._below.of_image(node, options.base, platform_of(options))
        above: list[Placed] = []
        for name in options.layers:
            brought = self.made[name].chain if name in node.needs else [Placed(open_layer(name))]
            above += missing([*chain, *above], brought) if name in node.needs else brought
        own = self._split(node, chain, len(above))
        if isinstance(own, Task):
            return own
        ids = chain_ids([each.diff_id for each in (*(below.layer for below in chain), *own)])[len(chain) :]
        split = [Placed(layer, chain_id) for layer, chain_id in zip(own, ids, strict=True)]
        above = missing(split, above)  # a layer on top may be built upon some of these layers itself
        image = image_of(options, base, own, [each.layer for each in above])
        names = tuple(dict.fromkeys(map(tag_of, options.tag)))
        known = attrs.evolve(image, origin=Origin.of(names, image.manifest_digest))
        made = Made(image.manifest_digest, (*chain, *split, *above), known, image.run_config)
        output = options.output
        if output is None:
            if node.name not in self._needed:
                self._note(node, "has no output, so that nothing is written")
            self._have(node, made, "unchanged")
            return None
        stored = [NamedImage(image, names)]
        kind = format_of(options)
        what = hashlib.sha256(kind.encode() + index(stored, several_platforms=False)[0] + beside(options)).hexdigest()
        lacks = Outputs.within(self.cache).lacks(output, what)
        if not lacks:
            self._have(node, made, "unchanged")
            return None

        def write(tell: Teller) -> None:
            with Outputs.within(self.cache).noting(output, what):
                write_output(options, stored[0], kind, self.splittings.get(node.name), tell)

        return Task(node, "write", write, made, why=Why(lacks))

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
        anew = self._anew.closure(node, keys)
        layers = None if anew else self._holder.open(keys)
        if layers is not None:
            return layers
        self._check_not_built(node)

        def build(tell: Teller) -> None:
            hold_layers(specs, self._holder, tell, anew=anew)
            tell.held()

        return Task(node, "build", build, keys=keys, anew=anew, why=REFRESHED if anew else _CLOSURE)

    def _check_not_built(self, node: Node) -> None:
        """Refuse to build what was just built, and is not there."""
        if node.name in self._built:
            message = f"{self._holder.layers.place}: what was built for {node.name} is not there any more"
            raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")

    def _reading(self, node: Node, read: Callable[[], list[Any]], *, long: bool) -> list[Any] | Task:
        """Give what has to be read for a node, once; where that takes long and others work, a child reads it."""
        if node.name not in self._read:
            if long and self._crew:
                return Task(node, "read", lambda tell: tell.read(read()))
            self._read[node.name] = read()
        return self._read[node.name]

    # --- work ---

    def _start(self) -> None:
        """Begin with as many tasks as there may be. Of layers that are the same only one is built: the others are found then."""
        for task in list(self._tasks):
            if self._crew.is_full:
                break
            if task.keys and any(of.keys == task.keys or task.anew.intersection(of.keys) for of in self._crew.tasks()):
                continue
            self._tasks.remove(task)
            if task.anew & self._anew.fresh or (task.keys and not task.anew and all(key in self._holder for key in task.keys)):
                self._look(task.node)
                continue
            self._crew.start(task)

    def _told(self, work: Work, said: Mapping[str, Any]) -> None:
        if "read" in said:
            self._read[work.task.node.name] = said["read"]
        elif "held" in said:
            self._anew.fresh.update(work.task.keys)
            with contextlib.suppress(OSError):  # they are looked for again, and it is said then
                for key in work.task.keys:
                    self._holder.find(key)
            work.job.let_go()

    def _ended(self, work: Work) -> None:
        task = work.task
        node = task.node
        if work.job.failed is not None:
            self._fail(Failed(node, work.job.failed, work.logged))
            return
        if task.action != "read":
            self._whys.setdefault(node.name, (task.why, work.logged))
        if task.made is not None:
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
        self.show(Done(node, status, made.digest, *self._whys.get(node.name, ())))

    def _fail(self, failed: Failed) -> None:
        self._lost[failed.name] = failed.name
        self.status = self.status or failed.exit_status
        self.show(failed)
