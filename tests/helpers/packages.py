"""Debian's packages: kept with all that they depend on, and installed by real root in a real chroot."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from helpers.oracle import Snapshot, on_disk
from helpers.users import HANG

CACHE = Path("/var/cache/rootless-layer/tests")
"""What is downloaded once, and used by later runs."""
OFFERED = "debs"
"""The directory of the tree that the packages lie in."""
_OWN = ".rootless-layer"
_CAPABILITIES = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "setfcap",
    "mknod",
    "sys_chroot",
)
"""What real root keeps: what files and accounts take."""
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_VARIABLES = {
    "HOME": "/root", "LOGNAME": "root", "USER": "root", "TERM": "dumb", "SOURCE_DATE_EPOCH": "1",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}  # fmt: skip

_ROOT = """
mkdir memory
unshare --mount sh -ec 'mount -t tmpfs none memory; TMPDIR=$PWD/memory exec mmdebstrap --mode=root --variant=apt --include=passwd bookworm root.tar'
mkdir -p lists/partial cache/archives/partial
tar -xf root.tar ./etc/apt/sources.list ./var/lib/dpkg/status
sed -i 's,^deb ,deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ,' etc/apt/sources.list
"""
_APT = """
apt() {
    apt-get -qq -y --no-install-recommends -o Dir::Etc::sourcelist="$PWD/etc/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \\
        -o Dir::State::lists="$PWD/lists" -o Dir::State::status="$PWD/var/lib/dpkg/status" -o Dir::Cache="$PWD/cache" \\
        -o Dir::Cache::archives="$PWD/${archives:-cache/archives}" -o APT::Sandbox::User=root "$@"
}
"""
_UPDATE = _APT + "apt update\n"
_DOWNLOAD = (
    _APT
    + """
apt --download-only install "$@" >/dev/null
archives=none apt --print-uris install "$@" | cut -d ' ' -f 2 >wanted
"""
)
INSTALL = f"""
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /{OFFERED}/*.deb
"""
"""The script that installs packages, and starts no daemon."""

VARIES = {
    r"etc/(machine-id|munge/munge\.key|ssh/ssh_host_\w+_key(\.pub)?)|var/lib/dbus/machine-id": "random",
    r"etc/ssl/(certs/ssl-cert-snakeoil\.pem|private/ssl-cert-snakeoil\.key)|var/lib/rabbitmq/\.erlang\.cookie": "random",
    r"etc/ssl/certs/java/cacerts": "has the time of each certificate",
    r"var/spool/cron/crontabs/\w[\w-]*|run/sudo/ts/\w+": "has the time of its making",
    r"var/log/(dpkg|alternatives|apt/history|apt/term)\.log": "has the time of each line",
    r"var/cache/apt/(src)?pkgcache\.bin": "has times and addresses of memory",
    r"var/cache/man/(\w+/)?index\.db": "has the times of the pages",
    r"var/lib/postgresql/15/main/(global/pg_control|pg_stat/pgstat\.stat|pg_wal/\d+)": "has the cluster's random number, and times",
    r"var/lib/mysql/.*": "has the server's random number, and times",
}
"""Files whose bytes are others each time that real root installs a package, and the reason."""
_VARIES = re.compile("|".join(VARIES))
_NEVER = (b"var/cache/ldconfig/aux-cache",)
"""What is in no layer: it has inode numbers."""
_HASH = re.compile(rb"etc/ssl/certs/[0-9a-f]{8}\.0")


class Packages:
    """A small Debian and packages for it, in a directory that is kept."""

    def __init__(self) -> None:
        """Make the Debian where it is not there."""
        text = (_ROOT + _APT).encode()
        self._folder = CACHE / f"packages-{hashlib.sha256(text).hexdigest()[:12]}"
        self.root = self._folder / "root.tar"
        CACHE.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self._folder.exists():
                made = Path(f"{self._folder}.new")
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                _shell(_ROOT + _UPDATE, made)
                made.rename(self._folder)

    @staticmethod
    def _locked() -> _Lock:
        return _Lock(CACHE / "packages.lock")

    def offer(self, names: Sequence[str], tree: Path) -> None:
        """Make a tree with packages, and with all that they depend on."""
        folder = tree / OFFERED
        folder.mkdir(parents=True)
        with self._locked():
            _shell(_DOWNLOAD, self._folder, *names)
            wanted = (self._folder / "wanted").read_text().split()
        for name in wanted:
            shutil.copy(self._folder / "cache/archives" / name, folder)

    def install_as_real_root(self, offered: Path, tree: Path, script: str = INSTALL) -> Snapshot:
        """Install what is offered in a chroot, without anything of the machine's in reach; read the tree that is left."""
        tree.mkdir()
        subprocess.run(["tar", "--numeric-owner", "-xpf", self.root, "-C", tree], check=True)
        tree.chmod(0o755)
        shutil.copytree(offered / OFFERED, tree / OFFERED)
        (tree / _OWN).mkdir()
        (tree / _OWN / "script").write_text(script)
        with open(f"{tree}.log", "wb") as log:  # no pipe: whoever is left behind would keep it open
            done = subprocess.run(
                ["unshare", "--mount", "--propagation", "private", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-ec", _inside(tree)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=HANG, check=False, umask=0o022,
            )  # fmt: skip
        assert done.returncode == 0, Path(f"{tree}.log").read_text(errors="replace")
        return comparable(on_disk(tree))


class _Lock:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _shell(text: str, folder: Path, *words: str) -> None:
    done = subprocess.run(["bash", "-euc", text, "-", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _inside(tree: Path) -> str:
    top = shlex.quote(str(tree))
    lines = [
        "echo localhost > /proc/sys/kernel/hostname",
        f"mount --bind {top} {top}", f"mount -o remount,bind,nodev {top}", f"cd {top}",
        "mount -t proc -o ro proc proc", "mount -t tmpfs -o mode=755 tmpfs dev",
        *(f"mknod -m 666 dev/{name} c {major} {minor}" for name, (major, minor) in _DEVICES.items()),
        *(f"ln -s {target} dev/{name}" for name, target in _LINKS.items()),
    ]  # fmt: skip
    variables = " ".join(shlex.quote(f"{name}={value}") for name, value in _VARIABLES.items())
    kept = ",".join(("-all", *(f"+{name}" for name in _CAPABILITIES)))
    started = f"/usr/sbin/chroot . /bin/sh -e /{_OWN}/script"
    lines.append(f"exec setpriv --groups 0 --bounding-set={kept} --inh-caps=-all env -i {variables} {started}")
    return "\n".join(lines)


def comparable(snapshot: Snapshot) -> Snapshot:
    """Leave out what no layer holds: sockets, and what the packages lay in."""
    sockets = [path for path, node in snapshot.nodes.items() if node.kind == "socket"]
    return snapshot.without([OFFERED.encode(), _OWN.encode(), *_NEVER, *sockets])


def unexplained(found: dict[str, tuple[object, object]]) -> dict[str, tuple[object, object]]:
    """Leave out the differences that there are between two of real root's own installations."""
    left = {
        name: values
        for name, values in found.items()
        if not (name.endswith(": digest") and _VARIES.fullmatch(name.removesuffix(": digest").removeprefix("/")))
    }
    # A certificate that is made anew is named by another hash: by one link each.
    links = [name for name in left if _HASH.fullmatch(name.encode()[1:])]
    sides = sorted(tuple(side is None for side in left[name]) for name in links)
    targets = {getattr(side, "target", None) for name in links for side in left[name] if side is not None}
    if sides == [(False, True), (True, False)] and targets == {b"ssl-cert-snakeoil.pem"}:
        for name in links:
            del left[name]
    return left
