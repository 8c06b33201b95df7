"""The scripts' environment: the same on every machine, and what the spec adds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.plan.start import ROOT, Account
from rootless_layer.store.closure import StorePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.store.closure import Closure

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_PATH_BYTES = (124 << 10) - len("PATH=")
"""Linux takes 128 KiB for one variable (MAX_ARG_STRLEN, execve(2)); 4 KiB are left for what a script puts before."""

_MOST_SHOWN = 200


@attrs.frozen(slots=True)
class Environment:
    """The variables of each script; ``left_out`` counts the store paths whose programs ``PATH`` has no room for."""

    variables: Mapping[str, str]
    left_out: int = 0

    @classmethod
    def of(cls, spec: LayerSpec, account: Account = ROOT, *, mounted: bool) -> Environment:
        """Give the variables that every script has; over them those of the base's config, and last those that the spec adds.

        ``HOME`` is that of the ``account`` which runs the scripts, and so are the names, where it has one.
        In the root view ``PATH`` ends with the ``bin`` directories of the closure and of the
        tools, so that a script finds its programs there when they are not linked into the root.
        ``mounted`` says whether the session has a ``/tmp`` of its own.
        """
        inherited = dict(spec.run_config.variables)
        first = inherited.pop("PATH", "") or _PATH
        folders, left_out = _program_folders(spec, len(first)) if spec.view == "root" else ([], 0)
        fixed = {
            "HOME": account.home,
            **({"LOGNAME": account.name, "USER": account.name} if account.name else {}),
            "PATH": ":".join((first, *folders)),
            "SOURCE_DATE_EPOCH": str(spec.source_date_epoch),
            "TERM": "dumb",
        }
        if spec.view == "directory" and mounted:
            fixed["TMPDIR"] = "/tmp"  # noqa: S108 - the session's own
        return cls(fixed | inherited | dict(spec.environment), 0 if "PATH" in spec.environment else left_out)

    @property
    def searched(self) -> str:
        """Say where programs are looked for, in few words."""
        path = self.variables["PATH"]
        shown = path if len(path) <= _MOST_SHOWN else f"{path[:_MOST_SHOWN]}… of {path.count(':') + 1} directories"
        return f"PATH={shown}" + (f", which has no room for those of {self.left_out} store paths" if self.left_out else "")

    @property
    def without(self) -> str:
        """Say what ``PATH`` does not have, and what to do then; it says nothing where that has all."""
        if not self.left_out:
            return ""
        return f"PATH has no room for the programs of {self.left_out} store paths: name such a program by its absolute path."


def _program_folders(spec: LayerSpec, taken: int) -> tuple[list[str], int]:
    """Give the ``bin`` directories in the order in which they are searched, and how many store paths have no room.

    ``taken`` are the bytes that ``PATH`` has before them.

    Where not all fit, those of the store paths that nothing else refers to come first, as the
    caller asked for them; then what they need; and last what ``contents`` merges into the root,
    since ``/bin`` has its programs already.
    """
    several = [(closure, spec.closure_writable and closure is spec.closure) for closure in (spec.closure, spec.tools) if closure]
    seen = (stored for closure, writable in several for stored in closure.paths if writable or _has_programs(closure, stored))
    found = list(dict.fromkeys(seen))
    needed = {other for closure, _ in several for others in closure.references.values() for other in others}
    merged = {StorePath.containing(os.path.abspath(content)) for content in spec.copy_to_root}
    by_use = sorted(found, key=lambda stored: (stored in merged, stored in needed))  # else in their order
    fitting = set(_fitting(by_use, taken))
    return [f"{stored.path}/bin" for stored in found if stored in fitting], len(found) - len(fitting)


def _has_programs(closure: Closure, stored: StorePath) -> bool:
    location = closure.location(stored)
    # Where a link leads is seen in the view only.
    return os.path.islink(location) or os.path.lexists(f"{location}/bin")


def _fitting(ordered: Iterable[StorePath], taken: int) -> Iterable[StorePath]:
    room = _MOST_PATH_BYTES - taken
    for stored in ordered:
        room -= len(stored.path) + len(":/bin")
        if room < 0:
            return
        yield stored
