"""A session: the scripts of a layer, run over a staged tree, and the record they leave."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import DaemonError, UnavailableError
from rootless_layer.progress import Progress, Report
from rootless_layer.system.temporary import start_python

from .beginning import overlay, staged_xattrs
from .command import Commands
from .environment import Environment
from .extras import NONE, Extras
from .failure import failed, status_of
from .fakeroot import find_programs
from .inside.messages import (
    Begins,
    Exited,
    Fails,
    Isolate,
    Killed,
    Looked,
    Mount,
    NotStarted,
    Open,
    Order,
    Outcome,
    Ready,
    Told,
    Unavailable,
    from_json,
    to_json,
)  # fmt: skip
from .ownership import OwnershipRecord, Shown, save_file
from .scaffold import SCAFFOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.plan.start import Start
    from rootless_layer.tree.base import Base

    from .attached import Attached
    from .inside.messages import Emulator, Inode, Isolation, Message, Network, OverlayShown
    from .stage import Staged

_KEEPER = "rootless_layer.session.inside.keeper", "main"
_END_SECONDS = 30
_TICK_MS = 500
_MOST_SHOWN = 5


@attrs.define(slots=True)
class Session:
    """The processes of a session, seen from the caller's side.

    ``isolation`` says how the scripts are kept from everything else: by *namespaces*, by
    a *chroot* (real root where there are no namespaces), or not at all. ``fallback`` is
    why it is not the first of these, and ``refused`` has the other namespaces that it has not, each with the reason.
    All are known when it is :meth:`ready`. Scripts on trial are attached to the caller, and nobody asks what
    they have changed; else a shell is, where a script fails. ``status`` is that with which the last script on trial has ended.
    """

    work: str
    process: subprocess.Popen[bytes]
    programs: tuple[str, str]
    network: Network = "none"
    emulator: Emulator | None = None
    on_output: Callable[[bytes], object] | None = None
    extras: Extras = NONE
    status: int = 0
    isolation: Isolation = "namespaces"
    fallback: str = ""
    refused: Mapping[str, str] = attrs.field(factory=dict)
    _received: bytes = b""

    @classmethod
    def open(
        cls,
        work: str,
        on_output: Callable[[bytes], object] | None = None,
        emulator: Emulator | None = None,
        network: Network = "none",
        extras: Extras = NONE,
    ) -> Self:
        """Start the processes, and do not wait for them.

        ``work`` is the directory of the session's files, which they remove when the
        caller is killed. ``on_output`` is called with the bytes that scripts write, as they come; without it they
        go to stderr. ``emulator`` runs the scripts of another architecture. With the ``network`` of the *host* they have this
        machine's; ``extras`` are the mounts that were asked for. Raises :class:`UnavailableError` without fakeroot.
        """
        programs = find_programs()
        session = cls(work, _start(on_output, extras), (programs.faked, programs.library), network, emulator, on_output, extras)
        try:
            session._isolate(pid_namespace=True)
        except BaseException:
            session.close()
            raise
        return session

    @classmethod
    def without_scripts(cls, work: str) -> Self:
        """Start the processes as :meth:`open` does, for nobody but who asks how they are isolated; fakeroot is not needed."""
        session = cls(work, _start(None, NONE), ("", ""))
        session._isolate(pid_namespace=True)
        return session

    @property
    def attached(self) -> Attached | None:
        """Give what programs of the session talk to, if any do."""
        return self.extras.attached

    @property
    def trial(self) -> bool:
        """Say whether the scripts are only tried."""
        return self.attached is not None and self.attached.trial

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
            self.process = _start(self.on_output, self.extras)
            self._received = b""
            self._isolate(pid_namespace=False)
        self.refused = dict(answer.refused)

    def _isolate(self, *, pid_namespace: bool) -> None:
        self._send(Isolate(self.isolation, pid_namespace, self.network, os.fsencode(self.work), self.extras.kept))

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
        start: Start,
        base: Base | None = None,
        *,
        progress: Report,
    ) -> OwnershipRecord:
        """Run the spec's scripts in order, as ``start`` says; give what they recorded.

        ``progress`` is told as each begins and, where ``on_output`` is, twice in a second while it runs.

        A ``base`` is shown below what is staged, by an overlay; :class:`OverlayError` is
        raised where that cannot be.
        Raises :class:`ScriptError` for the first that fails, :class:`DaemonError` where the session broke.
        """
        saved, load = f"{self.work}/save", f"{self.work}/load"
        with open(load, "wb") as file:
            file.write(save_file(staged.rows.items()))
        variables = Environment.of(spec, start.account, mounted=self.isolation == "namespaces")
        commands = Commands(spec, staged, start, self.isolation, self.fallback, self.attached)
        scripts = tuple(commands.script(number, attached=self.trial) for number in range(len(spec.scripts)))
        added = [(source, path) for path, source in staged.scaffold.items() if source is not None]
        self._send(
            Order(
                view=spec.view,
                tree=staged.tree,
                overlay=None if base is None else overlay(base, staged),
                binds=tuple(Mount(*mount) for mount in staged.mounts),
                scaffold=tuple(Mount(*pair) for pair in added),
                own=SCAFFOLD,
                nodes=tuple(source for source, path in added if path.startswith(b"dev/")),
                extras=self.extras.mounts,
                emulator=self.emulator,
                scripts=scripts,
                environment=self.extras.with_secrets(variables.variables),
                timeout=spec.timeout,
                xattrs=staged_xattrs(staged, base),
                load=os.fsencode(load),
                save_file=os.fsencode(saved),
                faked=os.fsencode(self.programs[0]),
                library=os.fsencode(self.programs[1]),
                on_failure=None if self.attached is None or self.trial else commands.shell(),
                streams=() if self.attached is None else self.attached.streams,
                discarded=self.trial,
                awaited=self.on_output is not None,
            )
        )
        answer = self._receive()
        if isinstance(answer, Open):
            progress(Progress("run", note=_open(answer.folders)))
            answer = self._receive()
        while isinstance(answer, Begins | Fails | Looked):
            answer = self._follow(answer, spec, variables, progress)
        self._settle()
        if isinstance(answer, Told):
            raise answer.error()
        assert isinstance(answer, Outcome)  # noqa: S101 - the last thing that is said
        return self._record(answer, spec, saved, variables)

    def _follow(self, said: Begins | Fails | Looked, spec: LayerSpec, variables: Environment, progress: Report) -> Message:
        """Tell of what happens in the session, and wait for what happens next."""
        match said:
            case Begins(number):
                begun = Progress("run", script=spec.scripts[number].name)
                progress(begun)
                if self.on_output is not None:  # all that it has heard by now is of scripts before
                    self._send(said)
                if not self.trial:
                    return self._receive(None if self.on_output is None else partial(progress, begun))
            case Fails(failure):
                error = failed(spec.scripts[failure.number], failure.end, spec, variables)
                note = "a shell opens where it failed; what is done there is not kept, and `exit` ends it"
                progress(Progress("run", note="\n".join((*error.problems, note))))
            case Looked(end):
                if isinstance(end, NotStarted):
                    progress(Progress("run", note=f"there is no shell in the view of the scripts: {end.about}"))
                return self._receive()
        assert self.attached is not None  # noqa: S101 - or nothing of this was ordered
        with self.attached.shown():
            return self._receive(attached=self.attached)

    def _record(self, outcome: Outcome, spec: LayerSpec, saved: str, variables: Environment) -> OwnershipRecord:
        if self.trial and outcome.failure is not None and isinstance(outcome.failure.end, Exited | Killed):
            self.status = status_of(outcome.failure.end)
        elif outcome.failure is not None:
            raise failed(spec.scripts[outcome.failure.number], outcome.failure.end, spec, variables)
        with open(saved, "rb") as file:
            record = OwnershipRecord.parse(file.read())
        xattrs: dict[Inode, list[tuple[bytes, bytes]]] = {}
        for inode, name, value in outcome.attributes:
            xattrs.setdefault(inode, []).append((name, value))
        return attrs.evolve(
            record,
            xattrs={inode: tuple(pairs) for inode, pairs in xattrs.items()},
            wishes=outcome.wishes,
            shown=None if outcome.overlay is None else _shown(outcome.overlay),
        )

    def _send(self, message: Message) -> None:
        try:
            self.process.stdin.write(to_json(message))  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError as error:
            problem = "the session's processes ended before it began"
            raise DaemonError(problem) from error

    def _receive(self, tick: Callable[[], object] | None = None, attached: Attached | None = None) -> Message:
        """Wait for a message, and hand on what the scripts have written before it; ``tick`` is called meanwhile.

        Of what is ``attached`` is handed on what comes from either side.
        """
        answers: int = self.process.stdout.fileno()  # type: ignore[union-attr]
        poller = select.poll()
        poller.register(answers, select.POLLIN)
        output = self.process.stderr
        if output is not None:
            poller.register(output, select.POLLIN)
        for descriptor in () if attached is None else attached.watched:
            poller.register(descriptor, select.POLLIN)
        parts = [self._received]
        while b"\n" not in parts[-1]:
            ready = {number for number, _ in poller.poll(None if tick is None else _TICK_MS)}
            _hand_on(attached, ready, poller)
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


def _start(on_output: object, extras: Extras) -> subprocess.Popen[bytes]:
    return start_python(*_KEEPER, stderr=None if on_output is None else subprocess.PIPE, kept=extras.kept)


def _open(folders: tuple[bytes, ...]) -> str:
    shown = ", ".join(map(os.fsdecode, folders[:_MOST_SHOWN])) + (", …" if len(folders) > _MOST_SHOWN else "")
    return f"scripts reach this machine's pipes, sockets and locks of files in {shown}: the kernel cannot show that in an overlay"


def _hand_on(attached: Attached | None, ready: Collection[int], poller: select.poll) -> None:
    """Hand on what comes from either side of what is attached; who has gone is not listened to any more."""
    if attached is not None:
        before = {*attached.watched}
        attached.hand_on(ready)
        for gone in before.difference(attached.watched):
            poller.unregister(gone)


def _shown(told: OverlayShown) -> Shown:
    return Shown(told.device, dict(told.moved), dict(told.paths))
