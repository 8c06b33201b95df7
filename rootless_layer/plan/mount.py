"""A mount for the scripts, in the words of BuildKit's ``RUN --mount`` (Dockerfile reference)."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Literal, NoReturn

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, SourceError
from rootless_layer.tree.tree import MOST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MountType = Literal["bind", "cache", "secret", "tmpfs"]
Sharing = Literal["shared", "locked", "private"]
_MOST_MODE = 0o7777
_LARGEST = 2**63 - 1
_MODES: Mapping[MountType, int] = {"bind": 0, "cache": 0o755, "secret": 0o400, "tmpfs": 0o1777}
_OWNED = frozenset({"uid", "gid", "mode"})
_TAKES: Mapping[MountType, frozenset[str]] = {
    "bind": frozenset({"source", "target", "readonly"}),
    "cache": frozenset({"id", "target", "readonly", "sharing"}) | _OWNED,
    "secret": frozenset({"id", "source", "target", "env", "required"}) | _OWNED,
    "tmpfs": frozenset({"target", "size"}) | _OWNED,
}
"""The words of each type."""
_RESERVED = ("/proc", "/.rootless-layer")


def _path(value: object) -> str | None:
    return None if value is None else given.path("source", value)


@attrs.frozen(kw_only=True, slots=True)
class Mount:
    """What scripts see at a place, and what is in no layer.

    A *bind* shows a file or directory of this machine, read-only; a *cache* a directory that is kept between builds;
    a *tmpfs* an empty directory in memory; a *secret* a file or a variable that nothing else has. Raises
    :class:`InputError` for a word that a type does not take, and for a value that a word does not take.
    """

    type: MountType = "bind"
    target: str = ""
    """The absolute path where scripts see it. A secret's is ``/run/secrets/ID`` by default, and none if it has an ``env``."""
    source: str | None = attrs.field(default=None, converter=_path)
    """The path on this machine of what a bind shows, or of a file with a secret."""
    id: str = ""
    """Which cache or secret it is. By default a cache is its ``target``; without a ``source`` a secret is the variable ``id``."""
    readonly: bool = False
    """Whether scripts may only read a cache. False by default; a bind is read-only always."""
    sharing: Sharing = "shared"
    """What a build does with a cache that another one uses: both use it (by default), it waits, or it has another for itself."""
    uid: int = 0
    """Who owns it. 0 by default."""
    gid: int = 0
    """Which group owns it. 0 by default."""
    mode: int | None = None
    """Its permissions. By default 0755 of a cache, 01777 of a tmpfs, 0400 of a secret."""
    size: int | None = None
    """How many bytes a tmpfs holds. By default half of the memory, as the kernel has it."""
    required: bool = False
    """Whether the build fails where nobody gives the secret. False by default."""
    env: str = ""
    """The variable that has the secret. None by default."""

    def __attrs_post_init__(self) -> None:
        """Refuse what the type does not take."""
        given.one_of("type", self.type, MountType)
        given.one_of("sharing", self.sharing, Sharing)
        for name in ("target", "id", "env"):
            given.text(name, getattr(self, name))
        for name in ("readonly", "required"):
            given.instance(name, getattr(self, name), bool, "True or False")
        for name in ("uid", "gid"):
            given.whole(name, getattr(self, name), 0, MOST_ID)
        if self.mode is not None:
            given.whole("mode", self.mode, 0, _MOST_MODE)
        if self.size is not None:
            given.whole("size", self.size, 1, _LARGEST)
        defaults = attrs.fields_dict(Mount)
        unknown = [name for name in defaults if name not in {"type", *_TAKES[self.type]}]
        for name in unknown:
            if getattr(self, name) != defaults[name].default:
                _refuse(f"a {self.type} takes no {name}")
        self._check_place()

    def _check_place(self) -> None:
        if self.type == "secret":
            if not (self.id or self.target):
                _refuse("a secret needs an id or a target")
            if "=" in self.env or (self.env and not self.env.strip()):
                _refuse(f"{self.env!r} is not the name of a variable")
        elif not self.target:
            _refuse(f"a {self.type} needs a target")
        if self.type == "bind" and self.source is None:
            _refuse("a bind needs a source, a path on this machine")
        if self.target and not self.target.startswith("/"):
            _refuse(f"the target {self.target} is not an absolute path")
        place = self.place
        if place == "/" or any(place == top or place.startswith(f"{top}/") for top in _RESERVED) or place == "/dev":
            _refuse(f"the target {place} is the view's own")

    @property
    def place(self) -> str:
        """Give the path where scripts see it, without dots; nothing for a secret that is a variable alone."""
        target = self.target
        if self.type == "secret" and not target and not self.env:
            target = f"/run/secrets/{posixpath.basename(self.id)}"
        return "/" + posixpath.normpath(target).lstrip("/") if target else ""

    @property
    def name(self) -> str:
        """Give which cache or secret it is."""
        if self.id:
            return self.id
        return posixpath.basename(self.place) if self.type == "secret" else self.place

    @property
    def permissions(self) -> int:
        """Give the mode, or the type's default."""
        return _MODES[self.type] if self.mode is None else self.mode


def check_source(mount: Mount) -> None:
    """Raise :class:`SourceError` for a bind of what is not there."""
    if mount.type == "bind" and not os.path.exists(mount.source or ""):
        message = f"{mount.source}: does not exist, so that it cannot be bound"
        raise SourceError(message, hint="Name a file or directory of this machine.")


def check_mounts(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Take mounts of which no two are at one place, and each cache is used in one way; raises :class:`InputError`."""
    found = given.items("mounts", mounts, Mount, "a Mount")
    places: set[str] = set()
    ways: dict[str, Sharing] = {}
    for mount in found:
        for there in filter(None, [mount.place, f"the variable {mount.env}" if mount.env else ""]):
            if there in places:
                _refuse(f"two of them are at {there}")
            places.add(there)
        if mount.type == "cache" and ways.setdefault(mount.name, mount.sharing) != mount.sharing:
            _refuse(f"the cache {mount.name} is {ways[mount.name]} and {mount.sharing}")
    return found


def _refuse(problem: str) -> NoReturn:
    message = f"mount: {problem}"
    raise InputError(message)
