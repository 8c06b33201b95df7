"""Real root as the oracle: the same script in a real chroot, and trees and layers read alike.

A tree on disk and a layer's blob become the same thing, a :class:`Snapshot`, so that the
one can be held against the other. Times are not compared: a layer's are clamped.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
from helpers.stores import Store
from helpers.users import HANG

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_TAR_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_XATTR = "SCHILY.xattr."
_COMPARED = ("user.", "security.capability", "system.posix_acl_")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_CAPABILITIES = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setfcap",
    "mknod",
    "sys_chroot",
)
"""What real root keeps: all that files and accounts take, and nothing that reaches the machine."""
SCRIPT = ".rootless-layer"


@attrs.frozen
class Node:
    """Everything that is compared of one path."""

    kind: str
    mode: int
    uid: int
    gid: int
    device: tuple[int, int] | None = None
    target: bytes = b""
    digest: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()


ROOT = Node("directory", 0o755, 0, 0)


@attrs.frozen
class Snapshot:
    """A tree: its nodes by path (the root is ``b""``), and the groups of names that are one file."""

    nodes: Mapping[bytes, Node]
    groups: frozenset[frozenset[bytes]]

    def without(self, prefixes: Iterable[bytes]) -> Snapshot:
        """Leave out these paths and what is below; a group loses its names there."""
        gone = tuple(prefixes)
        under = tuple(prefix + b"/" for prefix in gone)
        nodes = {path: node for path, node in self.nodes.items() if path not in gone and not path.startswith(under)}
        groups = (frozenset(name for name in group if name in nodes) for group in self.groups)
        return Snapshot(nodes, frozenset(group for group in groups if len(group) > 1))


def _grouped(names: Mapping[object, list[bytes]]) -> frozenset[frozenset[bytes]]:
    return frozenset(frozenset(group) for group in names.values() if len(group) > 1)


def on_disk(top: str | Path, *, attributes: bool = True) -> Snapshot:
    """Read a tree as it lies on disk; whoever reads must be root to see everything."""
    nodes: dict[bytes, Node] = {}
    names: dict[object, list[bytes]] = {}
    start = os.fsencode(top)
    pending = [b""]
    while pending:
        path = pending.pop()
        full = start + b"/" + path if path else start
        status = os.lstat(full)
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        mode = 0o777 if kind == "link" else stat.S_IMODE(status.st_mode)
        node = Node(kind, mode, status.st_uid, status.st_gid)
        if kind == "directory":
            pending += [path + b"/" + name if path else name for name in os.listdir(full)]
        elif kind == "link":
            node = attrs.evolve(node, target=os.readlink(full))
        elif kind == "file":
            with open(full, "rb") as file:
                node = attrs.evolve(node, digest=hashlib.file_digest(file, "sha256").hexdigest())
        elif "device" in kind:
            node = attrs.evolve(node, device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
        if attributes and kind != "link":
            node = attrs.evolve(node, xattrs=_xattrs(full))
        nodes[path] = node
        if kind != "directory" and status.st_nlink > 1:
            names.setdefault((status.st_dev, status.st_ino), []).append(path)
    return Snapshot(nodes, _grouped(names))


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    wanted = [name for name in sorted(os.listxattr(path)) if name.startswith(_COMPARED)]
    return tuple((name, os.getxattr(path, name)) for name in wanted)


def in_blob(blob: str | Path, without: Sequence[bytes] = ()) -> Snapshot:
    """Read an uncompressed layer by Python's tarfile, but not the data below some paths, unless it stands elsewhere, too."""
    nodes: dict[bytes, Node] = {}
    names: dict[object, list[bytes]] = {}
    below = tuple(path + b"/" for path in without)
    with tarfile.open(blob, encoding="utf-8", errors="surrogateescape") as tar:
        linked = {member.linkname for member in tar.getmembers() if member.islnk()}
        paths = [member.name for member in tar]
        assert len(set(paths)) == len(paths), "a path stands twice"
        for member in tar:
            path = b"" if member.name == "." else os.fsencode(member.name)
            if path.startswith(below) and member.name not in linked:
                continue
            if member.islnk():
                target = os.fsencode(member.linkname)
                nodes[path] = nodes[target]
                names.setdefault(target, [target]).append(path)
                continue
            kind = _TAR_KINDS[member.type]
            file = tar.extractfile(member) if kind == "file" else None
            nodes[path] = Node(
                kind, member.mode, member.uid, member.gid,
                device=(member.devmajor, member.devminor) if "device" in kind else None,
                target=os.fsencode(member.linkname),
                digest=hashlib.sha256(file.read()).hexdigest() if file is not None else "",
                xattrs=tuple(sorted(
                    (name.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
                    for name, value in member.pax_headers.items() if name.startswith(_XATTR)
                )),
            )  # fmt: skip
    nodes.setdefault(b"", ROOT)
    return Snapshot(nodes, _grouped(names)).without(without)


_ESCAPE = re.compile(rb"\\([0-7]{3})")


def _plain(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)


def in_listing(listing: str | Path) -> dict[bytes, tuple[object, ...]]:
    """Read ``layer.mtree``: kind, mode, owner, group, device and target by path."""
    kinds = {
        b"file": "file",
        b"dir": "directory",
        b"link": "link",
        b"char": "character device",
        b"block": "block device",
        b"fifo": "fifo",
    }
    found: dict[bytes, tuple[object, ...]] = {}
    for line in Path(listing).read_bytes().splitlines():
        if line.startswith(b"#"):
            continue
        name, *words = line.split(b" ")
        facts = dict(word.split(b"=", 1) for word in words)
        device = tuple(int(number) for number in facts[b"device"].split(b",")[1:]) if b"device" in facts else None
        path = b"" if name == b"." else _plain(name.removeprefix(b"./"))
        found[path] = (
            kinds[facts[b"type"]], int(facts[b"mode"], 8), int(facts[b"uid"]), int(facts[b"gid"]), device, _plain(facts.get(b"link", b"")),
        )  # fmt: skip
    return found


def listed(snapshot: Snapshot) -> dict[bytes, tuple[object, ...]]:
    """Give of a snapshot what a listing says; a device 0,0 is not written there."""
    return {
        path: (node.kind, node.mode, node.uid, node.gid, None if node.device == (0, 0) else node.device, node.target)
        for path, node in snapshot.nodes.items()
    }


def differences(real: Snapshot, ours: Snapshot) -> dict[str, tuple[object, object]]:
    """Say where two snapshots differ: what real root has, and what we have."""
    found: dict[str, tuple[object, object]] = {}
    for path in sorted(real.nodes.keys() | ours.nodes.keys()):
        name = "/" + path.decode("utf-8", "backslashreplace")
        one, other = real.nodes.get(path), ours.nodes.get(path)
        if one is None or other is None:
            found[name] = one, other
            continue
        for field in attrs.fields(Node):
            values = getattr(one, field.name), getattr(other, field.name)
            if values[0] != values[1]:
                found[f"{name}: {field.name}"] = values
    for group in real.groups ^ ours.groups:
        where = (sorted(group), None) if group in real.groups else (None, sorted(group))
        found[f"group of {min(group)!r}"] = where
    return found


def unpack(blob: str | Path, folder: Path) -> None:
    """Unpack a layer as root by GNU tar, with everything that it knows."""
    folder.mkdir()
    words = ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", blob, "-C", folder]
    subprocess.run(words, check=True, capture_output=True)


@attrs.frozen
class Chroot:
    """A tree that real root runs scripts in.

    ``base`` is the unpacked layer of the same inputs without a script. Each run has a copy
    of what is outside of the store; the store paths are mounted read-only, as they are in
    the root view.

    Real root could harm the machine, so nothing of the machine's is within its reach: the
    nodes in /dev are the chroot's own (a ``chmod`` through a bind mount would change the
    machine's), nodes elsewhere in the tree cannot be opened, /proc is read-only, and the
    capabilities that are not about files are gone before the script starts.
    """

    base: Path
    store: Store
    environment: Mapping[str, str]

    @property
    def store_paths(self) -> list[str]:
        """The store paths, relative to the root."""
        return sorted(path.lstrip("/") for path in self.store.paths.values())

    def run(self, text: str, tree: Path, epoch: int = 1) -> Snapshot:
        """Run a script as real root in a fresh copy of the tree; read what it leaves."""
        self._copy(tree)
        folder = tree / SCRIPT
        folder.mkdir()
        (folder / "script").write_text(text)
        (folder / "script").chmod(0o755)
        added = [name for name in ("proc", "dev") if not (tree / name).exists()]
        for name in ("proc", "dev"):
            (tree / name).mkdir(exist_ok=True)
        command = ["/" + SCRIPT + "/script"] if text.startswith("#!") else ["sh", "-e", "/" + SCRIPT + "/script"]
        # With its own PID namespace nothing outlives the run, and with its own mounts nothing stays mounted.
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec", self._mounts(tree, epoch), "sh", *command],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=HANG, check=False, umask=0o022,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return on_disk(tree).without([SCRIPT.encode(), *map(os.fsencode, added), *map(os.fsencode, self.store_paths)])

    def _copy(self, tree: Path) -> None:
        words = ["rsync", "-aX", "--numeric-ids", "--exclude=/nix/store/*/*", f"{self.base}/", f"{tree}/"]
        subprocess.run(words, check=True, capture_output=True)
        for path in self.store_paths:
            (tree / path).mkdir(parents=True, exist_ok=True)

    def _mounts(self, tree: Path, epoch: int) -> str:
        top = shlex.quote(str(tree))
        lines = [
            f"mount --bind {top} {top}", f"mount -o remount,bind,nodev {top}", f"cd {top}",
            "mount -t proc -o ro proc proc", "mount -t tmpfs -o mode=755 tmpfs dev",
        ]  # fmt: skip
        table = tree / SCRIPT / "fstab"  # by which one process mounts them all
        table.write_text("".join(f"{self.base}/{path} {tree}/{path} none bind,ro 0 0\n" for path in self.store_paths))
        lines.append(f"mount --all --fstab {shlex.quote(str(table))}")
        lines += [f"mknod -m 666 dev/{name} c {major} {minor}" for name, (major, minor) in _DEVICES.items()]
        bins = ":".join(f"/{path}/bin" for path in self.store_paths)
        variables = {
            "HOME": "/root", "LOGNAME": "root", "USER": "root", "TERM": "dumb", "SOURCE_DATE_EPOCH": str(epoch),
            "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{bins}", **self.environment,
        }  # fmt: skip
        words = " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items())
        shell = shlex.quote(f"/{self.store.path('bash').lstrip('/')}/bin/bash")
        # env is looked for on this side, the script's programs on the other.
        kept = ",".join(("-all", *(f"+{name}" for name in _CAPABILITIES)))
        lines.append(
            f'exec setpriv --groups 0 --bounding-set={kept} --inh-caps=-all env -i {words} /usr/sbin/chroot . {shell} -c \'exec "$@"\' "$0" "$@"'
        )
        return "\n".join(lines)
