"""A tree and a script in, a reproducible OCI layer out: no root, no VM, no daemon.

::

    from rootless_layer import LayerSpec, Script, build_layer

    spec = LayerSpec(rootfs="debian.tar", scripts=(Script.text("mkdir /data"),))
    layer = build_layer(spec, "out")

All that a caller needs is here, and in :mod:`rootless_layer.errors`; modules below may move. Names are
imported when they are first used, so that a caller pays for those alone.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache.place import cache_directory
    from .check.diff import Comparison
    from .check.inspect import Inspection
    from .errors import RootlessLayerError
    from .image.image import Image
    from .image.read import NamedImage
    from .image.write import Format
    from .layer.blob import LayerBlob, open_layer
    from .layer.layer import Layer
    from .layer.of_closure import build_layers
    from .library.checks import compare, inspect, validate
    from .library.images import open_base, open_images, write_images
    from .library.layers import Cancellation, build_layer
    from .oci.descriptor import Descriptor, Platform
    from .oci.findings import Finding, Findings
    from .plan.spec import Blob, Conflict, LayerSpec, Link, Script, Stage, View
    from .progress import Progress
    from .store.closure import Closure, StorePath
    from .store.layering import ByList, ByPopularity, BySize, Strategy, split
    from .store.layering_pipeline import Pipeline
    from .store.read import closure_of_paths, load_closure
    from .tar.compression import Compression
    from .tree.base import Base
    from .tree.tree import Entry, Tree
    from .version import __version__

_HOMES = {
    "Base": "tree.base",
    "Blob": "plan.spec",
    "ByList": "store.layering",
    "ByPopularity": "store.layering",
    "BySize": "store.layering",
    "Cancellation": "library.layers",
    "Closure": "store.closure",
    "Comparison": "check.diff",
    "Compression": "tar.compression",
    "Conflict": "plan.spec",
    "Descriptor": "oci.descriptor",
    "Entry": "tree.tree",
    "Finding": "oci.findings",
    "Findings": "oci.findings",
    "Format": "image.write",
    "Image": "image.image",
    "Inspection": "check.inspect",
    "Layer": "layer.layer",
    "LayerBlob": "layer.blob",
    "LayerSpec": "plan.spec",
    "Link": "plan.spec",
    "NamedImage": "image.read",
    "Pipeline": "store.layering_pipeline",
    "Platform": "oci.descriptor",
    "Progress": "progress",
    "RootlessLayerError": "errors",
    "Script": "plan.spec",
    "Stage": "plan.spec",
    "StorePath": "store.closure",
    "Strategy": "store.layering",
    "Tree": "tree.tree",
    "View": "plan.spec",
    "__version__": "version",
    "build_layer": "library.layers",
    "build_layers": "layer.of_closure",
    "cache_directory": "cache.place",
    "closure_of_paths": "store.read",
    "compare": "library.checks",
    "inspect": "library.checks",
    "load_closure": "store.read",
    "open_base": "library.images",
    "open_images": "library.images",
    "open_layer": "layer.blob",
    "split": "store.layering",
    "validate": "library.checks",
    "write_images": "library.images",
}
__all__ = [
    "Base", "Blob", "ByList", "ByPopularity", "BySize", "Cancellation", "Closure", "Comparison", "Compression",
    "Conflict", "Descriptor", "Entry", "Finding", "Findings", "Format", "Image", "Inspection", "Layer", "LayerBlob",
    "LayerSpec", "Link", "NamedImage", "Pipeline", "Platform", "Progress", "RootlessLayerError", "Script", "Stage",
    "StorePath", "Strategy", "Tree", "View", "__version__", "build_layer", "build_layers", "cache_directory",
    "closure_of_paths", "compare", "inspect", "load_closure", "open_base", "open_images", "open_layer", "split",
    "validate", "write_images",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
