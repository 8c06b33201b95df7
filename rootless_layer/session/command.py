"""How programs of a session are started: a script with its file as its view shows it, and a shell where one has failed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import UnavailableError
from rootless_layer.plan.start import ROOT

from .inside.messages import Command, Owner
from .inside.script import DEVICES
from .scaffold import script_name
from .shell import by_shell

if TYPE_CHECKING:
    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.plan.start import Start

    from .attached import Attached
    from .inside.messages import Isolation
    from .stage import Staged


@attrs.frozen(slots=True)
class Commands:
    """The commands of a spec over what is staged, each as ``start`` says; ``attached`` is what some of them talk to.

    ``fallback`` is why the ``isolation`` is not by namespaces.
    """

    spec: LayerSpec
    staged: Staged
    start: Start
    isolation: Isolation
    fallback: str
    attached: Attached | None

    def script(self, number: int, *, attached: bool) -> Command:
        """Say how a script is started. Raises :class:`UnavailableError` where it cannot be."""
        script = self.spec.scripts[number]
        arguments = list(map(os.fsencode, script.arguments))
        if script.data is not None:
            path = self.staged.files[script_name(number)]
            arguments = [path, *arguments] if script.data.startswith(b"#!") else [*by_shell(self.spec, script, path), *arguments]
        return self._command(arguments, attached=attached)

    def shell(self) -> Command:
        """Say how a shell is started for a person."""
        return self._command([b"sh"], attached=True)

    def _command(self, arguments: list[bytes], *, attached: bool) -> Command:
        account, folder = self.start.account, self.start.folder
        if self.spec.view == "root" and self.isolation == "none":
            if account.uid:
                message = "proot runs scripts as root only, and there are no namespaces here"
                raise UnavailableError(message, hint=f"Allow user namespaces ({self.fallback}), or leave the user out.")
            arguments, folder = [*map(os.fsencode, self._proot(self.staged.top, folder)), *arguments], b""
        owner = None if account == ROOT else Owner(account.uid, account.gid, account.groups)
        shown = attached and self.attached is not None and os.isatty(self.attached.streams[0])
        variables = ((b"TERM", os.environb[b"TERM"]),) if shown and b"TERM" in os.environb else ()
        return Command(tuple(arguments), folder, owner, attached=attached, variables=variables)

    def _proot(self, top: bytes, folder: bytes) -> list[str]:
        """Show the tree as / by proot(1), the last resort: it is slow, and bends some system calls."""
        proot = shutil.which("proot")
        if proot is None:
            message = f"the root view needs namespaces, which this machine refuses ({self.fallback}), or proot"
            raise UnavailableError(message, hint="Allow user namespaces, install proot, or use --view directory.")
        binds = ["/proc", *(f"/dev/{name}" for name in DEVICES)]
        # Its own seccomp filter would tell it of a call after ours has, with a path that it has not translated yet.
        start = ["env", "PROOT_NO_SECCOMP=1", proot, "-r", os.fsdecode(top), "-w", f"/{os.fsdecode(folder)}"]
        return [*start, *(word for bind in binds for word in ("-b", bind))]
