#!/usr/bin/python3
"""Make a Nix-like closure, without Nix, from Debian packages installed on this machine.

Each package becomes a store path under ``OUT/nix/store``: programs in ``bin``, and the ELF
interpreters and run paths, script interpreters and symbolic links turned to the other store
paths, so that programs run in a root that holds only ``/nix/store``. (What a program has
compiled in, such as Python's or Perl's own library, stays what it was.) Modes and times are
Nix's, and ``OUT/graph`` is what its ``exportReferencesGraph`` writes: a scan of the bytes
finds the same references. The same packages give the same bytes to root and to all others.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import mmap
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DEFAULT = ("bash", "coreutils", "passwd", "login", "util-linux", "libpam-modules")
"""A shell, the shadow and login tools, ``su`` (of util-linux), and the modules that it loads."""

SKIPPED = frozenset(
    [
        "base-files",
        "debconf",
        "debianutils",
        "dpkg",
        "init-system-helpers",
        "libpam-runtime",
        "mailcap",
        "media-types",
        "sensible-utils",
        "util-linux-extra",
    ]
)
"""Debian's own machinery: what depends on it runs without it."""

DOCUMENTS = tuple(f"/usr/share/{name}/" for name in ("doc", "man", "locale", "lintian"))
LIBRARIES = (f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib", "/usr/lib64")
INTERPRETER = re.compile(rb"#! *(?:/usr/bin/env +)?([\w./+-]+)")
VERSION = "machine-closure 1"
"""Part of every digest: change it when the same packages come to give other bytes."""


@dataclass(frozen=True)
class Package:
    """A package: where its files go below its store path, and what it depends on."""

    name: str
    version: str
    files: Mapping[str, str]
    """Path on this machine (usr-merged) -> path below the store path."""
    deps: tuple[str, ...]

    @property
    def store_name(self) -> str:
        """Name of the store path, after the digest."""
        name = f"{self.name}-{self.version.split(':')[-1]}"
        return re.sub(r"[^\w+.?=-]", "-", name, flags=re.ASCII)


Plan = dict[str, Package]
"""Packages by name, each after those that it depends on."""


def say(message: str) -> None:
    """Tell a person."""
    print(f"machine_closure: {message}", file=sys.stderr)


# --- what is installed ---


def usr_merged(path: str) -> str:
    """Give the path as it is where ``/bin`` is a link to ``/usr/bin``."""
    path = os.path.normpath(path)
    return "/usr" + path if re.match(r"/(s?bin|lib(|32|64|x32))/", path) else path


def placed(path: str) -> str:
    """Say where a usr-merged path goes below its store path."""
    return re.sub(r"^sbin/", "bin/", path[1:].removeprefix("usr/"))


def script_interpreter(path: str) -> str:
    """Give the program that an executable script names in its first line, or nothing."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if os.stat(path).st_mode & 0o100 and (found := INTERPRETER.match(file.read(128))):
            return usr_merged(os.path.join("/usr/bin", found[1].decode()))
    return ""


def chosen_files(listed: Iterable[str]) -> dict[str, str]:
    """Choose a package's files, links and empty directories, without its documents.

    What not everyone may read is left out, so that root and all others make the same.
    """
    paths = [usr_merged(path) for path in listed]
    parents = {os.path.dirname(path) for path in paths}
    closed, chosen = set[str](), dict[str, str]()
    for path in paths:
        if not path.startswith(("/usr/", "/etc/", "/opt/")) or path.startswith(DOCUMENTS):
            continue
        mode = os.lstat(path).st_mode if os.path.lexists(path) else 0
        wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
        if mode & wanted != wanted or os.path.dirname(path) in closed:
            closed.add(path)
        elif not stat.S_ISDIR(mode) or path not in parents:
            chosen.setdefault(placed(path), path)
    return {path: place for place, path in chosen.items()}


@dataclass(frozen=True)
class Machine:
    """What is installed here."""

    packages: dict[str, tuple[str, str, list[str]]] = field(default_factory=dict)
    """By package: version, dependencies as dpkg writes them, paths."""
    providers: dict[str, str] = field(default_factory=dict)
    """By name in a dependency, the package: that of the name, else the first that provides it."""
    essential: dict[str, str] = field(default_factory=dict)
    """By program, the package: no other one says that it depends on it."""

    @classmethod
    def read(cls) -> Machine:
        """Ask dpkg. ``sh`` is bash, as it is with Nix."""
        machine = cls()
        names = ["Package", "db:Status-Abbrev", "Essential", "Version"]
        names += ["Pre-Depends", "Depends", "Provides"]
        form = "\1" + "".join(f"${{{name}}}\t" for name in names) + "\n${db-fsys:Files}"
        query = subprocess.run(("dpkg-query", "-W", "-f", form), check=True, stdout=subprocess.PIPE)
        for record in os.fsdecode(query.stdout).split("\1")[1:]:
            head, *lines = record.splitlines()
            name, status, is_essential, version, early, late, provides, _ = head.split("\t")
            if not status.startswith("ii") or name in machine.packages:
                continue
            paths = [line.strip() for line in lines]
            machine.packages[name] = version, f"{early},{late}", paths
            for word in filter(None, map(str.strip, provides.split(","))):
                machine.providers.setdefault(word.split()[0], name)
            if is_essential == "yes":
                programs = (usr_merged(path) for path in paths if "bin/" in path)
                machine.essential.update(dict.fromkeys(programs, name))
        machine.essential["/usr/bin/sh"] = "bash"
        machine.providers.update((name, name) for name in machine.packages)
        return machine

    def needed(self, name: str, files: Iterable[str]) -> list[str]:
        """Give what a package depends on, and the Essential packages that its scripts name."""
        found = []
        for clause in self.packages[name][1].split(",") if name != "libc6" else ():
            choices = (re.split("[ (:]", choice.strip())[0] for choice in clause.split("|"))
            known = (self.providers.get(each, each) for each in choices)
            found.append(next((each for each in known if each in self.packages), ""))
        found += sorted({self.essential.get(script_interpreter(file), "") for file in files})
        return [other for other in dict.fromkeys(found) if other not in ("", name)]


def make_plan(names: Sequence[str]) -> Plan:
    """Find all packages that these need. A cycle is cut at the edge that closes it."""
    machine = Machine.read()
    if missing := [name for name in names if name not in machine.packages]:
        raise LookupError(f"not installed: {' '.join(missing)}")
    plan, entered = Plan(), set(SKIPPED.difference(names))

    def enter(name: str) -> None:
        entered.add(name)
        version, _, paths = machine.packages[name]
        files = chosen_files(paths)
        needed = machine.needed(name, files)
        for other in needed:
            if other not in entered:
                enter(other)
        plan[name] = Package(name, version, files, tuple(dep for dep in needed if dep in plan))

    for name in names:
        if name not in entered:
            enter(name)
    return plan


def closure_of(plan: Plan, name: str) -> list[str]:
    """Give a package and all that it depends on, the nearest first."""
    found = [name]
    for each in found:
        found += [dep for dep in plan[each].deps if dep not in found]
    return found


# --- ELF ---


def read_elf(path: str) -> tuple[str, list[str], list[str]] | None:
    """Give the interpreter, needed libraries and run path of a dynamic ELF file (64-bit, LE)."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x7fELF\2\1":
            return None
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with data:

        def text(start: int) -> str:
            return os.fsdecode(data[start : data.find(b"\0", start)])

        table, size, count = struct.unpack_from("<32xQ14xHH", data)
        heads = [struct.unpack_from("<I4xQQ8xQ", data, table + size * n) for n in range(count)]
        interpreter = next((text(offset) for kind, offset, _, _ in heads if kind == 3), "")
        tags: dict[int, list[int]] = defaultdict(list)
        for kind, offset, _, length in heads:
            if kind == 2:  # PT_DYNAMIC
                for tag, value in struct.iter_unpack("<qQ", data[offset : offset + length]):
                    tags[tag].append(value)
        for kind, offset, address, length in heads:  # DT_STRTAB is an address, in a PT_LOAD
            if kind == 1 and tags[5] and 0 <= (into := tags[5][0] - address) < length:
                needed = [text(offset + into + value) for value in tags[1]]
                paths = [text(offset + into + value) for value in tags[29] or tags[15]]
                return interpreter, needed, [each for path in paths for each in path.split(":")]
    return None


def patch(options: Sequence[str], files: Sequence[str]) -> None:
    """Run patchelf, on many files at once; a file that it refuses stays as it is."""
    command = ("patchelf", *options, *files)
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    if done.returncode and len(files) > 1:
        for file in files:
            patch(options, [file])
    elif done.returncode:
        say(f"left as it is: {files[0]}: {done.stderr.strip()}")


# --- store paths ---


def owners(plan: Plan) -> dict[str, tuple[str, str]]:
    """Say of each path on this machine which package has it, and where that places it."""
    found = {path: (name, place) for name in plan for path, place in plan[name].files.items()}
    return found | ({"/usr/bin/sh": ("bash", "bin/sh")} if "bash" in plan else {})


@dataclass(frozen=True)
class Builder:
    """Makes one package's store path.

    ``paths`` are the store paths by package. ``machine`` is where this machine's root is seen,
    for a build in a sandbox. ``references`` are the packages that the result refers to.
    """

    package: Package
    closure: Sequence[str]
    owners: Mapping[str, tuple[str, str]]
    paths: Mapping[str, str]
    machine: str = ""
    references: set[str] = field(default_factory=set)

    def build(self, out: Path) -> set[str]:
        """Write the store path to ``out``; give its references."""
        patches: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path, place in self.package.files.items():
            source, target = self.machine + path, out / place
            mode = os.lstat(source).st_mode
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISDIR(mode):
                target.mkdir(exist_ok=True)
            elif stat.S_ISLNK(mode):
                target.symlink_to(self.link_target(path, place, os.readlink(source)))
            else:
                shutil.copyfile(source, target)
                target.chmod(0o755 if mode & 0o100 else 0o644)
                if program := self.stored(script_interpreter(source)):
                    line = b"#!" + program.encode()
                    target.write_bytes(INTERPRETER.sub(line, target.read_bytes(), count=1))
                if options := self.elf_options(source, path):
                    patches[options].append(str(target))
        for options, files in patches.items():
            for start in range(0, len(files), 100):
                patch(options, files[start : start + 100])
        if self.package.name == "bash":
            (out / "bin/sh").symlink_to("bash")
        (out / "nix-support").mkdir(parents=True)
        deps = "".join(f"{self.paths[dep]}\n" for dep in self.package.deps)
        (out / "nix-support/propagated-build-inputs").write_text(deps)
        return self.references.union(self.package.deps)

    def stored(self, path: str) -> str:
        """Give the name in the store of a path on this machine, or nothing, and note it."""
        owner, place = self.owners.get(usr_merged(path), ("", ""))
        if owner not in self.closure:
            return ""
        self.references.add(owner)
        return f"{self.paths[owner]}/{place}"

    def link_target(self, path: str, place: str, target: str) -> str:
        """Keep a link within the package relative; turn another to the store path it means."""
        meant = usr_merged(os.path.join(os.path.dirname(path), target))
        owner, meant_place = self.owners.get(meant, ("", placed(meant)))
        if owner != self.package.name and (stored := self.stored(meant)):
            return stored
        if owner != self.package.name and target.startswith("/"):
            return target
        return os.path.relpath(meant_place, os.path.dirname(place))

    def elf_options(self, source: str, path: str) -> tuple[str, ...]:
        """Say what patchelf is to set: the interpreter and libraries that the closure has."""
        if self.package.name == "libc6" or "/debug/" in path or not (elf := read_elf(source)):
            return ()
        interpreter, needed, run_path = elf
        places = [re.sub(r"\$\{?ORIGIN\}?", os.path.dirname(path), each) for each in run_path]
        candidates = ([f"{place}/{name}" for place in (*places, *LIBRARIES)] for name in needed)
        found = (next(filter(None, map(self.stored, each)), "") for each in candidates)
        value = ":".join(dict.fromkeys(os.path.dirname(library) for library in found if library))
        options = {
            "--set-interpreter": interpreter and self.stored(interpreter),
            "--set-rpath": value,
        }
        return tuple(word for option in options.items() if option[1] for word in option)


def build_env(plan: Plan, asked: Iterable[str], paths: Mapping[str, str], out: Path) -> set[str]:
    """Write links to all programs, an asked package's before another's of that name."""
    asked, programs = list(asked), {"bin/sh": "bash"} if "bash" in plan else {}
    for name in (*asked, *plan):
        for place in plan[name].files.values():
            if os.path.dirname(place) == "bin":
                programs.setdefault(place, name)
    (out / "bin").mkdir(parents=True)
    for place, name in programs.items():
        (out / place).symlink_to(f"{paths[name]}/{place}")
    (out / "nix-support").mkdir()
    lines = "".join(f"{paths[name]}\n" for name in asked)
    (out / "nix-support/propagated-user-env-packages").write_text(lines)
    return {*asked, *programs.values()}


# --- a store without Nix ---


def store_path(name: str, inputs: Iterable[str]) -> str:
    """Name a store path by a digest, in Nix's base 32, of what decides it."""
    digest = hashlib.sha256("\n".join((VERSION, name, *sorted(inputs))).encode()).digest()
    number, letters = int.from_bytes(digest[:20], "little"), "0123456789abcdfghijklmnpqrsvwxyz"
    return f"/nix/store/{''.join(letters[number >> 5 * n & 31] for n in range(31, -1, -1))}-{name}"


def canonicalise(path: Path) -> tuple[int, int]:
    """Give a store path Nix's modes, 0444 and 0555, and its time, 1; count entries and bytes."""
    entries = size = 0
    for directory, directories, files in os.walk(path, topdown=False):
        links = (name for name in directories if os.path.islink(f"{directory}/{name}"))
        for name in (*files, *links, "."):
            entry = os.path.join(directory, name)
            status = os.lstat(entry)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(entry, 0o555 if status.st_mode & 0o100 else 0o444)
            os.utime(entry, (1, 1), follow_symlinks=False)
            entries, size = entries + 1, size + status.st_size * stat.S_ISREG(status.st_mode)
    return entries, size


def remove(path: Path) -> None:
    """Remove a tree, read-only directories too."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o755)
    shutil.rmtree(path)


@contextlib.contextmanager
def aside(out: Path) -> Iterator[Path]:
    """Give a directory beside ``out`` that becomes it at the end, or else is removed."""
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        remove(temporary)
        raise


def write_closure(out: Path, names: Sequence[str], *, env: bool = False) -> list[str]:
    """Write the closure of some packages to ``out``; give the store paths that were asked for."""
    began = time.monotonic()
    plan = make_plan(names)
    owned, paths = owners(plan), dict[str, str]()
    for name, package in plan.items():
        paths[name] = store_path(package.store_name, (paths[dep] for dep in package.deps))

    def build(name: str) -> set[str]:
        builder = Builder(plan[name], closure_of(plan, name), owned, paths)
        return builder.build(Path(f"{temporary}{paths[name]}"))

    with aside(out) as temporary:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            references = dict(zip(plan, pool.map(build, plan), strict=True))
        if env:
            paths["env"] = store_path("env", paths.values())
            references["env"] = build_env(plan, names, paths, Path(f"{temporary}{paths['env']}"))
        counts = [canonicalise(Path(f"{temporary}{path}")) for path in paths.values()]
        with open(temporary / "graph", "w") as graph:
            for path, name in sorted((path, name) for name, path in paths.items()):
                referred = sorted(paths[each] for each in references[name])
                print(path, "", len(referred), *referred, sep="\n", file=graph)
    entries, size = map(sum, zip(*counts, strict=True))
    took = time.monotonic() - began
    say(f"{out}: {len(paths)} store paths, {entries} entries, {size / 1e6:.0f} MB, {took:.1f} s")
    return [paths["env"]] if env else [paths[name] for name in names]


def main() -> None:
    """Read the command line, write the closure, print the store paths that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to make")
    parser.add_argument("names", metavar="PACKAGE", nargs="*", help=f"else: {' '.join(DEFAULT)}")
    parser.add_argument("--env", action="store_true", help="add and print links to all programs")
    options = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.umask(0o022)
    try:
        print(*write_closure(options.out, options.names or DEFAULT, env=options.env), sep="\n")
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        sys.exit(f"machine_closure: {error}")


if __name__ == "__main__":
    main()
