"""A closure as layers: split by a strategy, and a layer made of each group of store paths."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .blob import open_layer
from .child import each
from .errors import InputError
from .layer import write_layer
from .layering import POPULAR, ByList, BySize, split
from .layering_pipeline import STEPS, Pipeline
from .nar import nar_sizes
from .output import aside, check_replaceable, settle, writing
from .plan import plan
from .spec import Compression, LayerSpec
from .temporary import Temporary

if TYPE_CHECKING:
    from .blob import LayerBlob
    from .closure import Closure
    from .layering import Group, Strategy
    from .spec import Blob

LAYERS_JSON = "layers.json"
_HINT = "Give `popularity`, `size`, or a JSON file with a list of groups or a layeringPipeline."


def build_layers(  # noqa: PLR0913 - as many things decide the layers
    closure: Closure,
    most: int,
    output: str | os.PathLike[str],
    *,
    strategy: Strategy = POPULAR,
    epoch: int = 1,
    uid: int = 0,
    gid: int = 0,
    compression: Compression | None = None,
    set_times: bool = False,
    blob: Blob = "derived",
) -> tuple[LayerBlob, ...]:
    """Split a closure into at most ``most`` layers and put them below the directory ``output``, whole or not at all.

    The layers are given in their order, the lowest first. Unless the ``blob`` is to be *stored*
    they are *derived*: of each there is what describes it, and the bytes come again from the
    store paths, each of which is read once here. In the directory they are ``00``, ``01``, …, each as :func:`.build_layer`
    would have put it there, and ``layers.json`` lists them in order. ``epoch``, ``uid``, ``gid``
    and ``compression`` are as in :class:`LayerSpec`; with ``set_times`` everything has the time
    ``epoch``, also what is older. The same closure gives the same layers.

    Raises :class:`ClosureError` for a closure that is not whole or not there, what
    :func:`.layering.split` raises, :class:`SourceError` for what cannot be read, and
    :class:`OutputError` where the output cannot be written.
    """
    target = Path(os.path.realpath(output))
    check_replaceable(Path(output).absolute(), LAYERS_JSON, "the layers of a closure")
    closure.check()
    groups = split(closure, most, strategy)
    names = [f"{number:02}" for number in range(len(groups))]
    with Temporary() as temporary, aside(target, temporary) as folder, writing(target):

        def make(number: int) -> None:
            part = closure.only(groups[number])
            spec = LayerSpec(closure=part, epoch=epoch, uid=uid, gid=gid, compression=compression or Compression())
            (folder / names[number]).mkdir(mode=0o700, exist_ok=True)
            tree = plan(spec).tree
            if set_times:
                tree = tree.replacing({entry.path: attrs.evolve(entry, mtime=epoch) for entry in tree if entry.path})
            write_layer(spec, tree, folder / names[number], blob, lambda _progress: None)
            settle(folder / names[number])

        each(sorted(range(len(groups)), key=lambda number: _weight(closure, groups[number]), reverse=True), make)
        (folder / LAYERS_JSON).write_text(json.dumps({"layers": names}, indent=2) + "\n")
    return tuple(open_layer(str(target / name)) for name in names)


def read_strategy(name: str, closure: Closure) -> Strategy:
    """Give the strategy of a name: ``popularity``, ``size``, or a JSON file's.

    The file has a list. It is a ``layeringPipeline`` where an item of it begins with the name
    of a step, or is anything but a list of strings; else it is a list of groups, for
    :class:`.ByList`. For ``size``, a path whose size the closure does not have is
    measured. Raises :class:`InputError` for what is neither, and what the strategies raise.
    """
    if name == "popularity":
        return POPULAR
    if name == "size":
        return BySize(nar_sizes(closure))
    try:
        said = json.loads(Path(name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        message = f"{name}: cannot be read as JSON: {getattr(error, 'strerror', None) or error}"
        raise InputError(message, hint=_HINT) from error
    try:
        return ByList(said) if _are_groups(said) else Pipeline(said)
    except InputError as error:
        raise InputError(*(f"{name}: {problem}" for problem in error.problems), hint=error.hint) from error


def _are_groups(said: object) -> bool:
    if not isinstance(said, list) or not all(isinstance(item, list) for item in said):
        return False
    if not all(isinstance(entry, str) for item in said for entry in item):
        return False
    return not any(item[0] in STEPS for item in said if item)


def _weight(closure: Closure, group: Group) -> tuple[int, int]:
    """Guess how long a layer takes: what takes longest is begun first, so that no core waits for it in the end."""
    return sum(closure.sizes.get(path, 0) for path in group), len(group)
