"""A layer taken from the cache where nothing changed, and put there where something did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rootless_layer import given
from rootless_layer.layer.build import build_layer
from rootless_layer.layer.layer import Layer, made_from
from rootless_layer.plan.spec import Blob, LayerSpec, Stage
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.replace import ASIDE, make_folder
from rootless_layer.system.temporary import Temporary

from .key import key_of, layer_key
from .layers import LayerCache
from .room import keeping, making_room, within_cache
from .segments import CachedSegments

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import ExitStack

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.session.attached import Terminal

    from .layers import CachedLayer
    from .parts import Key


def build_cached(  # noqa: PLR0913 - what build_layer takes, and the cache
    spec: LayerSpec,
    output: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    *,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
    on_failure: Terminal | None = None,
) -> Layer:
    """Put a layer in the directory ``output``, from the cache, or built and kept there.

    ``cache`` is :func:`rootless_layer.cache.place.cache_directory`. A base that is a
    :class:`.plan.base.LazyBase` is opened only where the layer has to be built.
    The directory is what :func:`rootless_layer.build_layer` would have made of it, whose errors
    this raises as well.
    """
    given.instance("spec", spec, LayerSpec, "a LayerSpec")
    given.one_of("stage", stage, Stage)
    given.one_of("blob", blob, Blob)
    output, cache = given.path("output", output), Path(given.path("cache", cache))
    tell = given.function("progress", silent if progress is None else progress)

    def while_built(step: Progress) -> None:
        if step.stage not in {"publish", "done"}:  # that is when it takes its place in the output
            tell(step)

    spec = spec.apart_from(output, caches=(cache,))
    layers = LayerCache.within(cache)
    tell(Progress("plan"))
    key = layer_key(spec, blob=blob, progress=tell)
    entry = found = layers.find(key)
    if entry is None:
        entry = layers.build(key, spec, blob=blob, stage=stage, progress=while_built, on_output=on_output, on_failure=on_failure)
    else:
        for note in spec.left_out.notes(spec.inputs()):
            tell(Progress("plan", note=note))
    try:
        entry.deliver(output, made_from(spec), progress=tell)
    finally:
        entry.lease.release()
    layer = Layer.at(Path(os.path.realpath(output)))
    tell(Progress("done", known=0 if found is None else layer.uncompressed_size))
    return layer


def build_uncached(  # noqa: PLR0913 - what build_layer takes, and the cache
    spec: LayerSpec,
    output: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    *,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
    on_failure: Terminal | None = None,
) -> Layer:
    """Build a layer whose scripts mount caches, which are kept in ``cache``; the layer itself is not.

    Raises what :func:`rootless_layer.build_layer` does.
    """
    cache = Path(given.path("cache", cache))
    with making_room(cache):
        return build_layer(
            spec, output, stage=stage, blob=blob, cache=cache, progress=progress, on_output=on_output, on_failure=on_failure
        )


def mounts_cache(spec: LayerSpec) -> bool:
    """Say whether the scripts of a spec mount a cache."""
    return any(mount.type == "cache" for mount in spec.mounts)


class Holder:
    """Layers of the cache that are in use until a stack unwinds, each leased once."""

    def __init__(self, layers: LayerCache, stack: ExitStack) -> None:
        """Hold none."""
        self.layers, self._stack = layers, stack
        self._held: dict[str, CachedLayer] = {}

    def __contains__(self, key: str) -> bool:
        """Say whether a layer is held."""
        return key in self._held

    def find(self, key: str) -> CachedLayer | None:
        """Look a layer up, and hold it."""
        if key not in self._held and (entry := self.layers.find(key)) is not None:
            self._hold(key, entry)
        return self._held.get(key)

    def keep(self, made: Path, key: Key, *, anew: bool = False) -> None:
        """Put a layer into the cache, and hold it; ``anew`` is as of :meth:`LayerCache.keep`."""
        self._hold(key.digest, self.layers.keep(made, key, anew=anew))

    def open(self, keys: Sequence[str]) -> tuple[LayerBlob, ...] | None:
        """Give layers, if all of them are there."""
        entries = [self.find(key) for key in keys]
        return None if None in entries else tuple(entry.open() for entry in entries if entry is not None)

    def _hold(self, key: str, entry: CachedLayer) -> None:
        self._held[key] = entry
        self._stack.callback(entry.lease.release)


def hold_layers(
    specs: Sequence[LayerSpec], holder: Holder, progress: Report = silent, *, anew: Collection[str] = ()
) -> tuple[LayerBlob, ...]:
    """Give layers of store paths from the cache; those that are not there are built and kept.

    ``anew`` has the keys of those that are built although they are there. In the end ``progress`` is told what was known.
    Raises what :func:`.layer.of_closure.build_layers` raises.
    """
    keys = [key_of(spec) for spec in specs]
    missing = {
        key.digest: (key, spec)
        for key, spec in zip(keys, specs, strict=True)
        if key.digest in anew or holder.find(key.digest) is None
    }
    known = 0
    if missing:
        from rootless_layer.layer.of_closure import write_layers  # noqa: PLC0415 - not needed to look up

        place = holder.layers.place
        with making_room(place.parent), Temporary() as temporary, keeping(place), within_cache(place):
            make_folder(place)
            made = Path(temporary.make(str(place), ASIDE))
            segments = CachedSegments(place, any(key in missing for key in anew))
            segments.read()
            new = [spec for _, spec in missing.values()]
            names, known = write_layers(new, made, "stored", progress=progress, segments=segments)
            for (key, _), name in zip(missing.values(), names, strict=True):
                holder.keep(made / name, key, anew=key.digest in anew)
    layers = holder.open([key.digest for key in keys]) or ()
    sizes = {key.digest: layer.uncompressed_size or 0 for key, layer in zip(keys, layers, strict=False)}
    found = [size for key, size in sizes.items() if key not in missing]
    size = sum(sizes.values())
    progress(Progress("layers", size, size, known=known + sum(found), found=len(found)))
    return layers
