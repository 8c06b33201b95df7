"""Builds that go on from what is known, killed at any moment: what comes next is right, and so is all that is believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.aftermath import processes, until
from helpers.caches import place, tidy
from helpers.closures import chain, graph_of
from helpers.effort import EVERY
from helpers.users import COMMAND, HANG, User, good

pytestmark = pytest.mark.slow
KILLS = 200 if EVERY else 12
SPREAD = 0.6180339887  # multiples of it, but for whole numbers, lie everywhere alike, however many there are
DATA = os.urandom(3_000_000)
WAYS = {
    "derived": ["build", "--blob", "derived"],
    "stored": ["build"],
    "gzip": ["build", "--compression", "gzip"],
    "zstd": ["build", "--compression", "zstd:9"],
    "image": ["image", "--max-layers", "3"],
    "compressed image": ["image", "--max-layers", "3", "--compression", "zstd:9", "--format", "archive"],
}


def command(user: User, number: int, way: Sequence[str], output: str, *more: str) -> list[str | Path]:
    """Give a command of which the last store path is new each time, and one at the beginning each third time."""
    graph = user.home / f"graph-{number}"
    if not graph.exists():
        versions = [b"a", bytes([number // 3]), DATA, b"b", b"c" * 70_000, bytes([number])]
        graph_of(chain(user.home / "root", versions), graph)
    return [*COMMAND, *way, "--closure", graph, "--store-root", user.home / "root", "-o", user.home / output, "--json", *more]


def digest(said: str | bytes) -> str:
    """Give the digest of the layer or image that a command told of."""
    made = json.loads(said)
    return str(made[0]["manifestDigest"] if isinstance(made, list) else made["digest"])


def end(pids: Sequence[int]) -> None:
    """Kill processes, of which some may have ended."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("way", WAYS)
def test_builds_killed_at_any_moment(somebody: User, way: str) -> None:
    """Killed alone, beside another build, or with all that tidies up: the next build is the one without a cache, and nothing is left."""
    user, words = somebody, WAYS[way]
    first, begun = command(user, KILLS, words, "out", "--cache"), time.monotonic()
    assert user.start(first, stdout=subprocess.DEVNULL).wait(HANG) == 0
    whole = time.monotonic() - begun
    for number in range(KILLS):
        right = digest(good(user.run(command(user, number, words, "plain"))).out)
        running = [
            user.start(command(user, number, words, output, "--cache"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for output in ("out", "beside")[: 2 if number % 3 == 1 else 1]
        ]
        time.sleep(whole * (number * SPREAD % 1))
        end([int(found.partition(":")[0]) for found in processes(user)] if number % 4 == 3 else [running[0].pid])
        said = [process.communicate(timeout=HANG)[0] for process in running]
        assert [digest(each) for each in said if each] in ([], [right], [right, right])
        assert until(lambda: not processes(user))
        assert digest(good(user.run(command(user, number, words, "out", "--cache"))).out) == right
        good(tidy(user, "gc", "--keep", "60K" if way == "derived" else "10M"))  # a few layers
        assert user.leftovers() == []
        assert [path for path in place(user).rglob(".*") if path.name.startswith(".rootless-layer-")] == []
        good(tidy(user, "verify"))
