"""Compile the loops in C into the wheel, where there is a compiler: hatchling's hook, of pyproject.toml.

Without a compiler, and with ROOTLESS_LAYER_PURE in the environment, the wheel is any machine's, and somewhat slower.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libloops.so.1"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-g0", "-Wl,--build-id=none")


class NativeHook(BuildHookInterface):  # type: ignore[type-arg,misc] - hatchling is there where a wheel is built
    """Adds a shared library to the wheel, which is this machine's then."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what is in the wheel."""
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if version == "editable" or os.environ.get("ROOTLESS_LAYER_PURE") or shutil.which(compiler[0]) is None:
            return
        source = Path(self.root, "rootless_layer/system/loops.c")
        made = Path(self.directory, LIBRARY)
        made.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([*compiler, *FLAGS, "-o", made, source], check=False, capture_output=True, text=True)
        if done.returncode:
            self.app.display_warning(f"the loops in C are left out, as they could not be compiled:\n{done.stderr}")
            return
        build_data["force_include"][str(made)] = f"rootless_layer/system/{LIBRARY}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave only the wheel."""
        del version, build_data, artifact_path
        Path(self.directory, LIBRARY).unlink(missing_ok=True)
