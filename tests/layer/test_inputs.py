"""Closures, trees and root filesystems come into the layer as they are, or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import inspect
import io
import itertools
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs
import pytest
from helpers import nix_closure
from helpers.effort import EVERY
from helpers.place import PLACE, once
from helpers.stores import Store, fingerprint
from helpers.users import SOMEBODY, Result, User

pytestmark = pytest.mark.slow

LIBRARY = "/nix/store/7l2a4vd7ggk7mk80ya2zdh940m1lf9h0-library"
PROGRAM = "/nix/store/ipm92mjvz1w93ivyh212n0r8p19q00vy-program-1.0"
ABSENT = "/nix/store/cs88p2hnci9msivdfw652b2wr4cm8lwh-absent"


@attrs.frozen
class Member:
    """One path of a layer, as Python's tarfile reads it."""

    info: tarfile.TarInfo
    data: bytes

    @property
    def owner(self) -> str:
        """Owner, group and permissions, as ``stat -c %u:%g:%a`` writes them."""
        return f"{self.info.uid}:{self.info.gid}:{self.info.mode:o}"


def members(user: User, result: Result, output: str = "layer") -> dict[str, Member]:
    """Read the layer that a build has made."""
    blob = user.home / output / "blobs/sha256" / result.layer["digest"].removeprefix("sha256:")
    found = {}
    with tarfile.open(blob) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            found[info.name] = Member(info, file.read() if file else b"")
    return found


def refused(result: Result, *words: str | Path, status: int = 65) -> None:
    """Check that a build ended with an error that holds these words."""
    assert result.status == status, result.err
    assert json.loads(result.out)["error"]["status"] == status
    for word in words:
        assert str(word) in result.err
    assert "Traceback" not in result.err


def nothing_left(user: User) -> None:
    """Check that a failed build left neither a layer nor anything temporary."""
    assert user.leftovers() == []
    assert not (user.home / "layer").exists()


def write(top: Path, files: Mapping[str, str | None]) -> Path:
    """Write a tree: by path a text, ``-> TARGET`` for a symbolic link, or nothing for a directory."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return top


# Closures


@pytest.fixture
def small(user: User) -> Store:
    """A closure of two store paths, one of which refers to the other and to itself."""
    root = user.home / "store"
    write(root / LIBRARY[1:], {"lib/library.so": "library", "lib/empty": "", "share/text": "text"})
    write(root / PROGRAM[1:], {
        "bin/program": "program", "bin/alias": "-> program", "bin/library": f"-> {LIBRARY}/lib/library.so",
        "share/doc/program": "documents", "share/empty": "", "var/empty": None,
    })  # fmt: skip
    (root / PROGRAM[1:] / "bin/program").chmod(0o555)
    (root / "graph").write_text(f"{LIBRARY}\n\n0\n{PROGRAM}\n\n2\n{LIBRARY}\n{PROGRAM}\n")
    return Store(root, root / "graph", {path[44:]: path for path in (LIBRARY, PROGRAM)})


@pytest.fixture(scope="session")
def nix() -> nix_closure.NixClosure:
    """A closure made by a real Nix, once for all of pytest's processes."""
    return made_by_nix("nix")


def made_by_nix(name: str, *, optimise: bool = False) -> nix_closure.NixClosure:
    """Give a closure of that name."""

    def make(folder: Path) -> None:
        made = nix_closure.build_closure(folder, ["bash", "coreutils"], optimise=optimise)
        (folder / "made.json").write_text(json.dumps([made.top, made.paths]))

    folder = once(name, make)
    top, paths = json.loads((folder / "made.json").read_text())
    return nix_closure.NixClosure(folder, top, tuple(paths), folder / "path-info.json", folder / "graph")


def test_every_form_of_a_closure_gives_the_same_layer(user: User, nix: nix_closure.NixClosure) -> None:
    """What Nix writes of one closure in three forms, and its paths on the command line, give one digest."""
    (user.home / "list").write_text("".join(f"{path}\n" for path in reversed(nix.paths)))
    root = ["--store-root", nix.store_root]
    half = len(nix.paths) // 2
    digests = set()
    for words in (
        ["--closure", nix.graph],
        ["--closure", nix.path_info],
        ["--closure", user.home / "list"],
        [word for path in nix.paths for word in ("--store-path", path)],
        ["--closure", user.home / "list", "--store-path", nix.paths[half], "--closure", nix.graph],
    ):
        layer = user.build(*root, *words).layer
        assert layer["madeFrom"]["closure"] == list(nix.paths)
        digests.add(layer["digest"])
    assert len(digests) == 1


def test_a_closure_stands_under_its_own_name(user: User, small: Store) -> None:
    """Wherever the store lies on this machine, its paths are /nix/store in the layer, with no trace of the machine."""
    found = members(user, user.build(*small.options))
    assert f"{PROGRAM[1:]}/bin/program" in found
    assert f"{LIBRARY[1:]}/share/text" in found
    assert set(found) >= {"nix", "nix/store"}
    assert all(name == "nix" or name.startswith("nix/store") for name in found)
    assert found[f"{PROGRAM[1:]}/bin/library"].info.linkname == f"{LIBRARY}/lib/library.so"
    assert found[f"{PROGRAM[1:]}/bin/program"].owner == "0:0:555"


def test_a_store_root_may_be_relative(user: User, small: Store) -> None:
    """--store-root counts from the working directory, and the layer is the same."""
    whole = user.build(*small.options).layer
    assert user.build("--closure", "store/graph", "--store-root", "store").layer["digest"] == whole["digest"]


def test_an_optimised_store_gives_the_same_layer(user: User, nix: nix_closure.NixClosure) -> None:
    """Nix's hard links between files with the same data are the store's own business, not the layer's."""
    folder = made_by_nix("nix-optimised", optimise=True).store_root
    linked = [path for path in (folder / "nix/store").rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert linked
    plain = user.build("--closure", nix.graph, "--store-root", nix.store_root, "--copy-to-root", f"{nix.store_root}{nix.top}")
    graph = ["--closure", folder / "graph", "--store-root", folder]
    optimised = user.build(*graph, "--copy-to-root", f"{folder}{nix.top}", output="optimised")
    assert plain.layer["digest"] == optimised.layer["digest"]


def test_all_missing_paths_are_told_at_once(user: User, small: Store) -> None:
    """Every store path that is not there, and every reference that is not given, stands in one error."""
    other = ABSENT.replace("absent", "other")
    refused(user.build(*small.options, "--store-path", ABSENT, "--store-path", other), ABSENT, other, status=66)
    small.graph.write_text(f"{PROGRAM}\n\n2\n{LIBRARY}\n{PROGRAM}\n{ABSENT}\n\n1\n{other}\n")
    refused(user.build(*small.options), LIBRARY, ABSENT, other, "refers to", status=66)
    nothing_left(user)


@pytest.mark.parametrize("path", ["/etc/passwd", "nix/store", f"{LIBRARY}/lib"])
def test_what_is_no_store_path_is_refused(user: User, small: Store, path: str) -> None:
    """--store-path takes a store path and nothing else."""
    refused(user.build(*small.options, "--store-path", path), repr(path), status=2)
    nothing_left(user)


def test_a_closure_file_of_no_known_form_is_refused(user: User) -> None:
    """A file that is not there, or not a closure, is named in the error."""
    (user.home / "odd").write_text("something else\n")
    for name, status in (("odd", 65), ("absent", 66)):
        refused(user.build("--closure", user.home / name), user.home / name, status=status)
    nothing_left(user)


# Contents


def test_trees_are_merged(user: User) -> None:
    """Directories of several contents become one, and a file that two of them have alike stands once."""
    one = write(user.home / "one", {"etc/one": "1", "etc/same": "same", "etc/link": "-> same", "empty": None})
    two = write(user.home / "two", {"etc/two": "2", "etc/same": "same", "etc/link": "-> same", "var/two": "2"})
    found = members(user, user.build("--copy-to-root", one, "--copy-to-root", two))
    assert set(found) == {"etc", "etc/one", "etc/two", "etc/same", "etc/link", "empty", "var", "var/two"}
    assert found["etc/same"].data == b"same"
    assert found["etc/link"].info.linkname == "same"


def test_a_conflict_names_both_sides(user: User) -> None:
    """All paths that two contents give differently stand in one error, each with both contents."""
    one = write(user.home / "one", {"data": "1", "type": "1", "link": "-> a", "mode": "1", "same": "1"})
    two = write(user.home / "two", {"data": "2", "type/file": "1", "link": "-> b", "mode": "1", "same": "1"})
    (two / "mode").chmod(0o755)
    result = user.build("--copy-to-root", one, "--copy-to-root", two)
    refused(result)
    for name in ("data", "type", "link", "mode"):
        [line] = [line for line in result.err.splitlines() if f"/{name}:" in line]
        assert str(one) in line
        assert str(two) in line
    assert "/same:" not in result.err
    nothing_left(user)


@pytest.mark.parametrize(("conflict", "kept"), [("first", "1"), ("last", "2")])
def test_one_of_two_contents_may_count(user: User, small: Store, conflict: str, kept: str) -> None:
    """With --conflict the first tree's file counts or the last's; not against a directory, a store path or a root filesystem."""
    one = write(user.home / "one", {"etc/name": "1", "bin/program": "1", "only": "1"})
    two = write(user.home / "two", {"etc/name": "2", "bin/program": "-> name", "more": "2"})
    trees = ["--copy-to-root", one, "--copy-to-root", two, "--conflict", conflict]
    found = members(user, user.build(*trees))
    assert found["etc/name"].data.decode() == kept
    assert found["bin/program"].info.issym() == (kept == "2")
    assert {"only", "more"} <= set(found)
    folder = write(user.home / "folder", {"etc/name/file": "3"})
    refused(user.build(*trees, "--copy-to-root", folder), "/etc/name", folder)
    refused(user.build(*trees, "--rootfs", write(user.home / "root", {"etc/name": "0"})), "/etc/name", one)
    changed = write(user.home / "changed", {f"{PROGRAM[1:]}/bin/program": "other"})
    refused(user.build(*small.options, "--copy-to-root", changed, "--conflict", conflict), PROGRAM, changed)


def test_a_content_must_agree_with_the_root_filesystem(user: User) -> None:
    """A content does not silently replace a file of the root filesystem."""
    root = write(user.home / "root", {"etc/passwd": "root", "etc/same": "same"})
    tree = write(user.home / "tree", {"etc/passwd": "other", "etc/same": "same", "etc/more": "more"})
    refused(user.build("--rootfs", root, "--copy-to-root", tree), "/etc/passwd", root, tree)
    (tree / "etc/passwd").unlink()
    assert "etc/more" in members(user, user.build("--rootfs", root, "--copy-to-root", tree))


def test_keep_dirlinks_is_as_rsync_has_it(user: User) -> None:
    """With --keep-dirlinks a directory's files go where an earlier tree links to a directory, as with rsync -K."""
    one = write(
        user.home / "one", {"usr/bin/one": "1", "bin": "-> usr/bin", "sbin": "-> bin", "lib": "-> /usr/lib", "usr/lib": None}
    )
    two = write(user.home / "two", {"bin/two": "2", "bin/deep/two": "2", "sbin/more": "2"})
    trees = ["--copy-to-root", one, "--copy-to-root", two]
    found = members(user, user.build(*trees, "--keep-dirlinks"))
    merged = user.home / "merged"
    for tree in (one, two):
        subprocess.run(["rsync", "-aK", f"{tree}/", merged], check=True)
    expected = {
        os.path.relpath(os.path.join(here, name), merged) for here, dirs, files in os.walk(merged) for name in dirs + files
    }
    assert set(found) == expected
    assert found["usr/bin/two"].data == b"2"
    assert found["usr/bin/more"].data == b"2"
    assert found["bin"].info.issym()


def test_without_keep_dirlinks_a_directory_and_a_link_conflict(user: User) -> None:
    """A directory where another tree has a link is a conflict, in either order; with the option only where the link is later."""
    one = write(user.home / "one", {"usr/bin/one": "1", "bin": "-> usr/bin"})
    two = write(user.home / "two", {"bin/two": "2"})
    refused(user.build("--copy-to-root", one, "--copy-to-root", two), "/bin", one, two)
    refused(user.build("--copy-to-root", two, "--copy-to-root", one), "/bin", one, two)
    refused(user.build("--copy-to-root", two, "--copy-to-root", one, "--keep-dirlinks"), "/bin", one, two)
    nothing_left(user)


@pytest.mark.parametrize("target", ["absent", "usr/file", "dead"])
def test_keep_dirlinks_needs_a_directory_behind_the_link(user: User, target: str) -> None:
    """A link to a file, to nothing or to itself does not become a directory."""
    one = write(user.home / "one", {"usr/file": "1", "dead": "-> dead", "bin": f"-> {target}"})
    two = write(user.home / "two", {"bin/two": "2"})
    refused(user.build("--copy-to-root", one, "--copy-to-root", two, "--keep-dirlinks"), "/bin", two)


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_a_root_file_stands_for_a_store_file(user: User, small: Store, link: str) -> None:
    """--link makes a root file a hard link of the store file, a symbolic link to it, or a copy; an empty file is always a file."""
    before = fingerprint(small.root)
    found = members(user, user.build(*small.options, "--copy-to-root", PROGRAM, "--link", link))
    program, stored = found["bin/program"], f"{PROGRAM[1:]}/bin/program"
    if link == "hard":
        assert program.info.islnk()
        assert program.info.linkname == stored
    elif link == "symbolic":
        assert program.info.issym()
        assert program.info.linkname == f"/{stored}"
    else:
        assert program.data == b"program"
        assert program.owner == "0:0:555"
    assert found[stored].data == b"program"
    assert found["bin/alias"].info.linkname == "program"
    assert found["share/empty"].info.isreg()
    assert found["share/empty"].info.size == 0
    assert found["var/empty"].info.isdir()
    assert fingerprint(small.root) == before


def test_a_content_may_be_part_of_a_store_path(user: User, small: Store) -> None:
    """A directory below a store path is merged as the root, each file a link to where it stands in the store."""
    found = members(user, user.build(*small.options, "--copy-to-root", f"{PROGRAM}/share"))
    assert found["doc/program"].info.linkname == f"{PROGRAM[1:]}/share/doc/program"
    assert "bin" not in found


def test_a_content_may_be_named_as_it_lies_on_disk(user: User, small: Store) -> None:
    """A store path's place under --store-root names the same content as its own name."""
    named = user.build(*small.options, "--copy-to-root", PROGRAM).layer
    placed = user.build(*small.options, "--copy-to-root", small.on_disk("program")).layer
    assert named["digest"] == placed["digest"]


def test_a_content_may_be_a_link(user: User, small: Store) -> None:
    """Links to a content are followed, such as Nix's ``result``: over several, into the store wherever that lies."""
    expected = user.build(*small.options, "--copy-to-root", PROGRAM).layer["digest"]
    (user.home / "result").symlink_to(PROGRAM)
    (user.home / "again").symlink_to("result")
    (user.home / "placed").symlink_to(small.on_disk("program"))
    for name in ("result", "again", "placed"):
        assert user.build(*small.options, "--copy-to-root", user.home / name).layer["digest"] == expected
    tree = write(user.home / "tree", {"file": "text"})
    (user.home / "outside").symlink_to(tree)
    assert members(user, user.build("--copy-to-root", user.home / "outside"))["file"].data == b"text"


def test_a_content_behind_a_linked_directory_is_found(user: User, small: Store) -> None:
    """A link anywhere in a content's path is followed, not only its last part."""
    (user.home / "current").symlink_to(PROGRAM)
    direct = user.build(*small.options, "--copy-to-root", f"{PROGRAM}/share").layer
    linked = user.build(*small.options, "--copy-to-root", user.home / "current/share").layer
    assert direct["digest"] == linked["digest"]


def test_a_content_must_be_a_directory_that_is_there(user: User, small: Store) -> None:
    """A file, a path that is not there and a link to nowhere are errors that name it."""
    (user.home / "loop").symlink_to("loop")
    refused(user.build("--copy-to-root", small.graph), small.graph)
    refused(user.build(*small.options, "--copy-to-root", f"{PROGRAM}/bin/program"), f"{PROGRAM}/bin/program")
    refused(user.build(*small.options, "--copy-to-root", f"{PROGRAM}/absent"), f"{PROGRAM}/absent", status=66)
    absent = user.build("--copy-to-root", user.home / "absent")
    refused(absent, user.home / "absent", status=66)
    assert "--store-root" not in absent.err  # it lies in no store
    refused(user.build("--copy-to-root", user.home / "loop"), user.home / "loop", status=66)
    nothing_left(user)


def test_a_store_path_outside_of_the_closure_is_a_tree_like_any_other(user: User, small: Store) -> None:
    """What a root file stands for must be in the layer: else it is the file itself."""
    options = ["--store-path", LIBRARY, "--store-root", small.root, "--copy-to-root"]
    for name in (PROGRAM, small.on_disk("program")):
        found = members(user, user.build(*options, name))
        assert found["bin/program"].data == b"program"
        assert f"{PROGRAM[1:]}" not in found


def test_two_store_paths_may_hold_the_same_file(user: User, small: Store) -> None:
    """Contents that give a path with the same data do not conflict because they stand for two store files."""
    for path in (LIBRARY, PROGRAM):
        write(small.root / path[1:], {"share/licence": "licence"})
    result = user.build(*small.options, "--copy-to-root", LIBRARY, "--copy-to-root", PROGRAM)
    assert members(user, result)["share/licence"].info.linkname == f"{LIBRARY[1:]}/share/licence"


def test_what_a_user_may_not_read_is_named(user: User) -> None:
    """A file or a directory that cannot be read ends the build, with its name."""
    if user.is_root:
        pytest.skip("root may read everything")
    tree = write(user.home / "tree", {"file": "text", "folder/file": "text"})
    for name in ("file", "folder"):
        os.chown(tree / name, 0, 0) if os.geteuid() == 0 else None
        (tree / name).chmod(0o000)
        refused(user.build("--copy-to-root", tree), tree / name, status=66)
        (tree / name).chmod(0o755)
    nothing_left(user)


# Whiteouts


@pytest.mark.parametrize("kind", ["content", "rootfs", "tar", "store", "script"])
def test_a_whiteouts_name_cannot_be_in_a_layer(user: User, store: Store, kind: str) -> None:
    """A file called .wh.x would delete x from the layers below: an error names it, wherever it comes from."""
    tree = write(user.home / "tree", {"etc/.wh.x": "text", "etc/ok.wh.x": "text"})
    words: list[str | Path] = ["--copy-to-root", tree]
    if kind == "rootfs":
        words = ["--rootfs", tree]
    elif kind == "tar":
        subprocess.run(["tar", "-C", tree, "-cf", user.home / "tar", "."], check=True)
        words = ["--rootfs", user.home / "tar"]
    elif kind == "store":
        write(user.home / "store" / LIBRARY[1:], {"etc/.wh.x": "text"})
        words = ["--store-path", LIBRARY, "--store-root", user.home / "store"]
    elif kind == "script":
        words = [*store.options, "--script", user.script("mkdir /etc\n: > /etc/.wh.x\n")]
    result = user.build(*words)
    refused(result, "etc/.wh.x")
    assert "ok.wh.x" not in result.err
    nothing_left(user)


# Root filesystems


def make_debian(target: Path) -> None:
    """Make a small Debian as a tar archive."""
    with tempfile.TemporaryDirectory(dir=os.environ[PLACE]) as scratch:
        made = f"{scratch}/debian.tar"
        command = ["mmdebstrap", "--variant=apt", "--include=passwd", "bookworm", made]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "zoneinfo", "i18n")]
        if os.geteuid() == 0:
            # In memory: dpkg waits for the disk after each file.
            os.mkdir(f"{scratch}/memory")
            mounted = f'mount -t tmpfs none {scratch}/memory; export TMPDIR={scratch}/memory; exec "$@" --mode=root'
            command = ["unshare", "--mount", "bash", "-ec", mounted, "-", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shutil.copy(made, f"{target}.new")
    os.rename(f"{target}.new", target)


@pytest.fixture(scope="session")
def debian() -> Path:
    """A small Debian as a tar archive, made once for all of pytest's processes, and kept for the next run."""
    cache = Path(
        "/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rootless-layer/tests"
    )
    kept = cache / f"debian-{hashlib.sha256(inspect.getsource(make_debian).encode()).hexdigest()[:12]}.tar"

    def make(path: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                make_debian(kept)
        shutil.copy(kept, path)
        path.chmod(0o644)

    return once("debian.tar", make)


def test_a_root_filesystem_keeps_everything(user: User, debian: Path) -> None:
    """Each path of the archive is in the layer with its type, owner, mode, data, device, link and attributes."""
    found = members(user, user.build("--rootfs", debian))
    with tarfile.open(debian) as archive:
        infos = {os.path.normpath(info.name): info for info in archive}
    assert set(found) - {"."} == set(infos) - {"."}
    names = {name: {name} for name, info in infos.items() if info.isreg()}
    for name, info in infos.items():
        if info.islnk():
            names[os.path.normpath(info.linkname)].add(name)
    kinds = set()
    for name, info in infos.items():
        made = found[name].info if name in found else None
        if made is None:
            assert (name, info.mode, info.uid, info.gid) == (".", 0o755, 0, 0)
            continue
        kinds.add(info.type)
        assert (made.uid, made.gid, made.mode if not made.issym() else 0) == (
            info.uid,
            info.gid,
            info.mode if not info.issym() else 0,
        ), name
        if info.islnk() or made.islnk():
            group = next(group for group in names.values() if name in group)
            assert not made.islnk() or os.path.normpath(made.linkname) in group
            continue
        assert made.type == info.type, name
        assert (made.size, made.devmajor, made.devminor) == (info.size, info.devmajor, info.devminor), name
        assert made.linkname == info.linkname, name
    assert kinds >= {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}
    assert found["etc/shadow"].owner == "0:42:640"
    assert found["usr/bin/passwd"].owner == "0:0:4755"


def test_a_root_filesystem_in_any_compression_is_one(users: list[User], debian: Path) -> None:
    """tar, tar.gz, tar.zst and tar.xz of one root filesystem give the same digest."""
    user = users[-1]
    whole = user.home / "part.tar"
    some = ["--include=./etc", "--include=./usr/bin/p*"]
    subprocess.run(["bsdtar", *some, "--format=paxr", "-cf", whole, f"@{debian}"], check=True)
    digests = {user.build("--rootfs", whole).layer["digest"]}
    for program in ("gzip -1", "zstd -1 -q", "xz -0", "bzip2 -1"):
        packed = user.home / f"packed {program}"
        subprocess.run(f"{program} -c <'{whole}' >'{packed}'", shell=True, check=True)
        digests.add(user.build("--rootfs", packed).layer["digest"])
    assert len(digests) == 1


def test_an_unpacked_root_filesystem_is_the_archive(shared: Path, debian: Path, users: list[User]) -> None:
    """Root reads the owners, modes, devices and links from the disk, and gets the archive's digest."""
    if not users[0].is_root:
        pytest.skip("only root can unpack a root filesystem's owners")
    user = users[0]
    folder = shared / "debian"
    folder.mkdir()
    subprocess.run(["tar", "--numeric-owner", "--xattrs", "-xpf", debian, "-C", folder], check=True)
    before = fingerprint(folder)
    assert user.build("--rootfs", folder).layer["digest"] == user.build("--rootfs", debian).layer["digest"]
    assert fingerprint(folder) == before


def test_a_listing_has_the_owners_of_a_directory(users: list[User], debian: Path) -> None:
    """What somebody has unpacked is root's, unless a listing says whose: with it, and its devices, the layer is the archive's."""
    user = users[-1]
    archive, listing, folder = user.home / "debian.tar", user.home / "debian.mtree", user.home / "debian"
    subprocess.run(["bsdtar", "--format=paxr", "-cf", archive, f"@{debian}"], check=True)
    subprocess.run(["bsdtar", "--format=mtree", "-cf", listing, f"@{debian}"], check=True)
    folder.mkdir()
    if os.geteuid() == 0:
        for path in (folder, archive, listing):
            os.chown(path, SOMEBODY, SOMEBODY)
    devices = ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"]
    without = [f"--exclude=./dev/{name}" for name in devices]
    assert user.run(["tar", "-xf", archive, "-C", folder, *without]).status == 0
    owned = members(user, user.build("--rootfs", folder))
    assert {f"{member.info.uid}:{member.info.gid}" for member in owned.values()} == {"0:0"}
    listed = user.build("--rootfs", folder, "--rootfs-listing", listing).layer
    assert listed["digest"] == user.build("--rootfs", archive).layer["digest"]


def test_a_listing_makes_devices_of_files(user: User) -> None:
    """What the listing calls a device is one in the layer, as nobody but root could make it on disk."""
    folder = write(user.home / "root", {"dev/null": "", "etc/shadow": "root"})
    listing = user.home / "listing"
    listing.write_text(
        "#mtree\n. type=dir mode=0755 uid=0 gid=0\n./dev type=dir mode=0755 uid=0 gid=0\n"
        "./dev/null type=char mode=0666 uid=0 gid=0 device=native,1,3\n"
        "./etc type=dir mode=0700 uid=1 gid=2\n./etc/shadow type=file mode=4640 uid=0 gid=42 size=4\n"
    )
    found = members(user, user.build("--rootfs", folder, "--rootfs-listing", listing))
    null = found["dev/null"].info
    assert (null.ischr(), null.devmajor, null.devminor, null.mode) == (True, 1, 3, 0o666)
    assert found["etc"].owner == "1:2:700"
    assert found["etc/shadow"].owner == "0:42:4640"


def test_a_listing_must_be_one_and_goes_with_a_directory(user: User, debian: Path) -> None:
    """An archive has its own owners, and a file that is no listing is named."""
    folder = write(user.home / "root", {"file": "text"})
    (user.home / "odd").write_text("\0\1nothing\n")
    refused(user.build("--rootfs", debian, "--rootfs-listing", user.home / "odd"), user.home / "odd", debian)
    for name, status in (("odd", 65), ("absent", 66)):
        refused(user.build("--rootfs", folder, "--rootfs-listing", user.home / name), user.home / name, status=status)
    nothing_left(user)


DEBIAN_SCRIPT = """\
stat -c %u:%g:%a /etc/shadow /usr/bin/passwd / >/found
useradd -m somebody
chown somebody:mail /etc/hostname
apt-get --version | head -n1 >>/found
id -u somebody >>/found
getent passwd somebody >>/found
rm /usr/bin/perl
mknod /dev/loop9 b 7 9
"""


def test_a_script_sees_the_root_filesystem_as_its_own(users: list[User], debian: Path) -> None:
    """Debian's own useradd, chown and apt work in Debian's root, and everybody's layer is the same."""
    digests = set()
    for user in users:
        result = user.build("--rootfs", debian, "--script", user.script(DEBIAN_SCRIPT))
        found = members(user, result)
        said = found["found"].data.decode().splitlines()
        assert said[:3] == ["0:42:640", "0:0:4755", "0:0:755"]
        assert said[3].startswith("apt ")
        assert said[4] == "1000"
        assert said[5].startswith("somebody:x:1000:1000:")
        assert found["etc/hostname"].owner.startswith("1000:8:")
        assert found["home/somebody"].info.uid == 1000
        assert found["etc/shadow"].owner == "0:42:640"
        assert b"somebody:x:1000" in found["etc/passwd"].data
        assert "usr/bin/perl" not in found
        assert found["dev/loop9"].info.isblk()
        assert not any(member.info.islnk() and member.info.linkname not in found for member in found.values())
        assert user.leftovers() == []
        digests.add(result.layer["digest"])
    assert len(digests) == 1


def test_the_script_true_changes_nothing_of_a_root_filesystem(users: list[User], debian: Path) -> None:
    """With a script that does nothing, and without a script, a root filesystem gives the same digest."""
    ways: tuple[list[str], ...] = ([], ["--", "true"])
    turns = zip(users, ways, strict=False) if len(users) > 1 and not EVERY else itertools.product(users, ways)
    digests = [user.build("--rootfs", debian, *words).layer["digest"] for user, words in turns]
    assert len(digests) > 1
    assert len(set(digests)) == 1


# Odd archives


def member(
    name: str, text: str | None = None, *, kind: bytes = tarfile.REGTYPE, link: str = "", **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    """Make one member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755 if kind == tarfile.DIRTYPE else 0o644
    data = (text or "").encode()
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive_of(
    user: User, *given: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, name: str = "archive.tar"
) -> Path:
    """Write an archive."""
    path = user.home / name
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in given:
            archive.addfile(info, io.BytesIO(data))
    return path


def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make a member root's, whoever writes the archive."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def digests_of(user: User, archives: Iterable[Path]) -> set[str]:
    """Build a layer of each archive; give the digests."""
    return {user.build("--rootfs", archive).layer["digest"] for archive in archives}


def test_every_dialect_gives_the_same_layer(user: User) -> None:
    """v7, ustar, old GNU, GNU and pax archives of one tree give one digest, from GNU tar, bsdtar and Python."""
    tree = write(user.home / "tree", {"etc/file": "text", "etc/link": "-> file", "empty": None, "large": "x" * 100_000})
    os.link(tree / "etc/file", tree / "second")
    archives = []
    owner = ["--owner=0", "--group=0", "--numeric-owner"]
    for program, form, words in [
        *(("tar", form, ["--sort=name", *owner]) for form in ("v7", "oldgnu", "gnu", "ustar", "posix")),
        *(("bsdtar", form, ["--uid=0", "--gid=0"]) for form in ("v7", "gnutar", "ustar", "paxr", "pax")),
    ]:
        archives.append(user.home / f"{program}-{form}.tar")
        subprocess.run([program, f"--format={form}", *words, "-C", tree, "-cf", archives[-1], "."], check=True)
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        archives.append(user.home / f"python-{dialect}.tar")
        with tarfile.open(archives[-1], "w", format=dialect) as archive:
            archive.add(tree, ".", filter=owned_by_root)
    assert len(digests_of(user, archives)) == 1


def test_what_is_large_is_the_same_in_gnu_and_pax(user: User) -> None:
    """Long names and links, large ids and names in UTF-8 come out the same of both dialects that can hold them."""
    given = [
        member("d" * 90 + "/" + "f" * 200, "text", uid=3_000_000, gid=4_000_000_000),
        member("é/名", "text"),
        member("link", kind=tarfile.SYMTYPE, link="t" * 300),
        member("d" * 90 + "/hard", kind=tarfile.LNKTYPE, link="d" * 90 + "/" + "f" * 200),
    ]
    archives = [archive_of(user, *given, form=form, name=f"{form}.tar") for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    assert len(digests_of(user, archives)) == 1
    found = members(user, user.build("--rootfs", archives[0]))
    assert found["d" * 90 + "/" + "f" * 200].info.gid == 4_000_000_000 or found["d" * 90 + "/hard"].info.gid == 4_000_000_000
    assert found["é/名"].data == b"text"
    assert found["link"].info.linkname == "t" * 300


def test_names_are_relative_to_the_root(user: User) -> None:
    """``./name``, ``/name``, ``name`` and ``.//name/.`` are the same path, as they are for tar."""
    archives = [
        archive_of(
            user, member(f"{prefix}etc", kind=tarfile.DIRTYPE), member(f"{prefix}etc/file", "text"),
            member(f"{prefix}second", kind=tarfile.LNKTYPE, link=f"{prefix}etc/file"), name=f"{number}.tar",
        )
        for number, prefix in enumerate(("", "./", "/", ".//", "././"))
    ]  # fmt: skip
    assert len(digests_of(user, archives)) == 1
    assert set(members(user, user.build("--rootfs", archives[2]))) == {"etc", "etc/file", "second"}


def test_a_repeated_path_is_what_it_was_last(user: User) -> None:
    """A later member replaces an earlier one, with all that is below; a hard link keeps what it was made of."""
    archive = archive_of(
        user,
        member("file", "first"), member("link", kind=tarfile.LNKTYPE, link="file"), member("file", "second"),
        member("third", kind=tarfile.LNKTYPE, link="file"),
        member("folder", kind=tarfile.DIRTYPE), member("folder/below", "text"), member("folder", "no folder"),
        member("other", "text"), member("other", kind=tarfile.DIRTYPE), member("other/below", "text"),
        member("twice", kind=tarfile.DIRTYPE), member("twice/below", "text"), member("twice", kind=tarfile.DIRTYPE, mode=0o700),
    )  # fmt: skip
    found = members(user, user.build("--rootfs", archive))
    assert found["link"].data == b"first"
    assert found["file"].data == b"second"
    assert found["third"].info.linkname == "file"
    assert found["folder"].data == b"no folder"
    assert "folder/below" not in found
    assert found["other/below"].data == b"text"
    assert found["twice"].info.mode == 0o700
    assert found["twice/below"].data == b"text"


def test_a_hard_link_to_a_link_is_one_to_its_file(user: User) -> None:
    """Chains of hard links, and hard links to a symbolic link, come out as readers understand them."""
    archive = archive_of(
        user, member("a", "text"), member("b", kind=tarfile.LNKTYPE, link="a"), member("c", kind=tarfile.LNKTYPE, link="b"),
        member("s", kind=tarfile.SYMTYPE, link="a"), member("t", kind=tarfile.LNKTYPE, link="s"),
    )  # fmt: skip
    found = members(user, user.build("--rootfs", archive))
    assert {found[name].info.linkname for name in "bc"} == {"a"}
    assert found["t"].info.issym()
    assert found["t"].info.linkname == "a"


@pytest.mark.parametrize(
    "given",
    [
        [member("../outside", "text")],
        [member("etc/../../outside", "text")],
        [member("/../outside", "text")],
        [member("etc/..", kind=tarfile.DIRTYPE)],
        [member("file", kind=tarfile.LNKTYPE, link="../outside")],
        [member("file", kind=tarfile.LNKTYPE, link="/etc/passwd")],
        [member("file", kind=tarfile.LNKTYPE, link="absent")],
        [member("file", kind=tarfile.LNKTYPE, link="file")],
        [member("etc", kind=tarfile.DIRTYPE), member("file", kind=tarfile.LNKTYPE, link="etc")],
        [member("etc", kind=tarfile.SYMTYPE, link="/etc"), member("etc/passwd", "text")],
        [member("etc", "text"), member("etc/passwd", "text")],
    ],
    ids=[
        "above", "above later", "absolute above", "up", "link above", "link outside", "link to nothing", "link to itself",
        "link to a directory", "through a link", "below a file",
    ],
)  # fmt: skip
def test_a_member_outside_of_the_root_is_refused(user: User, given: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """A name, or a hard link, that leaves the root or goes through what is no directory ends the build."""
    info = given[-1][0]
    archive = archive_of(user, *given)
    refused(user.build("--rootfs", archive), info.linkname if info.linkname.startswith("..") else info.name.rpartition("/")[2])
    nothing_left(user)


@pytest.mark.parametrize("ending", ["tar", "gz", "zst", "xz"])
@pytest.mark.parametrize("damage", ["header", "data", "flipped"])
def test_a_damaged_archive_is_refused(user: User, ending: str, damage: str) -> None:
    """An archive that ends early, or whose header or compressed data is wrong, makes no layer."""
    whole = archive_of(
        user, member("one", "1" * 5000), member("two", random.Random(1).randbytes(20_000).hex()), member("three", "3" * 5000)
    )
    if ending != "tar":
        program = {"gz": "gzip", "zst": "zstd -q --check", "xz": "xz"}[ending]
        subprocess.run(f"{program} -c <{whole} >{whole}.{ending}", shell=True, check=True)
        whole = whole.with_name(f"{whole.name}.{ending}")
    data = bytearray(whole.read_bytes())
    if damage == "header":
        del data[5632 + 300 if ending == "tar" else len(data) // 4 :]
    elif damage == "data":
        del data[5632 + 10_000 if ending == "tar" else len(data) // 2 :]
    else:
        data[5632 + 3 if ending == "tar" else len(data) // 2] ^= 0x40
    whole.write_bytes(data)
    refused(user.build("--rootfs", whole), whole)
    nothing_left(user)


@pytest.mark.parametrize("data", [b"", b"no archive\n", b"x" * 10_000, b"PK\3\4" + bytes(2000), b"\x7fELF" + bytes(2000)])
def test_what_is_no_archive_is_refused(user: User, data: bytes) -> None:
    """A file that is no tar archive is named in the error."""
    path = user.home / "odd"
    path.write_bytes(data)
    refused(user.build("--rootfs", path), path)
    refused(user.build("--rootfs", user.home / "absent"), user.home / "absent", status=66)
    nothing_left(user)


def test_an_empty_archive_is_an_empty_root(user: User) -> None:
    """An archive without members is a root filesystem without files."""
    assert members(user, user.build("--rootfs", archive_of(user))) == {}


def test_devices_and_queues_are_kept(user: User) -> None:
    """Devices with their numbers, and named pipes, come through without anybody's privilege."""
    archive = archive_of(
        user, member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", kind=tarfile.BLKTYPE, devmajor=259, devminor=1_000, gid=6), member("queue", kind=tarfile.FIFOTYPE),
    )  # fmt: skip
    for words in ([], ["--view", "directory", "--", "true"]):
        found = members(user, user.build("--rootfs", archive, *words))
        assert (found["null"].info.ischr(), found["null"].info.devmajor, found["null"].info.devminor) == (True, 1, 3)
        assert (found["disk"].info.isblk(), found["disk"].info.devmajor, found["disk"].info.devminor) == (True, 259, 1_000)
        assert found["disk"].owner == "0:6:644"
        assert found["null"].owner == "0:0:666"
        assert found["queue"].info.isfifo()


def test_owners_are_kept_or_refused_and_never_cut(user: User) -> None:
    """The largest id that Linux has is kept, with a script and without; a larger one is refused in both cases, by its path."""
    for words in ([], ["--view", "directory", "--", "true"]):
        found = members(user, user.build("--rootfs", archive_of(user, member("f", uid=2**32 - 2, gid=2**31)), *words))
        assert found["f"].owner == f"{2**32 - 2}:{2**31}:644"
        refused = user.build("--rootfs", archive_of(user, member("f", uid=2**32 + 5)), *words)
        assert (refused.status, "/f: " in refused.err, str(2**32 + 5) in refused.err) == (65, True, True), refused.err


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_is_its_data(user: User, form: str) -> None:
    """Holes of GNU's sparse members come out as the zeros that they are: at the beginning, inside, at the end."""
    tree = user.home / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    with open(tree / "hole", "wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["tar", f"--format={form}", "-S", "-C", tree, "-cf", user.home / "sparse.tar", "."], check=True)
    assert (user.home / "sparse.tar").stat().st_size < 1 << 19
    found = members(user, user.build("--rootfs", user.home / "sparse.tar"))
    assert found["sparse"].data == (tree / "sparse").read_bytes()
    assert found["hole"].data == bytes(1 << 20)
    assert not any(key.startswith("GNU.sparse") for key in found["sparse"].info.pax_headers)


CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.mark.parametrize("form", ["SCHILY", "LIBARCHIVE"])
def test_extended_attributes_are_kept(user: User, form: str) -> None:
    """A file's and a directory's attributes, capabilities among them, are read in both forms of pax headers."""
    archive = user.home / "attributes.tar"
    listing = user.home / "tree"
    write(listing, {"folder/file": "text"})
    if form == "SCHILY":
        headers = {"SCHILY.xattr.user.name": "välue", "SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
        headers["SCHILY.xattr.security.capability"] = CAPABILITY.decode("utf-8", "surrogateescape")
    else:
        headers = {
            "LIBARCHIVE.xattr.user.name": "dsOkbHVl",
            "LIBARCHIVE.xattr.security.capability": "AQAAAgAEAAAAAAAAAAAAAAAAAAA=",
        }
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in (member("folder", kind=tarfile.DIRTYPE), member("folder/file", "text")):
            info.pax_headers = headers
            tar.addfile(info, io.BytesIO(data))
    for words in ([], ["--view", "directory", "--", "true"]):
        found = members(user, user.build("--rootfs", archive, *words))
        for name in ("folder", "folder/file"):
            kept = found[name].info.pax_headers
            assert kept["SCHILY.xattr.user.name"] == "välue"
            assert kept["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY


def test_attributes_that_fakeroot_does_not_carry_are_kept(user: User) -> None:
    """A value of 4000 bytes stays with its file, whatever a script does to that; who takes the file's place does not get it."""
    large = {"SCHILY.xattr.user.large": "v" * 4000, "SCHILY.xattr.user.small": "s"}
    given = [member(name, name) for name in ("left", "given", "moved", "replaced")]
    for info, _ in given:
        info.pax_headers = large
    archive = archive_of(user, *given)
    assert members(user, user.build("--rootfs", archive))["left"].info.pax_headers == large
    upon = (user.home / "layer").rename(user.home / "base")
    change = "chown 5 given; mv moved away; rm replaced; echo new > replaced; chown 6 replaced; cp -a given copied; setfattr -n user.other -v o left"
    for words in (["--rootfs", archive], ["--base", upon]):
        found = members(user, user.build(*words, "--view", "directory", "--", "sh", "-c", change))
        assert (found["given"].owner, found["given"].info.pax_headers) == ("5:0:644", large)
        assert found["away"].info.pax_headers == found["copied"].info.pax_headers == large
        assert (found["replaced"].owner, found["replaced"].info.pax_headers) == ("6:0:644", {})
        assert found["left"].info.pax_headers == large | {"SCHILY.xattr.user.other": "o"}


def test_overlayfs_own_attributes_are_left_out(user: User) -> None:
    """Such a mark of another mount would hide a base's files in whoever shows the layer by an overlay: a note names the path."""
    folder, kept = member("folder", kind=tarfile.DIRTYPE), member("folder/file", "text")
    folder[0].pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.origin": ""}
    folder[0].pax_headers["SCHILY.xattr.user.own"] = "o"
    archive = archive_of(user, folder, kept)
    mark = ["--view", "directory", "--", "setfattr", "-n", "user.overlay.opaque", "-v", "y", "folder"]
    for words in ([], mark):
        result = user.build("--rootfs", archive, *words)
        assert "/folder: " in result.err
        assert members(user, result)["folder"].info.pax_headers == {"SCHILY.xattr.user.own": "o"}


def test_attributes_on_disk_are_kept(users: list[User]) -> None:
    """A directory's attributes are read from the disk, and not those that belong to the machine."""
    user = users[0]
    if not user.is_root:
        pytest.skip("only root may set a capability")
    tree = write(user.home / "root", {"file": "text"})
    os.setxattr(tree / "file", "user.name", b"value")
    os.setxattr(tree / "file", "trusted.own", b"value")
    os.setxattr(tree / "file", "security.capability", CAPABILITY)
    os.setxattr(tree, "user.top", b"value")
    found = members(user, user.build("--rootfs", tree))
    headers = found["file"].info.pax_headers
    assert {key for key in headers if key.startswith("SCHILY")} == {"SCHILY.xattr.user.name", "SCHILY.xattr.security.capability"}
    assert found["."].info.pax_headers["SCHILY.xattr.user.top"] == "value"


def test_a_directory_keeps_its_links(user: User) -> None:
    """Hard links within a root filesystem's directory are hard links; one from outside does not show."""
    tree = write(user.home / "root", {"a": "text", "d/only": "text", "empty": ""})
    os.link(tree / "a", tree / "d/b")
    os.link(tree / "d/only", user.home / "outside")
    found = members(user, user.build("--rootfs", tree))
    assert found["d/b"].info.islnk()
    assert found["d/b"].info.linkname == "a"
    assert found["d/only"].info.isreg()


def test_a_root_filesystems_own_mode_is_kept(user: User) -> None:
    """The root directory's own mode is in the layer where it is not 0755."""
    tree = write(user.home / "root", {"file": "text"})
    assert "." not in {name.rstrip("/") for name in members(user, user.build("--rootfs", tree))}
    tree.chmod(0o1777)
    assert stat.S_IMODE(members(user, user.build("--rootfs", tree))["."].info.mode) == 0o1777


def test_tools_are_seen_and_are_not_in_the_layer(users: list[User], store: Store) -> None:
    """Scripts in the root view run the tools' programs from their read-only store paths, of which nothing gets into the layer."""
    digests = set()
    for user in users:
        bash = store.path("bash")
        script = user.script(
            f"#!{bash}/bin/bash -e\nmkdir -p data\nchown 5:6 data\n! touch {bash}/x 2> data/refused\nln -s {bash} sh\n"
        )
        options = ["--tools", store.graph, "--store-root", store.root, "--script", script]
        result = user.build(*options)
        found = members(user, result)
        assert sorted(found) == ["data", "data/refused", "sh"]
        assert found["data"].owner == "5:6:755"
        assert os.strerror(errno.EROFS).encode() in found["data/refused"].data
        digests.add(result.layer["digest"])
        assert "bin/bash" in members(user, user.build(*options, "--closure", store.graph, "--copy-to-root", bash))
        assert user.leftovers() == []
        beside = user.build(*options, "--", "mkdir", "/nix/store/own")
        assert sorted(members(user, beside)) == ["data", "data/refused", "nix", "nix/store", "nix/store/own", "sh"]
    assert len(digests) == 1


def test_follow_dirlinks_is_as_rsync_has_it_without_copies(user: User, small: Store) -> None:
    """With --follow-dirlinks a link to a directory becomes one, as with rsync -k; its files stand for the store's."""
    here = {
        "usr/bin/one": "1",
        "bin": "-> usr/bin",
        "deep": "-> chain",
        "chain": "-> usr",
        "gone": "-> absent",
        "file": "-> usr/bin/one",
    }
    tree = write(user.home / "tree", {**here, "program": f"-> {PROGRAM}/bin", "share": f"-> {LIBRARY}/share"})
    other = write(user.home / "other", {"share/more": "2"})
    options = [*small.options, "--copy-to-root", tree, "--copy-to-root", other, "--follow-dirlinks"]
    found = {name: member for name, member in members(user, user.build(*options)).items() if not name.startswith("nix")}
    merged = user.home / "merged"
    for one in (tree, other):  # rsync does not know where the store lies
        subprocess.run(["rsync", "-ak", f"{one}/", merged], check=True, capture_output=True)
    paths = [os.path.join(here, name) for here, dirs, files in os.walk(merged) for name in dirs + files]
    expected = {os.path.relpath(path, merged) for path in paths if path != f"{merged}/program"}
    assert set(found) == expected | {"program", "program/program", "program/alias", "program/library", "share/text"}
    assert found["program/program"].info.linkname == f"{PROGRAM[1:]}/bin/program"
    assert found["share/text"].info.islnk()
    assert found["program/library"].info.issym()
    assert found["deep/bin/one"].data == b"1"
    circle = write(user.home / "circle", {"in": "-> ../circle"})
    refused(user.build("--copy-to-root", circle, "--follow-dirlinks", output="other-layer"), "leads back", status=66)
