"""Whether what a file of ``make`` names is there, and its outputs have a place: looked at before any work."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, OutputError, SourceError
from rootless_layer.image.write import check_target
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.made import LAYER
from rootless_layer.oci.reference import path_and_name
from rootless_layer.options.layer import LayerOptions
from rootless_layer.plan.locate import Locator
from rootless_layer.plan.mount import check_source
from rootless_layer.plan.rootfs import check_rootfs
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.registry.name import is_registry
from rootless_layer.store.closure import StorePath
from rootless_layer.system.replace import check_replaceable

from .resolve import format_of, platform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rootless_layer.image.open import Foreign
    from rootless_layer.store.closure import Closure

    from .faults import Faults
    from .graph import Node


@attrs.frozen(slots=True)
class Preflight:
    """Checks nodes whose values have their types; paths are relative to the working directory.

    ``foreign`` keeps the images that it reads for whoever needs them next.
    """

    faults: Faults
    foreign: Foreign
    sound: list[Closure] = attrs.field(factory=list)
    """Closures that were looked at: many layers may have the same one."""

    def check(self, nodes: Iterable[Node], specs: Mapping[str, LayerSpec]) -> None:
        """Add all that is not as it has to be; ``specs`` has those of the layers with which nothing else is wrong."""
        nodes = list(nodes)
        outputs = [os.path.realpath(output) for node in nodes if (output := node.options.output)]
        for node in nodes:
            self._bases(node)
            if node.options.output not in {None, "-"}:
                self.faults.attempt(_place(node), "output", _check_output, node)
            if isinstance(node.options, LayerOptions):
                self._trees(_place(node), node.options, specs.get(node.name), outputs)

    def _bases(self, node: Node) -> None:
        """Read the images and layers that are no nodes; those that are not there are known."""
        place = _place(node)
        look: Callable[[str], object] = partial(self.foreign.read, platform=platform_of(node.options))
        if "platform" in node.wrong:  # then nobody knows which of several images it would be
            look = self.foreign.look
        for key, names in (("base", node.options.bases), ("copy-from", node.options.copied)):
            for name in names:
                if name not in node.needs and os.path.exists(path_and_name(name)[0]):
                    self.faults.attempt(place, key, look, name)
        for name in node.options.layers:
            if name not in node.needs and os.path.exists(name):
                self.faults.attempt(place, "layers", open_layer, name)

    def _trees(self, place: str, options: LayerOptions, spec: LayerSpec | None, outputs: Iterable[str]) -> None:
        """Find the trees that are merged into the root, and what is copied, but for what another node may put there first."""
        locator = Locator(spec or LayerSpec())
        for tree in options.copy_to_root:
            unknown = spec is None and StorePath.containing(os.path.abspath(tree)) is not None  # its closure may be at fault
            whole = os.path.realpath(tree)
            if not unknown and not any((whole + "/").startswith(output + "/") for output in outputs):
                self.faults.attempt(place, "copy-to-root", locator.find, tree)
        for path in (path for copy in options.copies for path in copy.inputs()):
            if not any((os.path.realpath(path) + "/").startswith(output + "/") for output in outputs):
                self.faults.attempt(place, "copy", _check_there, path)
        rootfs, listing = options.rootfs, options.rootfs_listing
        key = "rootfs" if rootfs is not None and not os.path.exists(rootfs) else "rootfs-listing"
        self.faults.attempt(place, key, check_rootfs, rootfs, listing)
        for mount in options.mount:
            self.faults.attempt(place, "mount", check_source, mount)
        if spec is not None and spec.closure is not None and not any(spec.closure is each for each in self.sound):
            self.faults.attempt(place, "closure", self._check_closure, spec.closure)

    def _check_closure(self, closure: Closure) -> None:
        closure.check()
        self.sound.append(closure)


def _place(node: Node) -> str:
    return f"{node.kind}.{node.name}"


def _check_there(path: str) -> None:
    if not os.path.lexists(path):
        message = f"{path}: does not exist"
        raise SourceError(message)


def _check_output(node: Node) -> None:
    options = node.options
    output = options.output or ""
    if is_registry(output):
        if isinstance(options, LayerOptions):
            message = f"{output}: is a registry's, and a layer is a directory"
            raise InputError(message, hint="Make an image of the layer, whose output is that.")
        check_target(output, format_of(options))
        return
    folder = os.path.dirname(os.path.realpath(output))
    if not os.path.isdir(folder):
        message = f"{output}: there is no directory {folder}"
        raise OutputError(message, hint="Make the directory that an output is to be in.")
    if not os.path.lexists(output) and not os.access(folder, os.W_OK | os.X_OK):
        message = f"{output}: you may not write to {folder}"
        raise OutputError(message, hint="Name a directory of yours.")
    if isinstance(options, LayerOptions):
        check_replaceable(Path(output).absolute(), LAYER)
    else:
        check_target(output, format_of(options))
