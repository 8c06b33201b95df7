"""What an image's config says of the processes that run in it, as far as a Dockerfile's RUN takes it up."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(slots=True)
class RunConfig:
    """The variables, the working directory (an absolute path, ``""`` for none) and the shell's words of an image's config.

    The user is no part of it: scripts are root's, whoever the image's own processes are
    (image-spec ``config.md``, "Properties"; ``Shell`` is docker's).
    """

    variables: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    shell: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return self != NONE

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Self:
        """Read them of a whole config; what no process can be given is passed over, as nobody here asked for it."""
        config = described.get("config") or {}
        pairs = [pair.partition("=") for pair in config.get("Env") or () if "=" in pair[1:] and "\0" not in pair]
        folder, shell = config.get("WorkingDir") or "", tuple(config.get("Shell") or ())
        return cls(
            tuple({name: value for name, _, value in pairs}.items()),
            posixpath.normpath(f"/{folder.strip('/')}") if folder and "\0" not in folder else "",
            () if any("\0" in word for word in shell) else shell,
        )


NONE = RunConfig()
