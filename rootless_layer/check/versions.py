"""The programs and libraries that builds are made with, each with its version and place: what the report of a fault needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from typing import TYPE_CHECKING

import rootless_layer
from rootless_layer.errors import RootlessLayerError
from rootless_layer.session.fakeroot import find_programs, said_version
from rootless_layer.system import native
from rootless_layer.tar import codecs, libarchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGES = ("attrs", "click", "isal", "libarchive-c", "platformdirs", "urllib3", "zstandard")


def versions() -> Iterator[tuple[str, str]]:
    """Give each part's name with its version and place; of one that is not there, the reason."""
    yield "package", os.path.dirname(rootless_layer.__file__)
    yield "Python", f"{platform.python_version()}: {sys.executable}"
    yield "packages", ", ".join(map(_package, _PACKAGES))
    yield "kernel", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "loops", native.LIBRARY if native.library() else "Python's: no compiled ones are there, which are faster"
    for name, found in (
        ("fakeroot", fakeroot_found), ("libarchive", libarchive_found), ("OpenSSL", _openssl), ("isa-l", _isal), ("zstd", _zstd),
    ):  # fmt: skip
        yield name, _asked(found)


def fakeroot_found() -> str:
    """Give fakeroot's version, and the paths of its daemon and library; raises :class:`UnavailableError`."""
    programs = find_programs()
    said = said_version(programs.faked).split()
    version = next((word for word in said if word[:1].isdigit()), "?")
    return f"{version}: {programs.faked}, {programs.library}"


def libarchive_found() -> str:
    """Give libarchive's version and path; raises :class:`UnavailableError`."""
    libarchive.load()
    number = int(libarchive.version_number())
    return _with_place(f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}", "libarchive")


def _asked(found: Callable[[], str]) -> str:
    try:
        return found()
    except RootlessLayerError as error:
        return "; ".join(error.problems)
    except (ImportError, OSError) as error:
        return f"cannot be loaded: {error}"


def _package(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} ?"


def _openssl() -> str:
    import ssl  # noqa: PLC0415 - for this alone

    return _with_place(ssl.OPENSSL_VERSION, "libcrypto")


def _isal() -> str:
    library, binding = codecs.versions("gzip")
    return f"{library}, by isal {binding}: {codecs.isal_zlib.__file__}"


def _zstd() -> str:
    version, binding = codecs.versions("zstd")
    written = ".".join(map(str, version)) if isinstance(version, tuple) else str(version)
    loaded = sys.modules.get("zstandard.backend_c", codecs.zstandard)
    return f"{written}, by zstandard {binding}: {loaded.__file__}"


def _with_place(version: str, library: str) -> str:
    """Add the path from which this process has a library; one that is built into its caller has none."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        found = re.search(rf" (/.*/{library}[^/\n]*)$", file.read(), re.MULTILINE)
    return f"{version}: {found[1]}" if found else version
