"""How the command ends: each way has its exit status, and says what is true."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from rootless_layer.errors import OutputError, RootlessLayerError, ScriptError, UnavailableError
from rootless_layer.system.border import is_adrift, of_machine
from rootless_layer.system.fork import ENDING, abandon
from rootless_layer.system.replace import PLACED
from rootless_layer.terminal import is_live

from .completed import VARIABLE
from .say import Stdout, say
from .statuses import USAGE
from .versioned import versioned

if TYPE_CHECKING:
    from types import FrameType

_INTERRUPTED = {
    "make": "what is finished is in its place",
    "rm": "what it has removed is gone",
    "gc": "what it has removed is gone",
    "verify": "what it has dropped is gone",
    "ls": "",
    "explain": "",
    "run": "",
    "schema": "",
    "report": "nothing was written",
    "validate": "",
    "inspect": "",
    "diff": "",
    "serve": "",
}
_NOT_WRITTEN = "nothing was kept: the output is as it was before"
_DOCTOR = "`rootless-layer doctor` says what else this machine lacks."
_NOT_WHOLE = "what went to stdout is not whole"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def run(main: click.Group) -> NoReturn:
    """Be the command."""
    _prepare()
    status = _status(main)
    with contextlib.suppress(OSError, OutputError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)  # tearing down a hundred thousand values takes as long as a small build


def _status(main: click.Group) -> int:
    try:
        ended = main(prog_name="rootless-layer", standalone_mode=False)
    except (click.ClickException, RootlessLayerError) as error:
        return _fail(error)
    except Exception as error:
        told = of_machine(error)
        if told is None and VARIABLE in os.environ and isinstance(error, (KeyError, ValueError)):  # click reads them unchecked
            return _fail(click.UsageError("COMP_WORDS and COMP_CWORD are not as a shell sets them that completes a command"))
        if told is None:
            raise
        return _fail(told)
    return ended if isinstance(ended, int) else 0  # click gives the status of its own Exit


def _fail(error: click.ClickException | RootlessLayerError) -> int:
    """Say what is wrong to a person, and to a program where --json asks for it."""
    kind, hint = type(error).__name__, ""
    problems: tuple[str, ...]
    if isinstance(error, RootlessLayerError):
        status, problems, hint = error.exit_code, error.problems, error.hint
        status = error.status if isinstance(error, ScriptError) else status
        if isinstance(error, UnavailableError):
            hint = "\n".join(filter(None, [hint, _DOCTOR]))
        if is_adrift() and not any("working directory" in problem for problem in problems):
            problems += ("the working directory is gone, from which relative paths lead",)
    else:
        kind, status, problems = "UsageError", USAGE, (error.format_message().replace("\n\t", " "),)  # click lists choices so
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "rootless-layer"
        hint = f"`{path} --help` says how it is written."
    say(*problems, *([hint] if hint else []))
    words = sys.argv[1:]
    if "--json" in words[: words.index("--") if "--" in words else None]:
        said = {"kind": kind, "status": status, "problems": [*problems], "hint": hint}
        with contextlib.suppress(OSError, OutputError):
            sys.stdout.write(json.dumps(versioned({"error": said})) + "\n")
    return status


def _prepare() -> None:
    """Make of this process what a command is: streams that are open, signals that end it in order."""
    gc.disable()  # a short life of many small values, which hardly ever refer to one another in a circle
    for number, stream in ((0, sys.stdin), (1, sys.stdout), (2, sys.stderr)):
        if stream is None:  # closed by the caller: nothing that is opened may become it
            _fill(number)
    before, raw = sys.stdout, Stdout(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",  # names need not fit the locale
        line_buffering=raw.isatty(),
    )
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115 - for as long as we live
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as some daemons start their children, it hides how those end
    _allow_many_files()
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminate)


def _allow_many_files() -> None:
    """Raise the limit of open files as far as this user may: each layer and each base in use is one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # a container's limit may be above the kernel's
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fill(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)  # noqa: FBT003 - os's own


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End the command, wherever it is: an exception could come amidst anything, and leave it half done."""
    context = click.get_current_context(silent=True)
    output = context.params.get("output") if context else None
    if PLACED and (output is None or os.path.realpath(output) == str(PLACED[0])):
        return  # too late: the output is in its place, and all that is left is to say so
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # what is left to do is short, and is to be done
    name = context.info_name if context else None
    kept = _INTERRUPTED.get(name or "", _NOT_WHOLE if output == "-" else _NOT_WRITTEN)
    clear = "\r\x1b[K" if is_live(sys.stderr) else ""
    line = f"{clear}rootless-layer: {_WORDS[signal.Signals(number)]}{'; ' if kept else ''}{kept}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
    with contextlib.suppress(OSError):  # threads that lose their files now have nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    abandon()
    os._exit(128 + number)
