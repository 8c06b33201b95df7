"""The installed fakeroot: where its daemon and its library are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rootless_layer.errors import UnavailableError

MINIMUM_VERSION = (1, 25)
_HINT = "Install fakeroot 1.25 or newer (Debian: apt install fakeroot)."
_ASSIGNMENT = re.compile(r"^(\w+)=(?:\"([^\"]*)\"|(\S*))$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_START_SECONDS = 10


class Programs(NamedTuple):
    """The absolute paths of the daemon and of the library, which the recorder loads."""

    faked: str
    library: str


def find_programs(path: str | None = None) -> Programs:
    """Find faked and libfakeroot by the variables that the ``fakeroot`` wrapper sets.

    The wrapper alone knows where its distribution keeps them. ``path`` is searched for
    it, by default ``PATH``. Raises :class:`UnavailableError` where fakeroot is missing,
    incomplete or too old.
    """
    if "FAKEROOTKEY" in os.environ and "libfakeroot" in os.environ.get("LD_PRELOAD", ""):
        message = "this is run by fakeroot already, and a session within a session cannot be"
        raise UnavailableError(message, hint="Run it without fakeroot: it needs no root.")
    wrapper = shutil.which("fakeroot", path=path) or shutil.which("fakeroot-sysv", path=path)
    if wrapper is not None and os.path.realpath(wrapper).endswith("fakeroot-tcp"):  # Debian's alternative may be that
        wrapper = shutil.which("fakeroot-sysv", path=path) or wrapper
    if wrapper is None:
        searched = os.environ.get("PATH", os.defpath) if path is None else path
        message = f"the program fakeroot is not in PATH ({searched or 'which is empty'})"
        raise UnavailableError(message, hint=_HINT if searched else "Set PATH to the directories of programs, as /usr/bin:/bin.")
    text = Path(wrapper).read_text(encoding="utf-8", errors="replace")
    variables: dict[str, str] = {}
    for name, quoted, bare in _ASSIGNMENT.findall(text):
        if name not in variables:
            variables[name] = _VARIABLE.sub(lambda match: variables.get(match[1], ""), quoted or bare)
    if "FAKED" not in variables:  # a wrapper of the wrapper, as nixpkgs makes them: they lie beside
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(wrapper)))
        variables = {"FAKED": f"{prefix}/bin/faked", "LIB": "libfakeroot.so", "PATHS": f"{prefix}/lib:{prefix}/lib/libfakeroot"}
    names = variables.get("FAKEROOT_LIB") or variables.get("LIB") or ""
    libraries = [Path(folder, names) for folder in variables.get("PATHS", "").split(":")]
    library = next((str(candidate) for candidate in libraries if names and candidate.is_file()), None)
    faked = variables.get("FAKED", "")
    if library is None or not os.access(faked, os.X_OK):
        places = variables.get("PATHS", "?")
        message = f"{wrapper}: names no daemon and library that exist (FAKED={faked or '?'}, {names or '?'} in {places})"
        raise UnavailableError(message, hint=_HINT)
    _check_version(faked)
    return Programs(os.path.realpath(faked), os.path.realpath(library))


def said_version(faked: str) -> str:
    """Give what a daemon says of its version, in one line or more."""
    command = [faked, "--version"]
    return subprocess.run(  # noqa: S603
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_START_SECONDS,
        env={name: value for name, value in os.environ.items() if name != "FAKEROOTKEY"},
    ).stdout.strip()


def _check_version(faked: str) -> None:
    said = said_version(faked)
    match = re.search(r"(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_VERSION:
        message = f"{faked}: version {match[0] if match else said or '?'} is too old"
        raise UnavailableError(message, hint=_HINT)
