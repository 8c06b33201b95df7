"""Real closures of this machine's own programs, and trees to go with them."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from helpers.place import once, remove

SCRIPTS = Path(__file__).parents[2] / "scripts"


@attrs.frozen
class Store:
    """A closure on disk: its references graph, the other root it lies under, and its store paths by name."""

    root: Path
    graph: Path
    paths: Mapping[str, str]

    @property
    def options(self) -> list[str]:
        """The options that name it."""
        return ["--closure", str(self.graph), "--store-root", str(self.root)]

    def path(self, package: str) -> str:
        """The store path of a Debian package, such as /nix/store/…-bash-5.2."""
        return next(path for name, path in self.paths.items() if name.startswith(package + "-"))

    def on_disk(self, package: str) -> Path:
        """Where that store path lies on this machine."""
        return Path(f"{self.root}{self.path(package)}")


def store_of(root: Path, graph: Path) -> Store:
    """Read a closure's store paths from its directory."""
    folder = root / "nix/store"
    return Store(root, graph, {name[33:]: f"/nix/store/{name}" for name in sorted(os.listdir(folder)) if name[32:33] == "-"})


PACKAGES = ("bash", "coreutils", "passwd", "login", "util-linux", "libpam-modules")
TOOLS = ("findutils", "sed", "grep", "tar", "acl", "attr", "libcap2-bin", "rsync", "perl-base", "python3.11-minimal")


def make_store(folder: Path, packages: Sequence[str]) -> Store:
    """Make a closure of this machine's own programs, for a test that does with it what it likes."""
    subprocess.run([sys.executable, SCRIPTS / "machine_closure.py", folder, *packages], check=True, capture_output=True)
    for heavy in folder.glob("nix/store/*-libc6-*/lib/*/gconv"):
        heavy.parent.chmod(0o755)
        remove(heavy)  # nothing here converts text
        heavy.parent.chmod(0o555)
    return store_of(folder, folder / "graph")


def shared_store(*packages: str) -> Store:
    """Give a closure of this machine's own programs that is made once for all tests, which only read it."""
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    folder = once(f"store-{digest}", lambda folder: make_store(folder, packages))
    return store_of(folder, folder / "graph")


def own(folder: Path, names: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Store:
    """Make a store of one file for each path, so small that a test may have its own."""
    paths = {name: f"/nix/store/{name[0] * 32}-{name}" for name in names}
    for name, text in names.items():
        path = Path(f"{folder}{paths[name]}/file")
        path.parent.mkdir(parents=True)
        path.write_text(text)
    records = [
        [paths[name], "", str(len(references.get(name, ()))), *(paths[o] for o in references.get(name, ()))] for name in names
    ]
    (folder / "graph").write_text("".join(f"{line}\n" for record in records for line in record))
    return store_of(folder, folder / "graph")


def make_accounts(folder: Path) -> None:
    """Write the account files."""
    etc = folder / "etc"
    etc.mkdir(parents=True)
    for name, text in {
        "passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        "group": "root:x:0:\nnogroup:x:65534:\nalice:x:1000:\nshadow:x:42:\n",
        "shadow": "root:!x:::::::\n",
        "gshadow": "root:x::\n",
        "login.defs": "ENCRYPT_METHOD SHA512\nSYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\n",
    }.items():
        (etc / name).write_text(text)


def fingerprint(folder: Path) -> dict[str, tuple[object, ...]]:
    """Say everything about a tree that a script must not change: bytes, modes, owners, times, attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for here, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = os.path.normpath(os.path.join(here, name))
            status = os.lstat(path)
            data = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    data = hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                data = os.readlink(path)
            found[path] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ino,
                status.st_rdev, data, tuple(sorted(os.listxattr(path, follow_symlinks=False))),
            )  # fmt: skip
    return found


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Say what a directory holds: modes and bytes."""
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }
