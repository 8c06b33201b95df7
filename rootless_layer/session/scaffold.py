"""Tools: store paths that the scripts see in the root view, and that are no part of the layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.errors import UnavailableError
from rootless_layer.plan.locate import store_locations
from rootless_layer.tree.tree import stamp

from .stage import Stager

if TYPE_CHECKING:
    from rootless_layer.plan.locate import StoreLocation
    from rootless_layer.store.closure import Closure


class ToolStager(Stager):
    """Makes the tree, and shows tools in it."""

    def show(self, tools: Closure, *, mounting: bool, fallback: str = "") -> None:
        """Show store paths where they stand, read-only, as far as the tree has nothing there.

        Raises :class:`UnavailableError` where nothing can be mounted (``fallback`` is why),
        and :class:`ClosureError` for what is not there.
        """
        if not mounting:
            message = f"tools are mounted, and nothing can be mounted here: {fallback}"
            raise UnavailableError(message, hint="Allow user namespaces, or make the tools a part of the closure.")
        tools.check()
        for location in store_locations(tools):
            if not self._is_there(location.path):
                self._show(location)

    def _show(self, tool: StoreLocation) -> None:
        path = tool.path
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            if not os.path.lexists(self.top + b"/" + above):
                self._scaffold_directory(above)
        if os.path.islink(tool.source):  # nothing can be mounted upon a link
            os.symlink(os.readlink(tool.source), self.top + b"/" + path)
            self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))
            self.scaffold[path] = None
        elif os.path.isdir(tool.source):
            os.mkdir(self.top + b"/" + path, 0o755)
            self.scaffold[path] = tool.source
        else:
            self._scaffold_file(path, tool.source)
        status = os.lstat(self.top + b"/" + path)
        self.points[path] = status.st_dev, status.st_ino
