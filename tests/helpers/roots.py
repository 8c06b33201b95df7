"""Roots of other kinds than this machine's: of other C libraries, of none, of other releases and architectures."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from helpers.aftermath import PROGRAMS
from helpers.layers import unpacked
from helpers.place import PLACE, once
from helpers.users import User

_LEFT_OUT = ("doc", "man", "locale", "zoneinfo", "i18n")
_FLAGS = ["-O1", "-Wall", "-Wextra", "-Werror"]
COMPILERS = {
    "glibc": (["gcc", "-static"], {}),
    "musl": (["musl-gcc", "-static"], {}),
    "dynamic musl": (["musl-gcc"], {"lib/ld-musl-x86_64.so.1": "/usr/lib/x86_64-linux-musl/libc.so"}),
    "i386": (["gcc", "-m32", "-static"], {}),
    "dynamic i386": (["gcc", "-m32"], {"lib/ld-linux.so.2": "/lib32/ld-linux.so.2", "lib32/libc.so.6": "/lib32/libc.so.6"}),
}
"""How programs are compiled on x86-64, and the files of this machine's that they need beside them."""


BUSYBOX = """
set -e
cd ${TOP:-/}srv
mkdir d; echo a > d/a; echo b > d/b; chown -R 5:6 d; ln -s a d/l; chown -h 7:8 d/l
chmod 4711 d/a; chmod 2755 d
mkdir home; chown app:app home
su app -c 'cd home; touch f; mkdir m; ln -s f s; test "$(id -u):$(id -g)" = 1000:1000; ! touch ../no 2> /dev/null'
cp -a d e; mknod e/c c 1 3; mknod e/bd b 7 0; mkfifo e/p
tar cf t.tar d e; mkdir x; tar xf t.tar -C x; rm t.tar
echo hello > g; chown 33:33 g; sed -i s/hello/bye/ g; chown 34:34 g
rm -r e; mv d z; chown 0:0 z/b
test "$(stat -c %u:%g:%a z/a)" = 5:6:4711
test "$(find x -user 5 | wc -l)" = 6
"""
BY_BUSYBOX = {
    "srv/g": "34:34:644", "srv/home": "1000:1000:755", "srv/home/f": "1000:1000:644", "srv/home/m": "1000:1000:755",
    "srv/home/s": "1000:1000:777", "srv/x": "0:0:755", "srv/x/d": "5:6:2755", "srv/x/d/a": "5:6:4711", "srv/x/d/b": "5:6:644",
    "srv/x/d/l": "0:6:777", "srv/x/e": "5:6:2755", "srv/x/e/a": "5:6:4711", "srv/x/e/b": "5:6:644", "srv/x/e/bd": "0:6:644",
    "srv/x/e/c": "0:6:644", "srv/x/e/l": "0:6:777", "srv/x/e/p": "0:6:644", "srv/z": "5:6:2755", "srv/z/a": "5:6:4711",
    "srv/z/b": "0:0:644", "srv/z/l": "7:8:777",
}  # fmt: skip
"""What the script ``BUSYBOX`` leaves."""


def built(users: Sequence[User], *words: str | Path) -> Mapping[str, str]:
    """Build as each user, the same bytes; give the owners of what is in the layer."""
    results = {user.name: user.build(*words) for user in users}
    digests = {name: result.layer["digest"] for name, result in results.items()}
    assert len(set(digests.values())) == 1, digests
    found = unpacked(users[-1], results[users[-1].name])
    return {path: member.owner for path, member in found.items()}


def below(found: Mapping[str, str], folder: str) -> dict[str, str]:
    """Give what lies in a directory."""
    return {path: owner for path, owner in found.items() if path.startswith(f"{folder}/")}


def bare_root(kind: str) -> Path:
    """Give a root of nothing but the program ``changes`` and what it needs, and of another such root in it."""
    return once(f"root-{kind.replace(' ', '-')}", lambda folder: _make_bare_root(folder, kind))


def _make_bare_root(folder: Path, kind: str) -> None:
    compiler, files = COMPILERS[kind]
    for top in (folder, folder / "inner"):
        (top / "srv").mkdir(parents=True)
        subprocess.run([*compiler, *_FLAGS, "-o", top / "p", PROGRAMS / "changes.c"], check=True)
        for path, source in files.items():
            (top / path).parent.mkdir(exist_ok=True)
            shutil.copy(source, top / path)


BY_GO = {
    "srv/d": "5:6:2755", "srv/d/f": "7:8:644", "srv/d/l": "9:10:777", "srv/null": "0:0:600", "srv/many": "0:0:755",
    **{f"srv/many/{number}": "0:0:755" for number in range(8)},
    **{f"srv/many/{number}/{i}": f"{number + 1}:{i + 1}:644" for number in range(8) for i in range(0, 40, 2)},
}  # fmt: skip
"""What the program ``changes.go`` leaves."""


def go_root(architecture: str) -> Path:
    """Give a root of nothing but a program in Go."""
    return once(f"root-go-{architecture}", lambda folder: _make_go_root(folder, architecture))


def _make_go_root(folder: Path, architecture: str) -> None:
    (folder / "srv").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=os.environ[PLACE]) as home:
        own = {"HOME": home, "PATH": os.environ["PATH"], "CGO_ENABLED": "0", "GO111MODULE": "off", "GOARCH": architecture}
        subprocess.run(["go", "build", "-o", folder / "p", PROGRAMS / "changes.go"], check=True, env=own)


def busybox_root(busybox: str = "/bin/busybox", name: str = "busybox") -> Path:
    """Give a root of nothing but a static busybox, its links, and two accounts."""
    return once(f"root-{name}", lambda folder: _make_busybox_root(folder, busybox))


def _make_busybox_root(folder: Path, busybox: str) -> None:
    for path in ("bin", "etc", "srv", "tmp"):
        (folder / path).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    shutil.copy(busybox, folder / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for name in set(names) - {"busybox"}:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\napp:x:1000:\n")


def debian_root(suite: str, *packages: str, architecture: str = "", unpacked_only: bool = False) -> Path:
    """Give a small Debian of a release as a tar archive; ``unpacked_only`` is as debootstrap's first stage leaves it.

    It is kept for the next run.
    """
    words = filter(None, (suite, architecture, "unpacked" if unpacked_only else "", *packages))
    name = f"root-{'-'.join(words)}.tar"
    cache = Path(
        "/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rootless-layer/tests"
    )
    kept = cache / name

    def make(path: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                _make_debian_root(kept, suite, packages, architecture, unpacked_only=unpacked_only)
        shutil.copy(kept, path)
        path.chmod(0o644)

    return once(name, make)


def _make_debian_root(target: Path, suite: str, packages: tuple[str, ...], architecture: str, *, unpacked_only: bool) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ[PLACE]) as scratch:
        made = f"{scratch}/root.tar"
        command = ["mmdebstrap", f"--variant={'extract' if unpacked_only else 'apt'}", suite, made]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        if packages:
            command.append(f"--include={','.join(packages)}")
        if architecture:
            command.append(f"--architectures={architecture}")
        if os.geteuid() == 0:  # in memory, as dpkg waits for the disk after each file
            os.mkdir(f"{scratch}/memory")
            mounted = f'mount -t tmpfs none {scratch}/memory; export TMPDIR={scratch}/memory; exec "$@" --mode=root'
            command = ["unshare", "--mount", "bash", "-ec", mounted, "-", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shutil.copy(made, f"{target}.new")
    os.rename(f"{target}.new", target)
