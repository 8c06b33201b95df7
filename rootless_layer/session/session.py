"""A session: the scripts of a layer, run over a staged tree, and the record they leave."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import BypassError, DaemonError, UnavailableError
from rootless_layer.progress import Progress, Report
from rootless_layer.system.temporary import start_python

from .beginning import overlay, staged_xattrs
from .environment import Environment
from .failure import failed
from .fakeroot import find_programs
from .inside.messages import (
    Begins,
    Command,
    Isolate,
    Mount,
    Order,
    Outcome,
    Ready,
    Told,
    Unavailable,
    from_json,
    to_json,
)  # fmt: skip
from .inside.script import DEVICES
from .inside.xattr_agent import HELD
from .ownership import OwnershipRecord, Shown, save_file
from .stage import SCAFFOLD

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rootless_layer.plan.spec import LayerSpec, Script
    from rootless_layer.tree.base import Base

    from .inside.messages import Held, Inode, Isolation, Message, OverlayShown
    from .stage import Staged, Stager

_KEEPER = "rootless_layer.session.inside.keeper", "main"
_END_SECONDS = 30
_TICK_MS = 500


@attrs.define(slots=True)
class Session:
    """The processes of a session, seen from the caller's side.

    ``isolation`` says how the scripts are kept from everything else: by *namespaces*, by
    a *chroot* (real root where there are no namespaces), or not at all. ``fallback`` is
    why it is not the first of these. Both are known when it is :meth:`ready`.
    """

    work: str
    process: subprocess.Popen[bytes]
    programs: tuple[str, str]
    on_output: Callable[[bytes], object] | None = None
    isolation: Isolation = "namespaces"
    fallback: str = ""
    _received: bytes = b""

    @classmethod
    def open(cls, work: str, on_output: Callable[[bytes], object] | None = None) -> Self:
        """Start the processes, and do not wait for them.

        ``work`` is the directory of the session's files, which they remove when the
        caller is killed. ``on_output`` is called with the bytes that scripts write, as they come; without it they
        go to stderr. Raises :class:`UnavailableError` without fakeroot.
        """
        programs = find_programs()
        session = cls(work, _start(on_output), (programs.faked, programs.library), on_output)
        try:
            session._isolate(pid_namespace=True)
        except BaseException:
            session.close()
            raise
        return session

    def ready(self) -> None:
        """Wait until the processes are isolated as well as this machine allows.

        Raises :class:`UnavailableError` where they cannot run at all.
        """
        reasons: list[str] = []
        isolations: list[Isolation] = ["namespaces", "chroot" if os.geteuid() == 0 else "none"]
        while not isinstance(answer := self._receive(), Ready):
            if isinstance(answer, Told):
                raise answer.error()
            reasons.append(answer.reason if isinstance(answer, Unavailable) else "the session's process ended")
            if not isolations:
                message = f"no session can be started here: {'; '.join(reasons)}"
                raise UnavailableError(message)
            self._settle()
            self.close()
            self.isolation = isolations.pop(0)
            self.fallback = "; ".join(dict.fromkeys(reasons))
            self.process = _start(self.on_output)
            self._received = b""
            self._isolate(pid_namespace=False)

    def _isolate(self, *, pid_namespace: bool) -> None:
        self._send(Isolate(self.isolation, pid_namespace, os.fsencode(self.work)))

    def __enter__(self) -> Self:
        """Give the session itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the session, whatever it is doing."""
        self.close()

    def close(self) -> None:
        """End the session's processes; when this returns they are gone."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _settle(self) -> None:
        """Let the processes end by themselves: closing their stdin has them remove the files."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)

    def run(
        self,
        spec: LayerSpec,
        staged: Staged,
        stager: Stager,
        base: Base | None = None,
        *,
        progress: Report,
    ) -> OwnershipRecord:
        """Run the spec's scripts in order; give what they recorded.

        ``progress`` is told as each begins and, where ``on_output`` is, twice in a second while it runs.

        A ``base`` is shown below what is staged, by an overlay; :class:`OverlayError` is
        raised where that cannot be.
        Raises :class:`ScriptError` for the first that fails, :class:`BypassError` where a
        program went around libfakeroot, :class:`DaemonError` where the session broke.
        """
        saved, load = f"{self.work}/save", f"{self.work}/load"
        with open(load, "wb") as file:
            file.write(save_file(staged.rows.items()))
        variables = Environment.of(spec, mounted=self.isolation == "namespaces")
        scripts = tuple(self._script(spec, stager, index, script) for index, script in enumerate(spec.scripts))
        preload = os.fsencode(self._library(spec, stager))
        added = [(source, path) for path, source in stager.scaffold.items() if source is not None]
        self._send(
            Order(
                view=spec.view,
                tree=staged.tree,
                overlay=None if base is None else overlay(base, staged),
                binds=tuple(Mount(*mount) for mount in staged.mounts),
                scaffold=tuple(Mount(*pair) for pair in added),
                own=SCAFFOLD,
                nodes=tuple(source for source, path in added if path.startswith(b"dev/")),
                tools=tuple(source for source, path in added if path in stager.points),
                scripts=scripts,
                environment=tuple((os.fsencode(name), os.fsencode(value)) for name, value in variables.variables.items()),
                timeout=spec.timeout,
                xattrs=staged_xattrs(staged, base),
                load=os.fsencode(load) if staged.rows or base is not None else b"",
                save_file=os.fsencode(saved),
                faked=os.fsencode(self.programs[0]),
                library=os.fsencode(self.programs[1]),
                preload=preload,
            )
        )
        answer = self._receive()
        while isinstance(answer, Begins):
            begun = Progress("run", script=spec.scripts[answer.number].name)
            progress(begun)
            answer = self._receive(None if self.on_output is None else partial(progress, begun))
        self._settle()
        if isinstance(answer, Told):
            raise answer.error()
        assert isinstance(answer, Outcome)  # noqa: S101 - the last thing that is said
        return self._record(answer, spec, saved, variables)

    def _script(self, spec: LayerSpec, stager: Stager, index: int, script: Script) -> Command:
        """Say how a script is started, with its file where its view can see it."""
        arguments = list(script.arguments)
        if script.data is not None:
            path = self._place(spec, stager, b"script-%d" % index, script.data)
            arguments = [path, *arguments] if script.data.startswith(b"#!") else ["sh", "-e", path, *arguments]
        if spec.view == "root" and self.isolation == "none":
            arguments = [*self._proot(stager), *arguments]
        return Command(tuple(map(os.fsencode, arguments)))

    def _place(self, spec: LayerSpec, stager: Stager, name: bytes, data: bytes) -> str:
        """Write a file for the scripts, and give its path as they see it."""
        mounted = self.isolation == "namespaces"
        folder = os.fsencode(self.work)
        if spec.view == "root" and not mounted:
            folder = stager.top + b"/" + SCAFFOLD
        elif spec.view == "directory" and mounted:
            folder += b"/tmp/" + SCAFFOLD  # which the view shows as /tmp
            os.makedirs(folder, exist_ok=True)
        with open(folder + b"/" + name, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o555)
        if spec.view == "root":
            return "/" + os.fsdecode(stager.add(name, folder + b"/" + name))
        return os.fsdecode((b"/tmp/" + SCAFFOLD if mounted else folder) + b"/" + name)

    def _proot(self, stager: Stager) -> list[str]:
        """Show the tree as / by proot(1), the last resort: it is slow, and bends some system calls."""
        proot = shutil.which("proot")
        if proot is None:
            message = f"the root view needs namespaces, which this machine refuses ({self.fallback}), or proot"
            raise UnavailableError(message, hint="Allow user namespaces, install proot, or use --view directory.")
        binds = ["/proc", self.programs[1], *(f"/dev/{name}" for name in DEVICES)]
        return [proot, "-r", os.fsdecode(stager.top), "-w", "/", *(word for bind in binds for word in ("-b", bind))]

    def _library(self, spec: LayerSpec, stager: Stager) -> str:
        """Give the path of libfakeroot as the scripts see it."""
        library = self.programs[1]
        if spec.view == "directory" or self.isolation == "none":
            return library
        if self.isolation == "namespaces":
            return "/" + os.fsdecode(stager.add(b"libfakeroot.so", os.fsencode(library)))
        with open(library, "rb") as file:
            return self._place(spec, stager, b"libfakeroot.so", file.read())

    def _record(self, outcome: Outcome, spec: LayerSpec, saved: str, variables: Environment) -> OwnershipRecord:
        bypasses = [
            f"{program}: {call} of {path} went around fakeroot, so its wish is not recorded"
            for program, call, path in outcome.bypasses
        ]
        failure = None
        if outcome.failure is not None:
            failure = failed(spec.scripts[outcome.failure.number], outcome.failure.end, spec, variables)
        if bypasses:
            if failure is not None:
                bypasses += failure.problems
            raise BypassError(
                *bypasses,
                hint="Use programs that libfakeroot is loaded into: dynamic ones, with LD_PRELOAD left as it is.",
            )
        if outcome.error is not None:
            raise outcome.error.error()
        if failure is not None:
            raise failure
        collected = outcome.collected
        assert collected is not None  # noqa: S101 - nothing is against it
        with open(saved, "rb") as file:
            record = OwnershipRecord.parse(file.read())
        xattrs: dict[Inode, dict[bytes, bytes]] = {}
        for inode, name, value in collected.xattrs:
            xattrs.setdefault(inode, {})[name] = value
        return attrs.evolve(
            record,
            xattrs={inode: _whole(pairs, outcome.held) for inode, pairs in xattrs.items()},
            tools={inode: (source, below) for inode, source, below in collected.tools},
            unseen=dict(outcome.unseen),
            builder=(os.geteuid(), os.getegid()) if self.isolation == "none" else None,
            set_id_refused=outcome.set_id_refused,
            shown=None if outcome.overlay is None else _shown(outcome.overlay),
        )

    def _send(self, message: Message) -> None:
        try:
            self.process.stdin.write(to_json(message))  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError as error:
            problem = "the session's processes ended before it began"
            raise DaemonError(problem) from error

    def _receive(self, tick: Callable[[], object] | None = None) -> Message:
        """Wait for a message, and hand on what the scripts have written before it; ``tick`` is called meanwhile."""
        answers: int = self.process.stdout.fileno()  # type: ignore[union-attr]
        poller = select.poll()
        poller.register(answers, select.POLLIN)
        output = self.process.stderr
        if output is not None:
            poller.register(output, select.POLLIN)
        parts = [self._received]
        while b"\n" not in parts[-1]:
            ready = {number for number, _ in poller.poll(None if tick is None else _TICK_MS)}
            if output is not None and self.on_output is not None and output.fileno() in ready:
                if words := os.read(output.fileno(), 1 << 16):
                    self.on_output(words)
                else:
                    poller.unregister(output)
            elif answers in ready:
                parts.append(os.read(answers, 1 << 20))
                if not parts[-1]:
                    problem = "the session's processes were ended by something else"
                    raise DaemonError(problem, hint="Nothing was built; nothing was left behind.")
            if tick is not None:
                tick()
        line, _, self._received = b"".join(parts).partition(b"\n")
        return from_json(line)


def _start(on_output: object) -> subprocess.Popen[bytes]:
    return start_python(*_KEEPER, stderr=None if on_output is None else subprocess.PIPE)


def _whole(given: dict[bytes, bytes], held: Held) -> tuple[tuple[bytes, bytes], ...]:
    """Give a file the attributes that were held back for it, as far as a script gave it no others of their names."""
    number = given.pop(HELD, b"")
    if number.isdigit() and int(number) < len(held.files):
        given = dict(held.files[int(number)]) | given
    return tuple(sorted(given.items()))


def _shown(told: OverlayShown) -> Shown:
    return Shown(told.device, dict(told.moved), dict(told.paths))
