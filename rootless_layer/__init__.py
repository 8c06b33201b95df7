"""A tree and a script in, a reproducible OCI layer out: no root, no VM, no daemon.

::

    from rootless_layer import LayerSpec, Script, build_layer, load_closure

    spec = LayerSpec(closure=load_closure("graph"), scripts=(Script.text("mkdir /data"),))
    layer = build_layer(spec, "out")

Names are imported when they are first used, so that what a caller does not use costs
nothing at its start.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache.bases import open_base
    from .cache.build import build_cached
    from .cache.place import cache_directory
    from .errors import RootlessLayerError
    from .image.image import Image
    from .image.read import read_images
    from .image.write import export_images
    from .layer.blob import LayerBlob, open_layer
    from .layer.build import build_layer
    from .layer.layer import Layer
    from .layer.of_closure import build_layers, read_strategy
    from .plan.spec import LayerSpec, Script
    from .store.closure import Closure, StorePath
    from .store.layering import ByList, ByPopularity, BySize
    from .store.layering_pipeline import Pipeline
    from .store.read import closure_of_paths, load_closure
    from .tar.compression import Compression
    from .tree.base import Base
    from .tree.tree import Entry, Tree
    from .version import __version__

_HOMES = {
    "Base": "tree.base",
    "ByList": "store.layering",
    "ByPopularity": "store.layering",
    "BySize": "store.layering",
    "Closure": "store.closure",
    "Compression": "tar.compression",
    "Entry": "tree.tree",
    "Image": "image.image",
    "Layer": "layer.layer",
    "LayerBlob": "layer.blob",
    "LayerSpec": "plan.spec",
    "Pipeline": "store.layering_pipeline",
    "RootlessLayerError": "errors",
    "Script": "plan.spec",
    "StorePath": "store.closure",
    "Tree": "tree.tree",
    "__version__": "version",
    "build_cached": "cache.build",
    "build_layer": "layer.build",
    "build_layers": "layer.of_closure",
    "cache_directory": "cache.place",
    "closure_of_paths": "store.read",
    "export_images": "image.write",
    "load_closure": "store.read",
    "open_base": "cache.bases",
    "open_layer": "layer.blob",
    "read_images": "image.read",
    "read_strategy": "layer.of_closure",
}
__all__ = [
    "Base", "ByList", "ByPopularity", "BySize", "Closure", "Compression", "Entry", "Image", "Layer", "LayerBlob",
    "LayerSpec", "Pipeline", "RootlessLayerError", "Script", "StorePath", "Tree", "__version__", "build_cached",
    "build_layer", "build_layers", "cache_directory", "closure_of_paths", "export_images", "load_closure", "open_base",
    "open_layer", "read_images", "read_strategy",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type checker reads the imports above
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from .system.border import guarded  # noqa: PLC0415 - when something is used

    value = getattr(guarded(import_module)(f".{_HOMES[name]}", __name__), name)
    if isinstance(value, FunctionType):
        value = guarded(value)
    globals()[name] = value
    return value
