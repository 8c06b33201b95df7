"""What the scripts of the corpus work on, the ways to build their layers, and one layer of each that is built once for all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from helpers.corpus import BY_NAME, CORPUS, Case, options_of
from helpers.oracle import Snapshot, in_blob
from helpers.place import MEMORY, PLACE, in_memory, make_folder, once, remove
from helpers.stores import Store, fingerprint, store_of
from helpers.users import SOMEBODY, User, make_user

STAGES = ("bind", "hardlink", "copy")
MIXED = ("non-utf8", "odd-names", "tar", "setcap", "rsync", "hard-link-moved", "root-copy-owner", "mknod-owned")
"""Scripts that together leave one of everything; run in one session, in this order."""


@attrs.frozen
class Inputs:
    """What the scripts work on.

    ``stores`` has the closures by size, of which each script takes the least that will do for it;
    if they ``are_own``, their user may make hard links of them.
    """

    stores: Mapping[str, Store]
    contents: Sequence[str]
    are_own: bool = False

    def store(self, size: str, user: User, stage: str = "bind") -> Store:
        """Give the closure that a user may stage in this way."""
        copied = stage == "hardlink" and not self.are_own
        return linked_store(self.stores[size], size, user.name) if copied else self.stores[size]

    @contextlib.contextmanager
    def turn(self, user: User, stage: str) -> Iterator[None]:
        """Wait until nobody else has hard links made of a closure: it is an error when its files change meanwhile."""
        with open(f"{os.environ[PLACE]}/linked-{user.name}.turn", "w") as lock:
            if stage == "hardlink":
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def words(self, case: Case, view: str, user: User, stage: str = "bind") -> list[str]:
        """Give the command's options for a script."""
        return [*options_of(case, view, self.store(case.closure, user, stage), self.contents), "--stage", stage]

    def words_of_many(self, user: User, names: Sequence[str], stage: str = "bind", view: str = "root") -> list[str]:
        """Give the options that run several scripts in one session."""
        words = [*options_of(BY_NAME["nothing"], view, self.store("big", user, stage), self.contents), "--stage", stage]
        for name in names:
            words += ["--script", str(write_script(user, BY_NAME[name]))]
        return words

    def folders(self) -> list[Path]:
        """Name all that no script may change, but for the copies that are linked to."""
        trees = [Path(content) for content in self.contents if not content.startswith("/nix/")]
        return [one.root for one in self.stores.values()] + trees

    def changed_copies(self) -> list[Path]:
        """Name the copies that were linked to and are not as they were when they were made."""
        copies = [_linked(size, name) for size in self.stores for name in ("root", "somebody")]
        return [
            copy
            for copy in copies
            if Path(f"{copy}.done").exists() and fingerprint(copy) != pickle.loads(_before(copy).read_bytes())
        ]


def copy_of(store: Store, root: Path, name: str = "root") -> Store:
    """Copy a closure, and give it to somebody, if it is not to be root's."""
    subprocess.run(["cp", "-a", store.root, root], check=True)
    if os.geteuid() == 0 and name != "root":
        subprocess.run(["chown", "-hR", f"{SOMEBODY}:{SOMEBODY}", root], check=True)
    return store_of(root, root / store.graph.name)


def linked_store(store: Store, size: str, name: str) -> Store:
    """Give the copy of a closure of which a user makes hard links: of root's files somebody may make none (``fs.protected_hardlinks``)."""

    def make(root: Path) -> None:
        copy_of(store, root, name)
        _before(root).write_bytes(pickle.dumps(fingerprint(root)))

    path = _linked(size, name)
    root = once(path.name, make, MEMORY if str(path.parent) == os.environ[MEMORY] else PLACE)
    return store_of(root, root / store.graph.name)


def _linked(size: str, name: str) -> Path:
    # On the file system of the user's home: no hard link reaches into another.
    return Path(os.environ[PLACE if name == "root" or os.geteuid() != 0 else MEMORY], f"linked-{size}-{name}")


def _before(copy: Path) -> Path:
    return Path(f"{copy}.before")


def write_script(user: User, case: Case) -> Path:
    """Put a script of the corpus into a user's directory."""
    return user.script(case.text, f"{case.name}.sh")


# --- one layer of each script ---


@attrs.frozen
class Way:
    """A way to build a layer."""

    view: str
    user: str
    stage: str

    def build(self, case: Case, inputs: Inputs, user: User, memory: Path, *more: str) -> str:
        """Build a script's layer into a directory of that user's name in memory; give its digest, and see that nothing else is left."""
        words = inputs.words(case, self.view, user, self.stage)
        env = {"TMPDIR": str(memory)} if (self.view, self.stage) == ("root", "copy") else None
        output = memory / f"{user.name}-layer"
        with inputs.turn(user, self.stage):
            result = user.build(*words, "--script", write_script(user, case), *more, output=str(output), env=env)
        digest: str = result.layer["digest"]
        assert user.leftovers() == []
        assert {f"{user.name}-layer"} <= set(os.listdir(memory)) <= {"root-layer", "somebody-layer"}
        return digest


def two_ways(case: Case) -> tuple[Way, Way]:
    """Give two ways to build a script's layer, the first in the root view where it has that.

    They differ in all: in the view, the builder and the staging, so that whatever of them showed in the layer
    would make two digests. Who takes which view, and who binds, links or copies, goes by turns.
    """
    number = CORPUS.index(case)
    users = ("root", "somebody") if os.geteuid() == 0 else ("somebody", "somebody")
    first, second = users if number % 2 else users[::-1]
    stages = STAGES[number // 2 % 3], STAGES[(number // 2 + 1) % 3]
    return Way(case.views[0], first, stages[0]), Way(case.views[-1], second, stages[1])


@attrs.frozen
class Member:
    """A member of an archive."""

    type: bytes
    size: int
    mode: int
    uid: int
    gid: int
    target: str
    attributes: Mapping[str, str]

    @property
    def is_file(self) -> bool:
        """Whether it is a file with data of its own."""
        return self.type in tarfile.REGULAR_TYPES


def members(blob: Path) -> dict[str, Member]:
    """Read a blob by Python's tarfile; no name may stand twice, and each stands where any reader can take it."""
    found: dict[str, Member] = {}
    with tarfile.open(blob, encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            assert member.name not in found
            if member.islnk():
                assert found[member.linkname].is_file, "a hard link's target stands before it, and is a file itself"
            assert os.path.dirname(member.name) in {"", *found}, "a directory stands before what is in it"
            found[member.name] = Member(
                member.type, member.size, member.mode, member.uid, member.gid, member.linkname, dict(member.pax_headers)
            )
    return found


@attrs.frozen
class FirstLayer:
    """The layer of a script as the first of :func:`two_ways` builds it: its digest, its members, and what is outside of its store."""

    digest: str
    members: Mapping[str, Member]
    outside: Snapshot


def first_layer(case: Case, inputs: Inputs, shared: Path) -> FirstLayer:
    """Give a script's layer, built by whichever test of whichever process asks first."""

    def make(path: Path) -> None:
        way = two_ways(case)[0]
        user, folder = make_user(shared, way.user), make_folder(in_memory(shared), "first-")
        folder.chmod(0o1777)
        digest = way.build(case, inputs, user, folder)
        blob = folder / f"{user.name}-layer/blobs/sha256" / digest.removeprefix("sha256:")
        paths = [os.fsencode(path.lstrip("/")) for path in inputs.stores["big"].paths.values()]
        path.write_bytes(pickle.dumps(FirstLayer(digest, members(blob), in_blob(blob, paths))))
        remove(user.home)
        remove(folder)

    found: FirstLayer = pickle.loads(once(f"first-layer-{case.name}", make).read_bytes())
    return found
