"""A closure as layers: split by a strategy, and a layer made of each group of store paths."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, reason
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, sha256
from rootless_layer.plan.plan import plan
from rootless_layer.plan.spec import Blob, LayerSpec
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.store.closure import Closure
from rootless_layer.store.layering import MOST_LAYERS, POPULAR, ByList, BySize, split
from rootless_layer.store.layering_balanced import Balanced
from rootless_layer.store.layering_pipeline import STEPS, Pipeline
from rootless_layer.store.nar_size import nar_sizes
from rootless_layer.system.files import WritebackFile
from rootless_layer.system.fork import Tally, for_each_forked
from rootless_layer.system.machine import of_reading
from rootless_layer.system.replace import aside, check_replaceable, settle, writing
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar import libarchive
from rootless_layer.tar.compression import BlobWriter, Compression
from rootless_layer.tar.parallel import serialise, tar_size
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.table import Table

from .blob import LayerBlob, Piece, open_layer
from .contents import store_paths
from .layer import in_order, write_layer
from .made import CLOSURE_LAYERS, LAYERS_JSON
from .segments import from_outset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rootless_layer.store.closure import StorePath
    from rootless_layer.store.layering import ReferenceGraph, Strategy
    from rootless_layer.tree.tree import Entry, Tree

    from .segments import Outset, Segments

_LARGE_BYTES = 64 << 20
BALANCED = "balanced"
"""How a closure is split where nobody says it: of an update the fewest bytes are pushed and pulled (docs/performance.md)."""
_SIZED: Mapping[str, Callable[[Mapping[StorePath, int]], Strategy]] = {"size": BySize, BALANCED: Balanced}
_MADE = struct.Struct("=32s32sQQ")
_HINT = "Give `balanced`, `popularity`, `size`, or a JSON file with a list of groups or a layeringPipeline."


def build_layers(  # noqa: PLR0913 - as many things decide the layers
    closure: Closure,
    max_layers: int,
    output: str | os.PathLike[str],
    *,
    strategy: Strategy | None = None,
    source_date_epoch: int = 1,
    uid: int = 0,
    gid: int = 0,
    uname: str = "",
    gname: str = "",
    compression: Compression | None = None,
    set_times: bool = False,
    allow_sparse: bool = False,
    link_identical: bool = False,
    blob: Blob = "derived",
) -> tuple[LayerBlob, ...]:
    """Split a closure into layers and put them below a directory, whole or not at all.

    In the directory they are ``00``, ``01``, …, each as :func:`.build_layer` would have put it there, and
    ``layers.json`` lists them in order. The same closure gives the same layers.

    :param closure: store paths with all that they refer to.
    :param max_layers: how many layers there may be, from 1.
    :param output: a directory's path. It takes the place of an earlier output of this kind or of an empty directory.
    :param strategy: says which store paths share a layer; :class:`.Balanced` where it is not given.
    :param source_date_epoch: the latest time in the layers, in seconds since 1970.
    :param uid: the user who owns everything.
    :param gid: the group that owns everything.
    :param uname: the user's name in the headers, as in :class:`LayerSpec`.
    :param gname: the group's.
    :param compression: how the blobs are stored; not compressed where it is not given.
    :param set_times: gives everything the time ``source_date_epoch``, also what is older.
    :param allow_sparse: whether a file may have more than 1 GiB of holes, as in :class:`LayerSpec`.
    :param link_identical: whether files of the same bytes in one layer are hard links of one, as in :class:`LayerSpec`.
    :param blob: ``derived`` writes only the descriptions from which the blobs are made again, out of the store paths;
        ``stored`` writes the blobs.
    :returns: the layers in their order, the lowest first.
    :raises ClosureError: for a closure that is not whole or not there. What :func:`split` raises is raised as well,
        :class:`SourceError` for what cannot be read, and :class:`OutputError` where the output cannot be written.
    """
    given.instance("closure", closure, Closure, "a Closure")
    given.one_of("blob", blob, Blob)
    output = given.path("output", output)
    target = Path(os.path.realpath(output))
    check_replaceable(Path(output).absolute(), CLOSURE_LAYERS)
    if strategy is None:
        strategy = read_strategy(BALANCED, closure)
    if not callable(getattr(strategy, "parts", None)):
        given.refuse("strategy", strategy, "a strategy, as read_strategy gives it")
    given.instance("set_times", set_times, bool, "True or False")
    asked = LayerSpec(
        source_date_epoch=source_date_epoch,
        uid=uid,
        gid=gid,
        uname=uname,
        gname=gname,
        compression=Compression() if compression is None else compression,
        allow_sparse=allow_sparse,
        link_identical=link_identical,
    )
    closure.check()
    specs = [attrs.evolve(asked, closure=closure.only(group)) for group in split(closure, max_layers, strategy)]
    with Temporary() as temporary, aside(target, temporary, CLOSURE_LAYERS) as folder, writing(target):
        names, _ = write_layers(specs, folder, blob, set_times=set_times)
        (folder / LAYERS_JSON).write_text(json.dumps({"layers": names}, indent=2) + "\n")
    return tuple(open_layer(str(target / name)) for name in names)


def layers_left(most: int, taken: int, by: str, *, hint: str) -> int:
    """Count the layers that an image of at ``most`` so many has for its closure, where others have ``taken`` some.

    Raises :class:`InputError` where none is left: ``by`` says which they are, the hint names the option.
    """
    if taken >= most:
        message = f"of {most} layers{by}: none is left for the closure"
        raise InputError(message, hint=hint)
    return most - taken


@attrs.frozen
class Splitting:
    """A closure that an image has, and how it is split: into layers as ``asked``, the image's own ``most`` in all."""

    closure: Closure
    most: int = MOST_LAYERS
    strategy: Strategy = POPULAR
    asked: LayerSpec = attrs.field(factory=LayerSpec)

    def specs(self, below: Sequence[LayerBlob], above: int) -> list[LayerSpec]:
        """Say what its layers are, between others ``below`` them, whose store paths are left out, and so many ``above``.

        Raises what :func:`.split` and :func:`.store_paths` raise, ClosureError for a closure that is
        not whole or not there, and :class:`InputError` where no layers are left for it.
        """
        closure = self.closure
        closure.check()
        if below:
            there = store_paths(below, closure.store_dir)
            closure = closure.only([path for path in closure.paths if path not in there])
        if not closure.paths:
            return []
        by = f", {len(below)} are the base's and {above} are put on top"
        left = layers_left(self.most, len(below) + above, by, hint="Allow more with --max-layers, or max-layers in a file.")
        return [attrs.evolve(self.asked, closure=closure.only(group)) for group in split(closure, left, self.strategy)]

    def groups(self, below: Sequence[LayerBlob], above: int) -> list[list[str]]:
        """Give the store paths of each of these layers, which :meth:`of_groups` makes the layers of again."""
        specs = self.specs(below, above)
        return [[path.path for path in spec.closure.paths] for spec in specs if spec.closure is not None]

    def of_groups(self, groups: Sequence[Sequence[str]]) -> list[LayerSpec]:
        """Give layers of which the store paths are known."""
        known = {path.path: path for path in self.closure.paths}
        return [attrs.evolve(self.asked, closure=self.closure.only([known[path] for path in group])) for group in groups]


def write_layers(  # noqa: PLR0913 - which, where to, and how
    specs: Sequence[LayerSpec],
    folder: Path,
    blob: Blob,
    *,
    set_times: bool = False,
    progress: Report = silent,
    segments: Segments | None = None,
) -> tuple[list[str], int]:
    """Write layers of store paths into a directory of their own each, in processes of their own.

    Gives their names there, and how many bytes of them were known. Of what ``segments`` know of the layers no file is read.

    Raises what :func:`build_layers` raises, and :class:`OSError`.
    """
    names = [f"{number:02}" for number in range(len(specs))]
    done, known = Tally(len(specs)), Tally(len(specs))

    def make(number: int) -> None:
        spec, place = specs[number], folder / names[number]
        place.mkdir()
        place.chmod(0o700)  # whatever the umask is
        from_outset(None if set_times else segments, spec, blob, partial(write, number, place))
        settle(place)

    def write(number: int, place: Path, outset: Outset | None) -> None:
        spec = specs[number]
        tree = plan(spec, sealed=None if outset is None else outset.sealed).tree
        if set_times:
            tree = tree.replacing({entry.path: attrs.evolve(entry, mtime=spec.source_date_epoch) for entry in tree if entry.path})
        processes = _producers(tree.archived())

        def tell(step: Progress) -> None:
            done.set(number, step.done)
            known.add(number, step.known)  # which is said once

        write_layer(spec, tree, place, blob, tell, processes=processes, outset=outset)

    libarchive.load()  # here, and not in each child
    for_each_forked(_heaviest_first(specs), make, lambda: progress(Progress("layers", done.total)))
    return names, known.total


def make_layers(specs: Sequence[LayerSpec], folder: str = "", progress: Report = silent) -> tuple[LayerBlob, ...]:
    """Give layers of store paths for an image that this process writes next.

    Where a ``folder`` is given, an empty directory that nobody else writes to, their blobs are
    stored there, a file each; else they are derived, from what is in memory. Nothing else is
    written. Raises what :func:`build_layers` raises, and :class:`OSError` where the folder cannot be written.
    """
    trees: dict[int, Tree] = {}
    told = mmap.mmap(-1, (len(specs) or 1) * _MADE.size)  # by a child each
    done, total = Tally(len(specs)), 0

    def largest_first() -> Iterator[int]:
        """Give one to begin with, and the others when their sizes are known."""
        nonlocal total
        numbers = _heaviest_first(specs)
        for number in numbers:
            trees[number] = in_order(plan(specs[number]).tree, specs[number])
            if number == numbers[0]:
                yield number
        sizes = {number: sum(Table.of(tree.archived()).sizes) for number, tree in trees.items()}
        total = sum(sizes.values())
        yield from sorted(numbers[1:], key=lambda number: -sizes[number])

    def make(number: int) -> None:
        archive = Archive.of(trees[number])
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(WritebackFile(f"{folder}/{number}")) if folder else None
            writer = stack.enter_context(BlobWriter(specs[number].compression, file))

            def consume(part: memoryview) -> None:
                writer.write(part)
                done.set(number, writer.uncompressed_size)

            serialise(archive, consume, writer.cut, processes=_producers(archive.table))
            writer.finish()
            if file is not None:
                file.sync()
        digests = [bytes.fromhex(digest.removeprefix("sha256:")) for digest in (writer.digest, writer.diff_id)]
        _MADE.pack_into(told, number * _MADE.size, *digests, writer.size, writer.uncompressed_size)

    libarchive.load()  # here, and not in each child
    for_each_forked(largest_first(), make, lambda: progress(Progress("layers", done.total, total)))
    layers = []
    for number, spec in enumerate(specs):
        digest, diff_id, size, uncompressed_size = _MADE.unpack_from(told, number * _MADE.size)
        descriptor = Descriptor(MEDIA_TYPES[spec.compression.kind], f"sha256:{digest.hex()}", size)
        piece = Piece(f"{folder}/{number}", size) if folder else None
        layer = LayerBlob(descriptor, f"sha256:{diff_id.hex()}", piece, uncompressed_size, trusted=piece is not None)
        layers.append(attrs.evolve(layer, tree=trees[number], level=spec.compression.level))
    return tuple(layers)


def plan_layers(specs: Sequence[LayerSpec], progress: Report = silent) -> tuple[LayerBlob, ...] | None:
    """Give layers of store paths whose bytes nobody has read yet: *pending* ones, for an archive that takes digests last.

    There are none where the size of one cannot be known before (:func:`.tar_size`). Raises what :func:`build_layers` raises.
    """
    progress(Progress("layers"))
    layers = []
    for number, spec in enumerate(specs):
        tree = in_order(plan(spec).tree, spec)
        size = tar_size(Archive.of(tree).table)
        if size is None:
            return None
        stands_for = sha256(f"pending layer {number}".encode())
        descriptor = Descriptor(MEDIA_TYPES["none"], stands_for, size)
        layers.append(LayerBlob(descriptor, stands_for, None, size, tree=tree, pending=True))
    return tuple(layers)


def _producers(entries: Sequence[Entry]) -> int | None:
    """Say how many processes make a layer's tar: others work on other layers meanwhile, so only a large one has its own."""
    return None if sum(Table.of(entries).sizes) > _LARGE_BYTES else 0


def read_strategy(name: str, closure: Closure) -> Strategy:
    """Give the strategy of a name: ``balanced``, ``popularity``, ``size``, or a JSON file's.

    The file has a list. It is a ``layeringPipeline`` where an item of it begins with the name
    of a step, or is anything but a list of strings; else it is a list of groups, for
    :class:`.ByList`. For ``size`` and ``balanced``, a path whose size the
    closure does not have is measured. Raises :class:`InputError` for what is neither, and what the strategies raise.
    """
    name = given.path("name", name)
    given.instance("closure", closure, Closure, "a Closure")
    if name == "popularity":
        return POPULAR
    if name in _SIZED:
        return _Measured(closure, _SIZED[name])
    try:
        said = json.loads(Path(name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        message = f"{name}: cannot be read as JSON: {reason(error)}"
        raise of_reading(error)(message, hint=_HINT) from error
    try:
        return ByList(said) if _are_groups(said) else Pipeline(said)
    except InputError as error:
        raise InputError(*(f"{name}: {problem}" for problem in error.problems), hint=error.hint) from error


@attrs.frozen
class _Measured:
    """A strategy that needs the sizes of paths, which are seen to when these are split: by then they are known to be there."""

    closure: Closure
    made_of: Callable[[Mapping[StorePath, int]], Strategy]

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give the parts that the strategy gives."""
        return self.made_of(nar_sizes(self.closure.only(graph.group))).parts(graph, most)


def _are_groups(said: object) -> bool:
    if not isinstance(said, list) or not all(isinstance(item, list) for item in said):
        return False
    if not all(isinstance(entry, str) for item in said for entry in item):
        return False
    return not any(item[0] in STEPS for item in said if item)


def _heaviest_first(specs: Sequence[LayerSpec]) -> list[int]:
    """Guess which layers take longest: they are begun first, so that no core waits for one in the end."""

    def weight(number: int) -> tuple[int, int]:
        closure = specs[number].closure
        return (0, 0) if closure is None else (sum(closure.sizes.values()), len(closure.paths))

    return sorted(range(len(specs)), key=weight, reverse=True)
