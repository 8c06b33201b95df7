"""A layer taken from the cache where nothing changed, and put there where something did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer import given
from rootless_layer.layer.layer import Layer, made_from
from rootless_layer.plan.spec import Blob, LayerSpec, Stage
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.replace import ASIDE, make_folder
from rootless_layer.system.temporary import Temporary

from .key import layer_key
from .layers import LayerCache
from .room import keeping, making_room, within_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.tree.base import Base

    from .layers import Entry


def sources(spec: LayerSpec, chain_id: str | None) -> dict[str, Any]:
    """Give what ``layer.json`` says a layer was made from, also where its base is not open."""
    return made_from(spec) | ({} if chain_id is None else {"base": chain_id})


def build_cached(  # noqa: PLR0913 - what build_layer takes, and a base that is opened late
    spec: LayerSpec,
    output: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    *,
    chain_id: str | None = None,
    open_base: Callable[[], Base | None] | None = None,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
) -> Layer:
    """Put a layer in the directory ``output``, from the cache, or built and kept there.

    ``cache`` is :func:`rootless_layer.cache.place.cache_directory`. A base need not be open: where
    ``spec`` has none, ``chain_id`` is that of the one that ``open_base`` opens when the layer has to be built.
    The directory is what :func:`rootless_layer.build_layer` would have made of it, whose errors
    this raises as well.
    """
    given.instance("spec", spec, LayerSpec, "a LayerSpec")
    given.one_of("stage", stage, Stage)
    given.one_of("blob", blob, Blob)
    output, cache = given.path("output", output), Path(given.path("cache", cache))
    tell = given.function("progress", silent if progress is None else progress)
    if chain_id is not None:
        given.text("chain_id", chain_id)
    if open_base is not None:
        given.function("open_base", open_base)

    def while_built(step: Progress) -> None:
        if step.stage not in {"publish", "done"}:  # that is when it takes its place in the output
            tell(step)

    spec = spec.apart_from(output, caches=(cache,))
    layers = LayerCache.within(cache)
    tell(Progress("plan"))
    key = layer_key(spec, blob=blob, chain_id=chain_id, progress=tell)
    entry = layers.find(key)
    if entry is None:
        whole = spec if open_base is None else attrs.evolve(spec, base=open_base())
        entry = layers.build(key, whole, blob=blob, stage=stage, progress=while_built, on_output=on_output)
    else:
        for note in spec.left_out.notes(spec.inputs()):
            tell(Progress("plan", note=note))
    try:
        entry.deliver(output, sources(spec, chain_id), progress=tell)
    finally:
        entry.lease.release()
    tell(Progress("done"))
    return Layer.at(Path(os.path.realpath(output)))


class Holder:
    """Layers of the cache that are in use until a stack unwinds, each leased once."""

    def __init__(self, layers: LayerCache, stack: ExitStack) -> None:
        """Hold none."""
        self.layers, self._stack = layers, stack
        self._held: dict[str, Entry] = {}

    def __contains__(self, key: str) -> bool:
        """Say whether a layer is held."""
        return key in self._held

    def find(self, key: str) -> Entry | None:
        """Look a layer up, and hold it."""
        if key not in self._held and (entry := self.layers.find(key)) is not None:
            self._hold(key, entry)
        return self._held.get(key)

    def keep(self, made: Path, key: str) -> None:
        """Put a layer into the cache, and hold it."""
        self._hold(key, self.layers.keep(made, key))

    def open(self, keys: Sequence[str]) -> tuple[LayerBlob, ...] | None:
        """Give layers, if all of them are there."""
        entries = [self.find(key) for key in keys]
        return None if None in entries else tuple(entry.open() for entry in entries if entry is not None)

    def _hold(self, key: str, entry: Entry) -> None:
        self._held[key] = entry
        self._stack.callback(entry.lease.release)


def hold_layers(specs: Sequence[LayerSpec], holder: Holder, progress: Report = silent) -> tuple[LayerBlob, ...]:
    """Give layers of store paths from the cache; those that are not there are built and kept.

    Raises what :func:`.layer.of_closure.build_layers` raises.
    """
    keys = [layer_key(spec) for spec in specs]
    missing = {key: spec for key, spec in zip(keys, specs, strict=True) if holder.find(key) is None}
    if missing:
        from rootless_layer.layer.of_closure import write_layers  # noqa: PLC0415 - not needed to look up

        place = holder.layers.place
        with making_room(place.parent), Temporary() as temporary, keeping(place), within_cache(place):
            make_folder(place)
            made = Path(temporary.make(str(place), ASIDE))
            names = write_layers([*missing.values()], made, "stored", progress=progress)
            for key, name in zip(missing, names, strict=True):
                holder.keep(made / name, key)
    return holder.open(keys) or ()
