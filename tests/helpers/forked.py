"""The command without its interpreter's start: one that has imported everything is forked for each run.

Starting Python and importing the package costs more than most of the small builds of these tests. A fork is a process as
any other, with the arguments, variables, directory, streams and user that it is given, and so ``/proc`` tells them.
Only the start is left out. It is run by whatever starts the command through another program (a shell, Nix), starts it
to end it, or gives it variables that an interpreter reads; and by all with ``ROOTLESS_LAYER_TEST_EVERY=1``.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.effort import EVERY
from helpers.place import HERE

PLAIN = frozenset([
    "HOME", "MARK", "NIX_ATTRS_JSON_FILE", "NIX_BUILD_TOP", "PATH", "ROOTLESS_LAYER_CACHE", "ROOTLESS_LAYER_CACHE_SIZE", "SOURCE_DATE_EPOCH",
    "TMPDIR", "USER",
])  # fmt: skip
"""Variables that nothing reads before the command itself does."""
ROOM = 16384
"""Bytes for the arguments of a fork, and as many for its variables."""


def may_be_forked(command: Sequence[str], environment: Mapping[str, str], more: Mapping[str, object]) -> bool:
    """Say whether a run of the command shows the same when it is forked."""
    return (
        not EVERY
        and command[:3] == [sys.executable, "-m", "rootless_layer"]
        and environment.keys() <= PLAIN
        and more.keys() <= {"umask"}
        and sum(len(os.fsencode(word)) + 1 for word in command) < ROOM
        and not any("\0" in word for word in command)
    )


def run_forked(
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: str,
    timeout: float,
    *,
    user: int | None,
    umask: int | None = None,
) -> tuple[int, bytes, bytes]:
    """Run the command to its end; give its exit status, and what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: It took longer than ``timeout`` seconds. What ends the tests will end it.

    """
    request = {"command": list(command), "environment": dict(environment), "cwd": cwd, "umask": umask}
    pipes = [os.pipe() for _ in range(3)]
    with open(os.devnull, "rb") as nothing:
        socket.send_fds(_server(user), [json.dumps(request).encode()], [nothing.fileno(), *(write for _, write in pipes)])
    for _, write in pipes:
        os.close(write)
    texts = {read: b"" for read, _ in pipes}
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for read in texts:
            selector.register(read, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                raise subprocess.TimeoutExpired(command, timeout)
            for key, _ in ready:
                text = os.read(key.fd, 1 << 16)
                texts[key.fd] += text
                if not text:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    out, err, status = texts.values()
    return int(status), out, err


@functools.cache
def _server(user: int | None) -> socket.socket:
    """Start the interpreter that is forked for a user; it ends with this process.

    Each user has one, so that whoever compares what two of them build compares two seeds of hashes.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    text = (HERE / "programs/fork_server.py").read_text()  # which the user may not be able to read
    whose: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", text, str(theirs.fileno()), "-" * ROOM],
            stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "ROOM": "-" * ROOM}, cwd="/", pass_fds=[theirs.fileno()], **whose,
        )  # fmt: skip
    atexit.register(process.wait)
    atexit.register(ours.close)  # runs first
    return ours
