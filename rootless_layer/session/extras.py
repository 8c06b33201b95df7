"""The mounts that a spec asks for: what each shows on this machine, leased, read and made ready before the session.

A bind shows its source as it lies there. Where something in it is no part of the input, an output or a socket, a copy
without that is shown.

A cache is a directory of the cache's, by its name, in which ``files`` is what scripts see. The lock on it is handed to the
session's processes: it ends with the last of them, also where the build is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, OutputError
from rootless_layer.plan.mount import check_source
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.lease import Lease
from rootless_layer.system.machine import unreadable, unwritable
from rootless_layer.system.replace import make_folder
from rootless_layer.tree.copy import copy_source
from rootless_layer.tree.places import MOUNT_FILES, MOUNT_JSON, MOUNTS, SIZES
from rootless_layer.tree.walk import entry_of, walk

from .inside.messages import Extra
from .making import making

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rootless_layer.plan.mount import Mount
    from rootless_layer.plan.spec import LayerSpec

    from .attached import Attached

_MOST_SECRET_BYTES = 500 << 10
"""As much as BuildKit takes."""
_MOST_PRIVATE = 1000
_TRIES = 100


@attrs.frozen(slots=True)
class Extras:
    """What a session has beside its view: mounts, variables with a secret, and descriptors of the leases on caches.

    ``attached`` is what programs of it talk to, if any do.
    """

    mounts: tuple[Extra, ...] = attrs.field(default=(), repr=False)
    secrets: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)
    leases: tuple[int, ...] = ()
    attached: Attached | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """Give the descriptors that the session's processes keep."""
        return tuple({*self.leases, *(() if self.attached is None else self.attached.streams)})

    def with_secrets(self, variables: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
        """Give variables with those that are secrets, each of which takes the place of another of its name."""
        plain = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
        return tuple((plain | dict(self.secrets)).items())


NONE = Extras()
"""What a session has that has nothing beside its view."""


@contextlib.contextmanager
def extras_of(spec: LayerSpec, work: str, cache: str | os.PathLike[str] | None, tell: Report = silent) -> Iterator[Extras]:
    """Have all that a spec's mounts show, until the block ends; ``work`` is the directory of the session's files.

    Caches lie in the directory ``cache``. Where another build uses one, this waits for it or takes another, as the mount
    says. Raises :class:`SourceError` for a source that is not there, :class:`InputError` for a secret that is not given
    or a cache without a directory, and :class:`OutputError` where a cache cannot be made.
    """
    mounts: list[Extra] = []
    secrets: list[tuple[bytes, bytes]] = []
    with contextlib.ExitStack() as stack:
        caches = {}
        for name in sorted(
            {mount.name for mount in spec.mounts if mount.type == "cache"}
        ):  # one order: no two wait for each other
            mount = next(mount for mount in spec.mounts if mount.type == "cache" and mount.name == name)
            caches[name] = stack.enter_context(_cache(mount, cache, tell))
        for number, mount in enumerate(spec.mounts):
            match mount.type:
                case "tmpfs":
                    mounts.append(_extra(mount))
                case "bind":
                    mounts.append(_extra(mount, source=_bound(mount, f"{work}/bound-{number}", spec)))
                case "cache":
                    mounts.append(_extra(mount, source=os.fsencode(caches[mount.name][0])))
                case "secret":
                    data = _secret(mount)
                    if data is None:
                        tell(Progress("plan", note=f"the secret {mount.name} is not given, so that no script has it"))
                        continue
                    if mount.place:
                        mounts.append(_extra(mount, data=data))
                    if mount.env:
                        secrets.append((os.fsencode(mount.env), data))
        yield Extras(tuple(mounts), tuple(secrets), tuple(lease.fileno() for _, lease in caches.values()))


def _extra(mount: Mount, *, source: bytes = b"", data: bytes = b"") -> Extra:
    return Extra(
        kind=mount.type,
        path=os.fsencode(mount.place.lstrip("/")),
        source=source,
        data=data,
        mode=mount.permissions,
        uid=mount.uid,
        gid=mount.gid,
        size=mount.size,
        read_only=mount.readonly or mount.type in {"bind", "secret"},
        shared=mount.sharing == "shared",
    )


# --- secrets ---


def _secret(mount: Mount) -> bytes | None:
    """Read a secret; nothing where it is not given and need not be. No message has what it is."""
    if mount.source is None:
        data = os.environb.get(os.fsencode(mount.name))
        if data is None and mount.required:
            message = f"the secret {mount.name} is not given: there is no variable of that name"
            raise InputError(message, hint="Set the variable, or name a file with source.")
    else:
        try:
            with open(mount.source, "rb") as file:
                data = file.read(_MOST_SECRET_BYTES + 1)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not mount.required:
                return None
            raise unreadable(error, mount.source, "the secret cannot be read") from error
    if data is not None and len(data) > _MOST_SECRET_BYTES:
        message = f"the secret {mount.name} has more than {_MOST_SECRET_BYTES} bytes"
        raise InputError(message, hint="Bind the file, if it is no secret.")
    if data is not None and mount.env and b"\0" in data:
        message = f"the secret {mount.name} holds a NUL, which no variable can"
        raise InputError(message, hint="Have it shown as a file, by target.")
    return data


# --- binds ---


def _bound(mount: Mount, copy: str, spec: LayerSpec) -> bytes:
    """Give what a bind shows: its source, or a copy without what is no part of an input."""
    check_source(mount)
    top = os.fsencode(os.path.realpath(mount.source or ""))
    found = sorted(walk(top, left_out=spec.left_out))
    kept = [each for each in found if not stat.S_ISSOCK(each[2].st_mode)]
    for relative, _, status in kept:
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            message = f"{os.fsdecode(os.path.join(top, relative))}: is a pipe or a device, which reaches out of the session"
            raise InputError(message, hint="Bind a directory without it.")
    if not kept:
        message = f"{mount.source}: is a socket, which reaches out of the session"
        raise InputError(message, hint="Bind a file or a directory.")
    if len(kept) == sum(1 for _ in walk(top)):
        return top
    for relative, on_disk, status in kept:
        _copy(on_disk, status, os.fsencode(copy) + (b"/" + relative if relative else b""))
    for relative, _, status in reversed(kept):
        if stat.S_ISDIR(status.st_mode):
            os.utime(os.path.join(os.fsencode(copy), relative), ns=(status.st_mtime_ns, status.st_mtime_ns))
    return os.fsencode(copy)


def _copy(on_disk: bytes, status: os.stat_result, path: bytes) -> None:
    """Copy one file of a source as it is, but for its owner."""
    entry = entry_of(b"", on_disk, status, int(status.st_mtime), (0, 0))
    with making(path):
        if entry.is_dir:
            os.mkdir(path)
        elif entry.target is not None:
            os.symlink(entry.target, path)
        else:
            copy_source(entry, path)
        if entry.target is None:
            os.chmod(path, stat.S_IMODE(status.st_mode) & 0o1777 | (0o700 if entry.is_dir else 0o400))
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)


# --- caches ---


@contextlib.contextmanager
def _cache(mount: Mount, cache: str | os.PathLike[str] | None, tell: Report) -> Iterator[tuple[Path, Lease]]:
    """Give the directory that scripts see of a cache, leased."""
    if cache is None:
        message = f"the cache {mount.name} has no place: no directory is given for it"
        raise InputError(message, hint="Give the directory of the cache, as cache_directory() does.")
    place = Path(cache) / MOUNTS
    folder, lease = _leased(mount, place, tell)
    try:
        with _keeping(folder):
            os.utime(folder)
        yield folder / MOUNT_FILES, lease
    finally:
        with contextlib.suppress(OSError):  # what it holds has another size now
            (place.parent / SIZES / folder.name).unlink()
        lease.release()


def _leased(mount: Mount, place: Path, tell: Report) -> tuple[Path, Lease]:
    numbers = range(_MOST_PRIVATE) if mount.sharing == "private" else [0] * _TRIES
    for number in numbers:
        folder = place / _key(mount.name, number)
        with _keeping(folder):
            make_folder(place)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            lease = _lease(mount, folder, tell)
            if lease is None:  # it was removed as soon as it was there, or another build has it for itself
                continue
            try:
                _complete(folder, mount.name)
            except BaseException:
                lease.release()
                raise
            return folder, lease
    message = f"{place}: the cache {mount.name} cannot be locked there"
    raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")


def _lease(mount: Mount, folder: Path, tell: Report) -> Lease | None:
    """Lease a cache as a mount says; where that takes time, say so first."""
    if mount.sharing == "shared":
        return Lease.shared(folder)
    lease = Lease.exclusive(folder)
    if lease is None and mount.sharing == "locked":
        tell(Progress("plan", note=f"another build uses the cache {mount.name}: this one waits for it"))
        return Lease.exclusive(folder, wait=True)
    return lease


def _complete(folder: Path, name: str) -> None:
    """Make what a new cache has."""
    os.chmod(folder, 0o700)  # whatever the umask is: nobody else is to execute what a script has made there
    files = folder / MOUNT_FILES
    with contextlib.suppress(FileExistsError):
        os.mkdir(files, 0o700)
    if not stat.S_ISDIR(os.lstat(files).st_mode):
        message = f"{files}: is not the directory that the cache {name} had there"
        raise OutputError(message, hint="Remove it.")
    with contextlib.suppress(FileExistsError), open(folder / MOUNT_JSON, "x", encoding="utf-8") as file:
        json.dump({"id": name}, file)


def _key(name: str, number: int) -> str:
    """Name the directory of a cache, of which several builds may have one each."""
    return hashlib.sha256(json.dumps([name, number]).encode()).hexdigest()


@contextlib.contextmanager
def _keeping(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Name another place in ROOTLESS_LAYER_CACHE."
        raise unwritable(error, str(folder), "the cache cannot be kept there", hint=hint) from error
