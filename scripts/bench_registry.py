"""What a push and a pull cost, for ``scripts/bench``: beside skopeo, with a registry of this machine (Debian's docker-registry).

The registry is empty before each push that is to send all, and the layers are in the cache. Nobody compresses: the peers copy
with ``--preserve-digests``, as skopeo would else compress what it sends to a registry, which takes a minute. The processor times
are those of the programs that push and pull, and not the registry's.
"""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench_row import Row, Run, measure, run, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MOST_UNCHANGED, MOST_MEMORY = 0.3, 150
MOST_READ = 0.05
"""The part of the closure's bytes that an unchanged push may read: the program's own modules, and the listings of its layers."""
MOST_CHANGED, LARGEST_CHANGE = 1.5, 0.1
"""How much longer a push may take than its part of all bytes would; and how large a part the path is that changes."""
PEER_LAYERS = 100
SKOPEO = "skopeo --insecure-policy copy -q --preserve-digests --src-tls-verify=false --dest-tls-verify=false"


class Registries:
    """A registry, and images of a closure that are pushed there and pulled."""

    def __init__(self, cache: Path, image: str, kept: str, store: Path, times: int) -> None:
        """Take the command that makes an image of the closure at ``store``; ``kept`` names the cache of its layers."""
        self.top, self.image, self.kept, self.store, self.times = cache / "registry", image, kept, store, times
        self.command = image.split(" ", 1)[0]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"

    def rows(self, peer_archive: str, closure_bytes: int) -> list[Row]:
        """Measure all; ``peer_archive`` is the command that writes a docker-archive of the closure as nixpkgs does."""
        missing = [name for name in ("docker-registry", "skopeo") if shutil.which(name) is None]
        if missing:
            say(f"no row for registries: {' and '.join(missing)} is not installed")
            return []
        shutil.rmtree(self.top, ignore_errors=True)
        self.top.mkdir(parents=True)
        config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": f"{self.top}/data"}}, "http": {"addr": self.host}}
        (self.top / "config.json").write_text(json.dumps(config))
        words = ["docker-registry", "serve", self.top / "config.json"]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._await(server)
            return [*self._pushes(peer_archive, closure_bytes), *self._pulls()]
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(self.top, ignore_errors=True)

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        name, _, port = self.host.partition(":")
        while server.poll() is None:
            try:
                socket.create_connection((name, int(port))).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit("bench: docker-registry does not start")

    def _taken(self, commands: Mapping[str, str], before: Callable[[], object]) -> dict[str, list[Run]]:
        """Run commands in turn, with something to be done before each."""
        taken: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(self.times):
            for name, command in commands.items():
                before()
                taken[name].append(measure(command))
        for name, runs in taken.items():
            say(f"{name}: {' '.join(f'{each.seconds:.2f} s (CPU {each.cpu:.2f} s)' for each in runs)}")
        return taken

    def _emptied(self) -> None:
        shutil.rmtree(self.top / "data", ignore_errors=True)

    def _pushes(self, peer_archive: str, closure_bytes: int) -> list[Row]:
        archive, theirs = f"{self.top}/ours.tar", f"{self.top}/theirs.tar"
        push = f"{self.kept} {self.image} --cache -q -o docker://{self.host}/bench:1"
        run(f"{self.kept} {self.image} --cache -q -f archive -o {archive}")  # also for the pushes, whose layers are there now
        taken = self._taken(
            {
                "push": push,
                "skopeo of our archive": f"{SKOPEO} oci-archive:{archive} docker://{self.host}/bench:1",
                "tarfile, skopeo": (
                    f"{peer_archive} > {theirs}; {SKOPEO} docker-archive:{theirs} docker://{self.host}/bench:1; rm {theirs}"
                ),
            },
            self._emptied,
        )
        ours, copied, built = (_median(runs) for runs in taken.values())
        peak = max(each.peak for each in taken["push"]) / 1024
        self._emptied()
        run(push)
        # The kernel adds to the shell's own count that of each child waited for.
        again = self._taken({"unchanged": f"{push}; sed -n 's/rchar: //p' /proc/$$/io"}, lambda: None)["unchanged"]
        read = max(int(each.output.split()[-1]) for each in again) / 1e6
        seconds, cpu = _median(again)
        most = MOST_READ * closure_bytes / 1e6
        name, (changed, changed_cpu), (least, part) = self._changed(push)
        in_proportion = least + MOST_CHANGED * part * ours[0]
        return [
            _compared("push to an empty registry", ours, "skopeo copy of our archive", copied, 0.8),
            _compared("push to an empty registry", ours, "tarfile, skopeo copy", built, 0.5),
            Row("unchanged push", seconds, "", 0, f"≤ {MOST_UNCHANGED:.2f} s", seconds <= MOST_UNCHANGED, cpu=cpu),
            Row("unchanged push, bytes read", read, "", 0, f"≤ {most:.0f} MB", read <= most, "MB"),
            Row(name, changed, "", 0, f"≤ {in_proportion:.2f} s", changed <= in_proportion, cpu=changed_cpu),
            Row("memory: push", peak, "", 0, f"≤ {MOST_MEMORY} MiB", peak <= MOST_MEMORY, "MiB"),
        ]

    def _changed(self, push: str) -> tuple[str, tuple[float, float], tuple[float, float]]:
        """Push the closure where one without one of its paths is.

        Give what the row is called, the times, the seconds of the same push where nothing is lacking, and the part of all bytes.
        """
        registration = self.top / "registration"
        registration.write_text(without_a_leaf(self.store))
        less, sizes = push.replace(f"{self.store}/registration", str(registration)), [0, 0]
        run(less)
        run(push)  # the layers of both are in the cache

        def before() -> None:
            self._emptied()
            run(less)
            sizes[0] = self._size()

        runs = self._taken({"a path more": push}, before)["a path more"]
        sizes[1] = self._size()
        least = _median(self._taken({"a path more, unchanged": push}, lambda: None)["a path more, unchanged"])[0]
        part = 1 - sizes[0] / sizes[1]
        return f"push of a path more, {part:.1%} of the bytes", _median(runs), (least, part)

    def _size(self) -> int:
        return int(run(f"du -sb {self.top}/data")[2].split()[0])

    def _pulls(self) -> list[Row]:
        base = f"docker://{self.host}/base:1"
        run(f"{self.kept} {self.image} --cache -q --compression gzip -o {base}")
        taken = self._taken(
            {
                "pull": f"{self.command} pull -q {base} -f layout -o {self.top}/pulled",
                "skopeo": f"{SKOPEO} {base} oci:{self.top}/copied:base",
            },
            lambda: run(f"rm -rf {self.top}/pulled {self.top}/copied"),
        )
        ours, theirs = (_median(runs) for runs in taken.values())
        peak = max(each.peak for each in taken["pull"]) / 1024
        return [
            _compared("pull of a base, gzip", ours, "skopeo copy", theirs, 1.2),
            Row("memory: pull", peak, "", 0, f"≤ {MOST_MEMORY} MiB", peak <= MOST_MEMORY, "MiB"),
        ]


def without_a_leaf(store: Path) -> str:
    """Give a closure's registration without a path to which no other refers."""
    lines, records = iter((store / "registration").read_text().splitlines()), dict[str, list[str]]()
    for path in lines:
        head = [path, *(next(lines) for _ in range(4))]
        records[path] = [*head, *(next(lines) for _ in range(int(head[4])))]
    needed = {other for path, record in records.items() for other in record[5:] if other != path}
    sizes = {path: int(record[2]) for path, record in records.items()}
    small = [path for path in records if path not in needed and sizes[path] <= LARGEST_CHANGE * sum(sizes.values())]
    del records[max(small, key=lambda path: sizes[path])]
    return "".join(f"{line}\n" for record in records.values() for line in record)


def _median(runs: list[Run]) -> tuple[float, float]:
    """Give the medians of the seconds, and of those on processors."""
    return statistics.median(each.seconds for each in runs), statistics.median(each.cpu for each in runs)


def _compared(name: str, ours: tuple[float, float], peer: str, theirs: tuple[float, float], most: float) -> Row:
    met = ours[0] <= most * theirs[0]
    return Row(name, ours[0], peer, theirs[0], f"≤ {most:.2f}", met, cpu=ours[1], their_cpu=theirs[1])
