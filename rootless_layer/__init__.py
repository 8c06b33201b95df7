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
    from .image.format import Format
    from .image.image import Image
    from .image.read import NamedImage
    from .image.referrers import Attachment
    from .layer.blob import LayerBlob, open_layer
    from .layer.layer import Layer
    from .layer.of_closure import build_layers
    from .library.bills import bill_of_materials
    from .library.checks import compare, inspect, validate
    from .library.images import Served, open_base, open_images, serve_images, write_images
    from .library.layers import Cancellation, build_layer
    from .oci.descriptor import Descriptor, Platform
    from .oci.findings import Finding, Findings
    from .plan.copies import Copy
    from .plan.mount import Mount
    from .plan.spec import Blob, Conflict, LayerSpec, Link, Network, Script, Stage, View
    from .progress import Progress
    from .store.closure import Closure, StorePath
    from .store.layering import ByList, ByPopularity, BySize, Strategy, split
    from .store.layering_balanced import Balanced
    from .store.layering_pipeline import Pipeline
    from .store.read import closure_of_paths, load_closure
    from .tar.compression import Compression
    from .tree.base import Base
    from .tree.ignored import Ignored
    from .tree.tree import Entry, Tree
    from .version import __version__

_HOMES = {
    "Attachment": "image.referrers",
    "Balanced": "store.layering_balanced",
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
    "Copy": "plan.copies",
    "Descriptor": "oci.descriptor",
    "Entry": "tree.tree",
    "Finding": "oci.findings",
    "Findings": "oci.findings",
    "Format": "image.format",
    "Ignored": "tree.ignored",
    "Image": "image.image",
    "Inspection": "check.inspect",
    "Layer": "layer.layer",
    "LayerBlob": "layer.blob",
    "LayerSpec": "plan.spec",
    "Link": "plan.spec",
    "Mount": "plan.mount",
    "NamedImage": "image.read",
    "Network": "plan.spec",
    "Pipeline": "store.layering_pipeline",
    "Platform": "oci.descriptor",
    "Progress": "progress",
    "RootlessLayerError": "errors",
    "Script": "plan.spec",
    "Served": "library.images",
    "Stage": "plan.spec",
    "StorePath": "store.closure",
    "Strategy": "store.layering",
    "Tree": "tree.tree",
    "View": "plan.spec",
    "__version__": "version",
    "bill_of_materials": "library.bills",
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
    "serve_images": "library.images",
    "split": "store.layering",
    "validate": "library.checks",
    "write_images": "library.images",
}
__all__ = [
    "Attachment", "Balanced", "Base", "Blob", "ByList", "ByPopularity", "BySize", "Cancellation", "Closure", "Comparison",
    "Compression", "Conflict", "Copy", "Descriptor", "Entry", "Finding", "Findings", "Format", "Ignored", "Image",
    "Inspection", "Layer", "LayerBlob", "LayerSpec", "Link", "Mount", "NamedImage", "Network", "Pipeline", "Platform",
    "Progress", "RootlessLayerError", "Script", "Served", "Stage", "StorePath", "Strategy", "Tree", "View", "__version__",
    "bill_of_materials", "build_layer", "build_layers", "cache_directory", "closure_of_paths", "compare", "inspect",
    "load_closure", "open_base", "open_images", "open_layer", "serve_images", "split", "validate", "write_images",
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
