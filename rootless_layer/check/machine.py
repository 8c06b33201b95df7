"""What this machine has of all that builds need, each point with the cost of its lack and the next step.

What can be tried is tried, as a build does it (:mod:`rootless_layer.session.probes`): a version or a setting says less.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Literal

import attrs

from rootless_layer.cache.place import cache_directory
from rootless_layer.cache.room import VARIABLE, limit
from rootless_layer.errors import RootlessLayerError
from rootless_layer.oci.time import environment_epoch
from rootless_layer.session import probes
from rootless_layer.session.emulator import INSTALL, REGISTER, installed
from rootless_layer.system.namespaces import numbers
from rootless_layer.system.temporary import PREFIX, Temporary, temporary_folder
from rootless_layer.tar import libarchive
from rootless_layer.terminal import counted

from .permit import permit_mounts, permit_namespaces
from .versions import fakeroot_found, libarchive_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

State = Literal["has", "less", "lacks"]
_FULL_BYTES = 1 << 28
_CACHE = "ROOTLESS_LAYER_CACHE"
_READ = {_CACHE, VARIABLE}
_OWN = {
    "network": "scripts reach this machine's network, and two builds may differ by that",
    "IPC": "scripts reach this machine's shared memory, semaphores and message queues",
    "cgroup": "scripts see the names of this machine's cgroups",
    "UTS": "scripts see this machine's host name, and two builds may differ by that",
}
"""By a namespace's name, the cost of a session without one of its own."""


@attrs.frozen(kw_only=True, slots=True)
class Point:
    """A thing that builds use.

    This machine *has* it, or *lacks* it and so cannot build as asked, or has *less*: builds go on, at a ``cost``. ``found``
    is a text for a person, and ``remedy`` the next step where there is a lack.
    """

    name: str
    state: State
    found: str
    cost: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it; the keys are the attributes' names."""
        return attrs.asdict(self)

    def lines(self) -> Iterator[str]:
        """Give it as a person reads it."""
        yield f"{self.state:<6} {self.name:<22} {self.found}"
        yield from (f"{'':<8}{line}" for text in (self.cost, self.remedy) for line in text.splitlines())


def examine() -> Iterator[Point]:
    """Give every point, one after the other as it is known; nothing of what is tried is left.

    Where there is no room for a build's files, the points that need some are left out.
    """
    yield _asked("processor", lambda: f"{os.uname().machine}, Linux {os.uname().release}", numbers, cost="no script runs here")
    yield _asked("fakeroot", fakeroot_found, cost="no script runs; layers without a script are built")
    yield _asked("libarchive", libarchive_found, cost="no layer is written, and none is read")
    yield _asked("locale C.UTF-8", lambda: "of the C library", _locale, cost="no layer is written")
    with Temporary() as temporary:
        folder = temporary_folder()
        work, point = _room("TMPDIR", folder, temporary, "Set TMPDIR to a directory that this user may write to.")
        yield point
        if work:
            yield from _session(temporary.make(folder, PREFIX))
            yield _binfmt(f"{work}/emulators")
            yield _overlay("overlay in TMPDIR", work)
        yield from _cache(temporary)
    yield from _variables()
    yield Point(name="not needed", state="has", found="subordinate ids, newuidmap, keyrings, a daemon, KVM, FUSE")


def _asked(name: str, found: Callable[[], str], needed: Callable[[], object] = bool, *, cost: str) -> Point:
    try:
        needed()
        return Point(name=name, state="has", found=found())
    except RootlessLayerError as error:
        return Point(name=name, state="lacks", found="; ".join(error.problems), cost=cost, remedy=error.hint)


def _locale() -> None:
    with libarchive.utf8_locale():
        pass


def _room(name: str, folder: str, temporary: Temporary, remedy: str) -> tuple[str, Point]:
    """Make a directory in another one, and give it; ``""`` where none can be made."""
    try:
        made = temporary.make(folder, PREFIX)
        status = os.statvfs(folder)
    except OSError as error:
        found = f"{folder}: cannot be written: {error.strerror}"
        return "", Point(name=name, state="lacks", found=found, cost="nothing is built", remedy=remedy)
    free = status.f_bavail * status.f_frsize
    found = f"{folder}: {counted(free, 'byte')} free"
    if free < _FULL_BYTES:
        cost = "a build of more than that fails"
        return made, Point(name=name, state="less", found=found, cost=cost, remedy=f"Make room there. Or: {remedy}")
    return made, Point(name=name, state="has", found=found)


def _session(work: str) -> Iterator[Point]:
    """Tell how a session is isolated, and whether its scripts' calls can be recorded."""
    try:
        session = probes.isolated(work)
    except RootlessLayerError as error:
        yield Point(name="session", state="lacks", found="; ".join(error.problems), cost="no script runs", remedy=error.hint)
        return
    apart = session.isolation == "namespaces"
    yield _user_namespaces("" if apart else session.fallback)
    if apart:
        yield _pid_namespace(session.fallback)
    for name, cost in _OWN.items():
        reason = session.refused.get(name, "")
        remedy = permit_mounts() if apart else permit_namespaces()
        found = f"refused: {reason}" if reason else "a session has its own"
        lack = {"cost": cost, "remedy": remedy} if reason else {}
        yield Point(name=f"{name} namespace", state="less" if reason else "has", found=found, **lack)
    yield _asked("seccomp listener", lambda: "given", probes.listens, cost="no script runs: its changes could not be recorded")


def _user_namespaces(refused: str) -> Point:
    name = "user namespaces"
    if not refused:
        return Point(name=name, state="has", found=f"a session has its own, with its own mounts ({_most()})")
    other = "a chroot" if os.geteuid() == 0 else "proot, which is slow" if shutil.which("proot") else ""
    cost = f"the root view is {other}; " if other else "there is no root view, as there is no proot either; "
    cost += "store paths are copied, no base is shown by an overlay, and a script sees this machine's files"
    return Point(name=name, state="less" if other else "lacks", found=refused, cost=cost, remedy=permit_namespaces())


def _most() -> str:
    setting = "/proc/sys/user/max_user_namespaces"
    try:
        with open(setting, encoding="ascii") as file:
            return f"at most {file.read().strip()}"
    except OSError:
        return f"{setting} cannot be read"


def _pid_namespace(refused: str) -> Point:
    name = "PID namespace"
    if not refused:
        return Point(name=name, state="has", found="a session has its own, with its own /proc")
    cost = "scripts see this machine's /proc, and each call that reaches a process costs more"
    return Point(name=name, state="less", found=f"refused: {refused}", cost=cost, remedy=permit_mounts())


def _binfmt(folder: str) -> Point:
    name, emulators = "emulators", installed()
    reason = probes.registers_emulator(folder)
    found = ", ".join(emulators) or "none in PATH"
    cost = "scripts of another platform's root do not run"
    if reason:
        cost += ", but for those of emulators that the machine has registered"
        return Point(name=name, state="less", found=f"{found}; a session registers none: {reason}", cost=cost, remedy=REGISTER)
    if not emulators:
        return Point(name=name, state="less", found=found, cost=cost, remedy=INSTALL)
    return Point(name=name, state="has", found=f"{found}; a session registers its own")


def _overlay(name: str, folder: str) -> Point:
    reason = probes.shows_overlay(folder)
    if not reason:
        return Point(name=name, state="has", found="a base is shown, and not copied")
    cost = "a base is copied for each build with a script"
    remedy = "Let this be on a file system as ext4, xfs or btrfs, or a volume; Linux 5.11 is needed."
    return Point(name=name, state="less", found=reason, cost=cost, remedy=remedy)


def _cache(temporary: Temporary) -> Iterator[Point]:
    try:
        place = cache_directory()
    except RootlessLayerError as error:
        cost = "no base is read, and no layer is kept"
        yield Point(name="cache", state="lacks", found="; ".join(error.problems), cost=cost, remedy=error.hint)
        return
    above = next(folder for folder in (place, *place.parents) if folder.is_dir())
    made, point = _room("cache", str(above), temporary, f"Name another place in {_CACHE}.")
    yield attrs.evolve(point, found=point.found if above == place else f"{place}: is not there yet; {point.found}")
    if made:
        yield _overlay("overlay in the cache", made)


def _variables() -> Iterator[Point]:
    """Tell which variables are set that builds read, and which of those cannot be read."""
    given = {name for name in os.environ if name.startswith("ROOTLESS_LAYER_")}
    names = sorted(given | {"LIBARCHIVE", "SOURCE_DATE_EPOCH", "TMPDIR"} & os.environ.keys())
    said = ", ".join(f"{name}={os.environ[name]}" for name in names)
    try:
        limit()
        environment_epoch()
    except RootlessLayerError as error:
        found, cost = "; ".join(error.problems), "no build begins"
        yield Point(name="variables", state="lacks", found=f"{said}: {found}", cost=cost, remedy=error.hint or "Set it anew.")
        return
    if unknown := sorted(given - _READ):
        cost = f"{', '.join(unknown)}: is read by nothing"
        remedy = f"Those that are read are {' and '.join(sorted(_READ))}."
        yield Point(name="variables", state="less", found=said, cost=cost, remedy=remedy)
        return
    yield Point(name="variables", state="has", found=said or "none is set")
