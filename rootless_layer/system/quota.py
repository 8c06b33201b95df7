"""How much processor time a process may have by its control groups (cgroups(7)), as containers and CI limit it."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def processors_allowed(root: str = "/") -> float | None:
    """Give the processors whose whole time the control groups of this process allow, or nothing where none limits it.

    The smallest limit counts, of the group itself and of those that it is in, as far as they can be seen here, in either version:
    ``cpu.max`` of the second (Linux, admin-guide/cgroup-v2.rst), ``cpu.cfs_quota_us`` of the first (scheduler/sched-bwc.rst).
    ``root`` is where the machine's root lies.
    """
    return min((limit for folder in _groups(root) if (limit := _limit(folder)) is not None), default=None)


def _groups(root: str) -> Iterator[str]:
    """Give the directories of the groups that may limit this process's time, with those that they are in."""
    try:
        lines = _read(root, "proc/self/cgroup").splitlines()
        mounts = [line.split(" - ") for line in _read(root, "proc/self/mountinfo").splitlines()]
    except OSError:
        return
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for before, after in filter(lambda halves: len(halves) == 2, mounts):  # noqa: PLR2004 - before and after the dash
        kind, _, options = [*after.split(" "), "", ""][:3]
        controller = "" if kind == "cgroup2" else "cpu"
        if kind not in {"cgroup", "cgroup2"} or controller not in paths or (controller and controller not in options.split(",")):
            continue
        top, at = before.split(" ")[3:5]
        below = posixpath.relpath(paths[controller], top)  # of another namespace of groups only the top can be seen
        names = [] if below.startswith("..") or below == "." else below.split("/")
        for count in range(len(names) + 1):
            yield os.path.join(root, at.lstrip("/"), *names[:count])


def _limit(folder: str) -> float | None:
    """Give a group's own limit, in processors."""
    try:
        try:
            quota, period = _read(folder, "cpu.max").split()
        except FileNotFoundError:
            quota, period = _read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
