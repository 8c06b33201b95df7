"""What scripts cost, for ``scripts/bench``: the same work recorded, under fakeroot, under proot and fakeroot, and not recorded.

Each piece of work runs over one Debian root, which mmdebstrap makes at the first run, in an overlay that is new each time.
The script says how long its work took by the clock; the times on processors, of all processes of the run, are given
less those of a run without the work. Both scripts fail in the end, so that no layer is written.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench_row import Row, Run, measure, say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES = "fakeroot,busybox-static,gcc,libc6-dev,make"
DEBS = {"daemons": "openssh-server nginx-light", "database": "postgresql-15"}
"""What the root can install, by the names of directories."""
FETCH = (
    "apt-get -qq -y --no-install-recommends -o APT::Sandbox::User=root -o Dir::Cache::archives=/bench/{0}"
    " --download-only install {1}"
)
MANY = 'cd "$1"; for d in $(seq 600); do mkdir -p many/$d; (cd many/$d && touch $(seq 99)); done'
TREE = (
    'mkdir "$1/tree"; cd "$1/tree"; for d in $(seq 100); do mkdir $d; for f in $(seq 200); do echo $d $f >$d/$f; done; done;'
    " tar --owner=:0 --group=:0 -cf ../tree.tar *[0-4]; tar --owner=:1000 --group=:1000 -rf ../tree.tar *[5-9]; cd ..; rm -r tree"
)
PROJECT = """mkdir -p "$1/project"; cd "$1/project"; objects=
for n in $(seq 40); do
    printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\\nint f%d(void) { return puts("%d"); }\\n' $n $n >f$n.c
    objects="$objects f$n.o"
done
echo 'int main(void) { return 0; }' >main.c
printf 'main: main.o%s\\n\\tcc -o $@ $^\\n' "$objects" >Makefile
"""
HEAD = "set -e\nexport DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8\ncd /\n"
INSTALL = (
    "printf 'exit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d\n"
    "apt-get -qq -y --no-install-recommends -o APT::Sandbox::User=root install /bench/{}/*.deb >/tmp/log 2>&1"
    " || {{ tail -n 5 /tmp/log; exit 1; }}\n"
)
FOREIGN = "".join(f"useradd -M user{number}\n" for number in range(10))
FOREIGN_PACKAGES, FOREIGN_RULE = "base-passwd,coreutils,dash,passwd", "/usr/lib/binfmt.d/qemu-aarch64.conf"
ACCOUNTS = {
    "passwd": "root:x:0:0::/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:1::::::\n",
    "gshadow": "root:*::\n",
}
UNPACK = "mkdir /srv/tree; tar -C /srv/tree ${OWNERS:-} -xf /bench/tree.tar\n"
MOST_START = 60
"""What a session's start may take, in milliseconds."""


@dataclass(frozen=True)
class Work:
    """What is measured, what goes before it, and how much more than fakeroot's it may take."""

    name: str
    script: str
    most: float
    before: str = ""
    recorded: bool = True
    """Whether it needs a record: else it can run without any, too."""


WORKS = {
    "install": Work("apt-get install openssh-server nginx-light", INSTALL.format("daemons"), 1.1),
    "database": Work("apt-get install postgresql-15", INSTALL.format("database"), 1.5),
    "find": Work("find over 60,000 files", "find /bench/many -printf '%U%m\\n' >/dev/null\n", 1.0, recorded=False),
    # The C library looks at two files of /etc for each name: fakeroot's library does not see that.
    "names": Work("find over 60,000 files, names", "find /bench/many -printf '%u%m\\n' >/dev/null\n", 1.0, recorded=False),
    "rm": Work("rm -r of 20,000 files", "rm -r /srv/tree\n", 1.3, before=UNPACK, recorded=False),
    "tar": Work("tar x of 20,000 files", UNPACK, 1.3, recorded=False),
    "execs": Work("500 execs", "for n in $(seq 500); do /bin/true; done\n", 1.2, recorded=False),
    "compile": Work("make -j2, 41 files of C", "make -s -j2 -C /bench/project\n", 1.2, recorded=False),
}
OTHERS = ("foreign", "session")
"""The rows that are not one of those."""
MOST_OF_PROOT, MOST_OF_QEMU = 0.5, 1.5


class Scripts:
    """The root, and the ways to run a script over it."""

    def __init__(self, cache: Path, command: str, before: str | None, times: int) -> None:
        """Make the root where it is not there; ``before`` is an earlier rootless-layer to compare with."""
        self.top, self.times = cache / "scripts", times
        self.root = self.top / "root"
        if not (self.top / "made").exists():
            self._make()
        self.command = command
        commands = {"ours": command} | ({"before": f"{before}/bin/rootless-layer"} if before else {})
        self.ways = {
            way: f"{each} build -q --no-cache --base {self.top}/base -o {self.top}/out --script" for way, each in commands.items()
        }
        environment = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root FAKEROOTDONTTRYCHOWN=1"
        self.ways |= {
            "fakeroot": f"{environment} chroot . fakeroot sh",
            "proot, fakeroot": f"{environment} {shutil.which('proot')} -r . -w / fakeroot sh",
            "nothing recorded": f"{environment} OWNERS=--no-same-owner chroot . sh",
        }
        measure(f"{command} build -q --rootfs {self.root} -o {self.top}/base")

    def _make(self) -> None:
        """Make the root, and what the work is about."""
        shutil.rmtree(self.top, ignore_errors=True)
        self.root.mkdir(parents=True)
        hook = self.top / "hook"
        fetch = "".join(
            f'mkdir -p "$1/bench/{name}/partial"\nchroot "$1" {FETCH.format(name, packages)}\n' for name, packages in DEBS.items()
        )
        hook.write_text(f'#!/bin/sh\nset -e\n{fetch}cd "$1/bench"\nset -- .\n{PROJECT}\ncd ..\n')
        hook.chmod(0o755)
        made = subprocess.Popen(
            ["mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={hook}", "bookworm", "-"],
            stdout=subprocess.PIPE,
        )
        # All is root's, as other ids do not exist in the namespaces of the peers.
        subprocess.run(["tar", "-C", self.root, "--exclude=./dev/*", "--no-same-owner", "-x"], stdin=made.stdout, check=True)
        if made.wait():
            sys.exit("bench: mmdebstrap made no root")
        for text in (MANY, TREE):
            subprocess.run(["bash", "-ec", text, "bench", self.root / "bench"], check=True)
        (self.top / "made").touch()

    def _command(self, way: str, script: Path) -> str:
        """Say how a script runs, in an overlay of its own."""
        if way in {"ours", "before", "ours, foreign"}:
            return f"{self.ways[way]} {script} 2>&1"
        volatile, root, foreign = self.top / "volatile", self.root, ""
        if way == "qemu alone":
            root = self.top / "foreign"
            foreign = (
                f" mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; cat {FOREIGN_RULE} >/proc/sys/fs/binfmt_misc/register;"
            )
        text = (
            f"mount -t overlay -o userxattr,lowerdir={root},upperdir={volatile}/upper,workdir={volatile}/work bench"
            f" {volatile}/all;"
            f" cp {script} {volatile}/all/script; cd {volatile}/all; mount -t proc proc /proc;{foreign} mount --bind /proc proc;"
            " for d in null zero full random urandom tty; do : >dev/$d; mount --bind /dev/$d dev/$d; done;"
            f" {self.ways[way]} /script; sleep 0.1"  # the shell, process 1, waits for faked, whose times count so
        )
        return (
            f"rm -rf {volatile}; mkdir -p {volatile}/upper {volatile}/work {volatile}/all;"
            f" unshare -rmpf bash -c {shlex.quote(text)} 2>&1; rm -rf {volatile}"  # a session removes its files, too
        )

    def _run(self, way: str, text: str) -> tuple[float, float] | None:
        """Run a script; give the seconds that it tells of, and the run's on processors; nothing where a peer cannot run it."""
        script = self.top / "script"
        script.write_text(f"{HEAD}{text}exit 1\n")
        found = measure(f"{{ {self._command(way, script)} ; }} || true")
        said = re.search(r"took (\d+) (\d+)", found.output)
        if said is None and way in {"ours", "ours, foreign"}:
            sys.exit(f"bench: {way}: {found.output[-2000:]}")
        if said is None:
            say(f"{way} fails: {found.output[-2000:]}")
            return None
        return (int(said[2]) - int(said[1])) / 1e9, found.cpu

    def rows(self, name: str) -> list[Row]:
        """Measure one piece of work, every way in turn, or one of the others."""
        if name in {"session", "foreign"}:
            return self._start() if name == "session" else self._foreign()
        work = WORKS[name]
        taken: dict[str, list[tuple[float, float]]] = {
            way: [] for way in self.ways if way != "nothing recorded" or not work.recorded
        }
        for turn in range(self.times + 1):  # the first one warms the cache
            for way, found in list(taken.items()):
                before = f"{work.before}a=$(date +%s%N)\n"
                after = "echo took $a $(date +%s%N)\n"
                without = self._run(way, before + after)
                with_ = self._run(way, before + work.script + after)
                if without is None or with_ is None:
                    del taken[way]  # there is nothing to compare with
                elif turn:
                    found.append((with_[0], with_[1] - without[1]))
        for way, found in taken.items():
            say(f"{name}, {way}: {' '.join(f'{seconds:.2f} s (CPU {cpu:.2f} s)' for seconds, cpu in found)}")
        return _compared(work, {way: tuple(map(statistics.median, zip(*found, strict=True))) for way, found in taken.items()})

    def _start(self) -> list[Row]:
        """Find how much longer a build takes for a script that does nothing, over a root of one program."""
        small = self.top / "small"
        (small / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / "bin/busybox", small / "bin/true")
        command = f"{self.command} build -q --no-cache --copy-to-root {small} -o {self.top}/out"
        runs: list[tuple[Run, Run]] = [(measure(command), measure(f"{command} -- true")) for _ in range(4 * self.times)]
        start = statistics.median(with_.seconds - without.seconds for without, with_ in runs) * 1000
        cpu = statistics.median(with_.cpu - without.cpu for without, with_ in runs)
        return [Row("a session's start", start, "", 0, f"≤ {MOST_START} ms", start <= MOST_START, "ms", cpu)]

    def _foreign(self) -> list[Row]:
        """Find how long useradd takes in a root of arm64, recorded, and by the emulator alone; nothing where there is none."""
        if not os.path.exists(FOREIGN_RULE):
            say("foreign: qemu-user-static is not installed")
            return []
        root, base = self.top / "foreign", self.top / "foreign-base"
        if not root.exists():
            made = self.top / "foreign.tar"
            measure(f"mmdebstrap -q --variant=extract --architectures=arm64 --include={FOREIGN_PACKAGES} bookworm {made}")
            root.mkdir()
            measure(f"tar -C {root} --exclude='./dev/*' --no-same-owner -xf {made}; rm {made}; mkdir -p {root}/proc {root}/root")
            for name, text in ACCOUNTS.items():
                (root / "etc" / name).write_text(text)
        platform = "--platform linux/arm64"
        measure(f"{self.command} build -q {platform} --rootfs {root} -o {base}")
        ways = {
            "ours, foreign": f"{self.command} build -q --no-cache {platform} --base {base} -o {self.top}/out --script",
            "qemu alone": self.ways["nothing recorded"],
        }
        self.ways |= ways
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        text = "a=$(date +%s%N)\n{}echo took $a $(date +%s%N)\n"
        for turn in range(self.times + 1):
            for way, found in taken.items():
                without, with_ = self._run(way, text.format("")), self._run(way, text.format(FOREIGN))
                if without is None or with_ is None:
                    sys.exit(f"bench: {way} fails")
                if turn:
                    found.append((with_[0], with_[1] - without[1]))
        (ours, cpu), (theirs, their_cpu) = (map(statistics.median, zip(*found, strict=True)) for found in taken.values())
        met = ours <= MOST_OF_QEMU * theirs
        return [Row("10 useradd of arm64", ours, "qemu alone", theirs, f"≤ {MOST_OF_QEMU:.2f}", met, "s", cpu, their_cpu)]


def _compared(work: Work, medians: Mapping[str, tuple[float, ...]]) -> list[Row]:
    (ours, our_cpu), rows = medians["ours"], []
    for way, (theirs, their_cpu) in medians.items():
        if way == "ours":
            continue
        most = {"fakeroot": work.most, "proot, fakeroot": MOST_OF_PROOT}.get(way)
        met = most is None or ours <= most * theirs
        rows.append(Row(work.name, ours, way, theirs, "" if most is None else f"≤ {most:.2f}", met, "s", our_cpu, their_cpu))
    return rows
