"""Layers: built, taken from the cache, and opened."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer import given
from rootless_layer.cache.build import build_cached, build_uncached, mounts_cache
from rootless_layer.cache.place import cache_directory
from rootless_layer.errors import CancelledError
from rootless_layer.layer.build import build_layer as build_plain
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.progress import Progress, silent
from rootless_layer.system.temporary import Temporary

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.layer.layer import Layer
    from rootless_layer.plan.spec import Blob, Stage


@attrs.define(slots=True)
class Cancellation:
    """Ends a build from another thread, or from a signal's handler: give it as ``cancel``, and call :meth:`cancel`."""

    _asked: threading.Event = attrs.field(factory=threading.Event, init=False, repr=False)

    def cancel(self) -> None:
        """Have the build end as soon as it can, which then raises :class:`CancelledError`. May be called any number of times."""
        self._asked.set()

    @property
    def cancelled(self) -> bool:
        """Say whether the build was asked to end."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise :class:`CancelledError` where the build was asked to end."""
        if self._asked.is_set():
            message = "the build was cancelled"
            raise CancelledError(message)


def build_layer(  # noqa: PLR0913 - what, where to, and how
    spec: LayerSpec,
    output: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | bool | None = None,
    stage: Stage = "auto",
    blob: Blob = "stored",
    progress: Callable[[Progress], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
    cancel: Cancellation | None = None,
) -> Layer:
    """Build a layer and put it in the directory ``output``, whole or not at all.

    :param spec: everything that decides the layer's bytes.
    :param output: a directory's path. It takes the place of an earlier layer or of an empty directory.
    :param cache: a directory in which layers are kept between builds, or ``True`` for :func:`cache_directory`. A
        layer whose spec has not changed is taken from there. Without a cache the layer is built. The caches that its
        scripts mount lie in that directory, or in :func:`cache_directory`.
    :param stage: how store paths get in front of the scripts: ``auto``, ``bind``, ``hardlink`` or ``copy``. The
        layer's bytes do not depend on it.
    :param blob: ``stored`` writes the blob, ``derived`` only the description from which it is made again.
    :param progress: is called on the calling thread with what is being done. An error that it raises ends the
        build, and leaves nothing.
    :param on_output: is called on the calling thread with the bytes that scripts write, as they come. Without it they
        go to file descriptor 2.
    :param cancel: ends the build from another thread, within half a second while a script runs.
    :returns: the layer in its place.
    :raises RootlessLayerError: of a kind that :mod:`rootless_layer.errors` describes; the output is as it was before.
    """
    tell = given.function("progress", silent if progress is None else progress)
    if cancel is not None:
        given.instance("cancel", cancel, Cancellation, "a Cancellation")
        told = tell

        def tell(step: Progress) -> None:
            told(step)
            if step.stage not in {"publish", "done"}:
                cancel.check()

        cancel.check()
        on_output = on_output or _to_stderr  # so that the build looks up while a script runs
    if cache is None or cache is False:
        if given.instance("spec", spec, LayerSpec, "a LayerSpec").scripts and mounts_cache(spec):
            return build_uncached(spec, output, cache_directory(), stage=stage, blob=blob, progress=tell, on_output=on_output)
        return build_plain(spec, output, stage=stage, blob=blob, progress=tell, on_output=on_output)
    place = cache_directory() if cache is True else Path(given.path("cache", cache))
    with Temporary():
        return build_cached(spec, output, place, stage=stage, blob=blob, progress=tell, on_output=on_output)


def _to_stderr(words: bytes) -> None:
    while words:
        words = words[os.write(2, words) :]
