"""The corpus of scripts: every layer is the same whoever builds it, however and wherever."""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import assert_said
from helpers.corpus import BY_NAME, CORPUS, Case, options_of, shared_contents
from helpers.effort import EVERY
from helpers.place import MEMORY, PLACE, make_folder, once
from helpers.stores import Store, fingerprint, store_of
from helpers.users import SOMEBODY, User, make_user
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, Script, build_layer
from rootless_layer.plan.spec import View

pytestmark = pytest.mark.slow

STAGES = ("bind", "hardlink", "copy")
MIXED = ("non-utf8", "odd-names", "tar", "setcap", "rsync", "hard-link-moved", "root-copy-owner", "mknod-owned")
"""Scripts that together leave one of everything; run in one session, in this order."""


@attrs.frozen
class Inputs:
    """What the scripts work on.

    ``stores`` has the two closures by size; ``linked`` copies of them by size and user, whose files are
    that user's: somebody may hard-link no file of root's (``fs.protected_hardlinks``).
    """

    stores: Mapping[str, Store]
    linked: Mapping[tuple[str, str], Store]
    contents: Sequence[str]

    def store(self, size: str, user: User, stage: str = "bind") -> Store:
        """Give the closure that a user may stage in this way."""
        return self.linked[size, user.name] if stage == "hardlink" else self.stores[size]

    @contextlib.contextmanager
    def turn(self, user: User, stage: str) -> Iterator[None]:
        """Wait until nobody else has hard links made of a closure: it is an error when its files change meanwhile."""
        with open(f"{self.linked['small', user.name].root}.turn", "w") as lock:
            if stage == "hardlink":
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def words(self, case: Case, view: str, user: User, stage: str = "bind") -> list[str]:
        """Give the command's options for a script."""
        store = self.store("big" if case.needs_tools else "small", user, stage)
        return [*options_of(case, view, store, self.contents), "--stage", stage]


def copy_of(store: Store, root: Path, name: str = "root") -> Store:
    """Copy a closure, and give it to somebody, if it is not to be root's."""
    subprocess.run(["cp", "-a", store.root, root], check=True)
    if os.geteuid() == 0 and name != "root":
        subprocess.run(["chown", "-hR", f"{SOMEBODY}:{SOMEBODY}", root], check=True)
    return store_of(root, root / store.graph.name)


def linked_store(store: Store, size: str, name: str) -> Store:
    """Give the closure of which a user makes hard links."""
    # On the file system of the user's home: no hard link reaches into another.
    where = PLACE if name == "root" or os.geteuid() != 0 else MEMORY
    root = once(f"linked-{size}-{name}", lambda root: copy_of(store, root, name), where)
    return store_of(root, root / store.graph.name)


@pytest.fixture(scope="session")
def inputs(store: Store, big_store: Store, accounts: Path) -> Iterator[Inputs]:
    """The closures and trees of the corpus; they must be the same when the last script has run."""
    stores = {"small": store, "big": big_store}
    linked = {(size, name): linked_store(one, size, name) for size, one in stores.items() for name in ("root", "somebody")}
    contents = [*shared_contents(big_store), str(accounts)]
    folders = [one.root for one in (*stores.values(), *linked.values())] + [Path(contents[1]), accounts]
    before = [fingerprint(folder) for folder in folders]
    yield Inputs(stores, linked, contents)
    assert [fingerprint(folder) for folder in folders] == before, "a script changed a source"


def write_script(user: User, case: Case) -> Path:
    """Put a script of the corpus into a user's directory."""
    return user.script(case.text, f"{case.name}.sh")


# --- whoever builds, however it is staged ---


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on a tmpfs that everybody may write to: another file system, and a quick one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix=f"{os.path.basename(os.environ[PLACE])}-") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_every_way_to_build_gives_the_same_layer(case: Case, users: list[User], inputs: Inputs, memory: Path) -> None:
    """Each script's layer has one digest: in both views, staged in any way, as root and as somebody."""
    digests = {}
    number = CORPUS.index(case)
    # Two builds differ in all: in the view, the builder and the staging, so that whatever of them showed in the layer
    # would make two digests. Who takes which view, and who binds, links or copies, goes by turns.
    order = users if number % 2 else users[::-1]
    stages = STAGES[number // 2 % 3], STAGES[(number // 2 + 1) % 3]
    chosen = set(zip(itertools.cycle(case.views), order if len(users) > 1 else users * 2, stages, strict=False))
    for view, user, stage in itertools.product(case.views, users, STAGES):
        if not EVERY and (view, user, stage) not in chosen:
            continue
        words = inputs.words(case, view, user, stage)
        env = {"TMPDIR": str(memory)} if (view, stage) == ("root", "copy") else None
        output = str(memory / f"{user.name}-layer")
        with inputs.turn(user, stage):
            result = user.build(*words, "--script", write_script(user, case), "--blob", "derived", output=output, env=env)
        digests[view, user.name, stage] = result.layer["digest"]
        assert user.leftovers() == []
    assert len(set(digests.values())) == 1, digests
    assert len(digests) > 1
    assert set(os.listdir(memory)) == {f"{user.name}-layer" for user in users}


@pytest.mark.parametrize("view", ["root", "directory"])
@pytest.mark.parametrize(
    "options",
    [(), ("--link", "symbolic"), ("--link", "copy"), ("--uid", "5", "--gid", "6"), ("--closure-writable",)],
    ids=" ".join,
)
def test_no_script_is_the_script_true(view: str, options: tuple[str, ...], users: list[User], inputs: Inputs) -> None:
    """A layer without a script is, byte for byte, the layer of a script that does nothing."""
    digests = []
    scripts: tuple[list[str], ...] = ([], ["--", "true"])
    # One builds without a script and the other with one, by turns.
    turns = zip(users if view == "root" else users[::-1], scripts, strict=False)
    for user, script in turns if len(users) > 1 and not EVERY else itertools.product(users, scripts):
        words = inputs.words(BY_NAME["nothing"], view, user)
        digests.append(user.build(*words, *options, "--blob", "derived", *script).layer["digest"])
        assert user.leftovers() == []
    assert len(digests) > 1
    assert len(set(digests)) == 1


def test_no_script_is_the_script_true_on_a_root_filesystem(users: list[User], inputs: Inputs) -> None:
    """So it is where the tree is a root filesystem of any owners, devices, hard links and attributes."""
    digests = set()
    for user in users:
        words = inputs.words(BY_NAME["nothing"], "root", user)
        made = user.build(*words_of_many(inputs, user, MIXED), output="first").layer
        blob = user.home / "first/blobs/sha256" / made["digest"].removeprefix("sha256:")
        digests.add(user.build("--rootfs", blob).layer["digest"])
        digests.add(user.build("--rootfs", blob, *words[words.index("--view") :][:2], "--", "/bin/true").layer["digest"])
        assert user.leftovers() == []
    assert len(digests) == 1


def test_the_blob_may_be_written_or_not(users: list[User], inputs: Inputs) -> None:
    """Stored and derived layers have the same digest and size."""
    user = users[-1]
    stored = user.build(*words_of_many(inputs, user, MIXED)).layer
    derived = user.build(*words_of_many(inputs, user, MIXED), "--blob", "derived").layer
    assert {**stored, "blob": ""} == {**derived, "blob": ""}


def test_linking_what_one_does_not_own_is_refused(users: list[User], inputs: Inputs) -> None:
    """Somebody cannot hard-link root's store; the error names the file, and nothing is left."""
    user = users[-1]
    if os.geteuid() != 0 or Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("here everybody may link every file, or every store is the user's own")
    words = options_of(BY_NAME["nothing"], "root", inputs.stores["small"], ())
    result = user.build(*words, "--stage", "hardlink", "--", "true")
    assert_said(result, 66, "/nix/store/", "--stage bind or copy")
    assert user.leftovers() == []


# --- reproducible whatever surrounds the build ---


def words_of_many(inputs: Inputs, user: User, names: Sequence[str], stage: str = "bind", view: str = "root") -> list[str]:
    """Give the options that run several scripts in one session."""
    words = [*options_of(BY_NAME["nothing"], view, inputs.store("big", user, stage), inputs.contents), "--stage", stage]
    for name in names:
        words += ["--script", str(write_script(user, BY_NAME[name]))]
    return words


@pytest.fixture(scope="session")
def expected(shared: Path, inputs: Inputs) -> str:
    """The digest of the mixed scripts' layer, built in the plainest way, on the disk."""
    user = make_user(shared, "somebody")
    disk = make_folder(shared, "disk-")
    disk.chmod(0o1777)
    words = words_of_many(inputs, user, MIXED)
    digest: str = user.build(*words, "--blob", "derived", env={"TMPDIR": str(disk)}).layer["digest"]
    return digest


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "C": {"LC_ALL": "C"},
    "C.UTF-8": {"LC_ALL": "C.UTF-8"},
    "no such locale": {"LC_ALL": "xx_YY.nonsense", "LANG": "zz"},
    "no UTF-8 mode": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Tokyo": {"TZ": "Asia/Tokyo"},
    "odd time zone": {"TZ": "<X>-13:37"},
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "hash seed 2": {"PYTHONHASHSEED": "4294967295"},
    "a caller's own variables": {"TAR_OPTIONS": "--owner=7", "FAKEROOTKEY": "1", "POSIXLY_CORRECT": "1", "RSYNC_OLD_ARGS": "1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_does_not_matter(name: str, somebody: User, inputs: Inputs, expected: str) -> None:
    """Locale, time zone, hash seed and the caller's variables leave the digest alone."""
    for view in ("root", "directory") if EVERY else (("root", "directory")[[*ENVIRONMENTS].index(name) % 2],):
        words = words_of_many(inputs, somebody, MIXED, view=view)
        assert somebody.build(*words, "--blob", "derived", env=ENVIRONMENTS[name]).layer["digest"] == expected


def test_a_latin_1_locale_does_not_matter(somebody: User, inputs: Inputs, expected: str) -> None:
    """In a locale whose names are not UTF-8 the layer is the same."""
    locales = somebody.home / "locales"
    locales.mkdir()
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", locales / "en_US.ISO-8859-1"], capture_output=True, check=False
    ) if shutil.which("localedef") else None  # fmt: skip
    if made is None or not (locales / "en_US.ISO-8859-1/LC_CTYPE").exists():
        pytest.skip("no latin-1 locale can be made here: the locale sources are not installed")
    env = {"LOCPATH": str(locales), "LC_ALL": "en_US.ISO-8859-1"}
    result = somebody.build(*words_of_many(inputs, somebody, MIXED), "--blob", "derived", env=env)
    assert result.layer["digest"] == expected


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077, 0o777])
def test_the_umask_does_not_matter(umask: int, somebody: User, inputs: Inputs, expected: str) -> None:
    """The caller's umask reaches neither the scripts nor the layer."""
    words = words_of_many(inputs, somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived", umask=umask).layer["digest"] == expected
    assert somebody.leftovers() == []


@pytest.mark.parametrize("cwd", ["/", "/proc", "/tmp"])
def test_the_working_directory_does_not_matter(cwd: str, somebody: User, inputs: Inputs, expected: str) -> None:
    """The caller's working directory leaves the digest alone."""
    words = words_of_many(inputs, somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived", cwd=cwd).layer["digest"] == expected


@pytest.mark.parametrize("stage", ["bind", "copy"])
@pytest.mark.parametrize("view", ["root", "directory"])
def test_the_file_system_does_not_matter(
    stage: str, view: str, users: list[User], inputs: Inputs, expected: str, memory: Path
) -> None:
    """A build on a tmpfs, with other inode numbers and another order of names, gives the same layer."""
    for user in users if EVERY else [users[((stage == "copy") + (view == "root")) % len(users)]]:
        words = words_of_many(inputs, user, MIXED, stage, view)
        assert user.build(*words, "--blob", "derived", env={"TMPDIR": str(memory)}).layer["digest"] == expected
        assert os.listdir(memory) == []


def test_the_order_of_names_does_not_matter(somebody: User, inputs: Inputs, expected: str, memory: Path) -> None:
    """Sources whose directories list their names the other way round give the same layer."""
    copies = []
    for number, content in enumerate(inputs.contents):
        source = content
        if os.path.isdir(content):
            source = f"{memory}/{number}"
            copy_reversed(content, source)
        copies.append(source)
    words = words_of_many(attrs.evolve(inputs, contents=copies), somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived").layer["digest"] == expected


def copy_reversed(source: str, target: str) -> None:
    """Copy a tree, making the names of each directory from the last to the first."""
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2)
    for here, folders, files in os.walk(target):
        for name in sorted([*folders, *files], reverse=True):
            os.rename(f"{here}/{name}", f"{here}/.moved")
            os.rename(f"{here}/.moved", f"{here}/{name}")


def test_an_optimised_store_does_not_matter(somebody: User, inputs: Inputs, expected: str) -> None:
    """A store whose equal files are one inode, as after ``nix-store --optimise``, gives the same layer, however it is staged."""
    root = somebody.home / "optimised"
    store = copy_of(inputs.stores["big"], root, "somebody")
    assert optimise(root / "nix/store") > 10
    views = ("root", "directory")
    for stage, view in itertools.product(STAGES, views) if EVERY else zip(STAGES, itertools.cycle(views), strict=False):
        own = attrs.evolve(inputs, stores={"big": store}, linked={("big", somebody.name): store})
        words = words_of_many(own, somebody, MIXED, stage, view)
        assert somebody.build(*words, "--blob", "derived").layer["digest"] == expected


def optimise(folder: Path) -> int:
    """Hard-link files of the same bytes and mode; say how many were replaced."""
    first: dict[tuple[object, ...], str] = {}
    linked = 0
    for path, facts in fingerprint(folder).items():
        if not stat.S_ISREG(facts[0]):  # type: ignore[arg-type]
            continue
        known = first.setdefault((facts[0], facts[7]), path)
        if known != path:
            above = os.path.dirname(path)
            mode = stat.S_IMODE(os.stat(above).st_mode)
            os.chmod(above, 0o755)
            os.unlink(path)
            os.link(known, path)
            os.chmod(above, mode)
            linked += 1
    return linked


def test_repetition_and_parallelism_do_not_matter(users: list[User], inputs: Inputs, expected: str) -> None:
    """Eight builds at once give what one alone gives, and leave nothing."""

    def build(number: int) -> str:
        user = users[number % len(users)]
        stage = STAGES[number % 3]
        words = words_of_many(inputs, user, MIXED, stage, ("root", "directory")[number % 2])
        with inputs.turn(user, stage):
            digest: str = user.build(*words, "--blob", "derived", output=f"layer-{number}").layer["digest"]
        return digest

    for user in users:
        words_of_many(inputs, user, MIXED)  # the scripts are written once, before anybody reads them
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(build, range(8))) == {expected}
    assert [user.leftovers() for user in users] == [[] for _ in users]


def test_sessions_are_the_sum_of_their_scripts(somebody: User, inputs: Inputs, expected: str) -> None:
    """Scripts that run in one session leave what one script of all their lines leaves."""
    text = "".join(f"(\n{BY_NAME[name].text})\n" for name in MIXED)
    words = options_of(BY_NAME["nothing"], "root", inputs.stores["big"], inputs.contents)
    assert somebody.build(*words, "--script", somebody.script(text), "--blob", "derived").layer["digest"] == expected


# --- what is in the layers ---


def members(user: User, words: Sequence[str | Path]) -> dict[str, tarfile.TarInfo]:
    """Build a layer and read its blob by Python's tarfile; no name may stand twice."""
    layer = user.build(*words).layer
    found: dict[str, tarfile.TarInfo] = {}
    blob = user.home / "layer/blobs/sha256" / layer["digest"].removeprefix("sha256:")
    with tarfile.open(blob, encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            assert member.name not in found
            if member.islnk():
                assert found[member.linkname].isreg(), "a hard link's target stands before it, and is a file itself"
            assert os.path.dirname(member.name) in {"", *found}, "a directory stands before what is in it"
            found[member.name] = member
    return found


def data(found: Mapping[str, tarfile.TarInfo]) -> int:
    """Count the bytes of all files' data."""
    return sum(member.size for member in found.values() if member.isreg())


def build_case(user: User, inputs: Inputs, name: str) -> dict[str, tarfile.TarInfo]:
    """Build a script's layer in the root view and read it."""
    case = BY_NAME[name]
    return members(user, [*inputs.words(case, "root", user), "--script", write_script(user, case)])


@pytest.fixture(scope="session")
def unchanged(shared: Path, inputs: Inputs) -> Mapping[str, tarfile.TarInfo]:
    """What the layer of a script that does nothing holds."""
    return build_case(make_user(shared, "somebody"), inputs, "nothing")


def test_a_root_copy_costs_no_data(inputs: Inputs, unchanged: Mapping[str, tarfile.TarInfo]) -> None:
    """Each store file's data stands once: its copy in the root is a hard link of it."""
    found = unchanged
    root = inputs.stores["small"].root
    store = sum(facts[3] for facts in fingerprint(root / "nix").values() if stat.S_ISREG(facts[0]))  # type: ignore[arg-type, misc]
    trees = [Path(content) for content in inputs.contents if not content.startswith("/nix/")]
    own = sum(facts[3] for tree in trees for facts in fingerprint(tree).values() if stat.S_ISREG(facts[0]))  # type: ignore[arg-type, misc]
    assert data(found) == store + own
    programs = [member for name, member in found.items() if name.startswith("bin/") and not member.issym()]
    assert len(programs) > 80
    assert all(member.islnk() and member.linkname.startswith("nix/store/") for member in programs)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("hard-link", 0), ("hard-link-new", 4), ("hard-link-root-copy", 0), ("cp-al", 0), ("hard-link-moved", 0), ("move", "cat"),
        ("large", 2 * 3145728), ("deep-paths", 5), ("root-copy-touched", "false"), ("chown-recursive", 0), ("move-directory", 0),
    ],
)  # fmt: skip
def test_data_stands_once(
    name: str, added: int | str, somebody: User, inputs: Inputs, unchanged: Mapping[str, tarfile.TarInfo]
) -> None:
    """Hard links, renames and new owners add no data; a copy adds its own bytes, and so does a root copy under another name."""
    nothing = {path: member for path, member in unchanged.items() if not path.startswith("nix/")}
    found = {path: member for path, member in build_case(somebody, inputs, name).items() if not path.startswith("nix/")}
    if name == "root-copy-touched":
        assert {found[f"bin/{program}"].type for program in ("true", "false", "cat")} == {tarfile.LNKTYPE}
    if isinstance(added, str):
        added = (inputs.stores["big"].on_disk("coreutils") / "bin" / added).stat().st_size
    assert data(found) - data(nothing) == added


def test_a_changed_root_copy_leaves_the_store_file(somebody: User, inputs: Inputs) -> None:
    """A root copy that a script changed is a file of its own; the store's file stays canonical."""
    stored = inputs.stores["big"].path("coreutils").lstrip("/") + "/bin/true"
    size = (inputs.stores["big"].on_disk("coreutils") / "bin/true").stat().st_size
    for name in ("root-copy-written", "root-copy-mode", "root-copy-owner", "root-copy-capability", "truncate"):
        found = build_case(somebody, inputs, name)
        assert found["bin/true"].isreg(), name
        original = found[stored]
        assert (original.uid, original.gid, original.mode, original.size) == (0, 0, 0o555, size)
        assert not original.pax_headers


def test_a_socket_is_left_out_with_a_note(somebody: User, inputs: Inputs) -> None:
    """A socket is no part of the layer, and the command says so."""
    case = BY_NAME["socket"]
    words = inputs.words(case, "root", somebody)
    result = somebody.build(*words, "--script", write_script(somebody, case), "--list")
    assert result.status == 0
    assert "/srv/sock: a socket is not part of a layer; left out" in result.err
    assert "srv/sock" not in (somebody.home / "layer/layer.mtree").read_text()


def test_what_is_left_running_is_ended(somebody: User, inputs: Inputs) -> None:
    """A background process that nobody waits for does not outlive the build, nor hold it up."""
    case = BY_NAME["background"]
    result = somebody.build(*inputs.words(case, "root", somebody), "--script", write_script(somebody, case))
    assert result.status == 0, result.err
    if os.geteuid() == 0:
        processes = subprocess.run(["ps", "-u", str(SOMEBODY), "-o", "args="], capture_output=True, text=True, check=False).stdout
        assert "sleep 300" not in processes


def test_every_script_says_what_it_proves() -> None:
    """The corpus has no two scripts of the same name or text, and each says what it is there for."""
    assert len(BY_NAME) == len(CORPUS) == len({case.text for case in CORPUS})
    assert all(case.proves.endswith(".") and set(case.views) <= {"root", "directory"} for case in CORPUS)


# --- random trees ---

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")
)
NODES = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), st.integers(0, 0o7777), st.binary(max_size=600)),
        st.tuples(st.just("link"), st.just(0o777), st.binary(min_size=1, max_size=120).filter(lambda text: b"\0" not in text)),
    ),
    lambda below: st.tuples(st.just("directory"), st.integers(0, 0o7777), st.dictionaries(NAMES, below, max_size=5)),
    max_leaves=12,
)
TREES = st.dictionaries(NAMES, NODES, max_size=6)
RANDOM = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Node = tuple[str, int, Any]


def grow(folder: bytes, tree: Mapping[bytes, Node]) -> None:
    """Make a tree on disk."""
    for name, (kind, mode, content) in tree.items():
        path = folder + b"/" + name
        if kind == "link":
            os.symlink(content, path)
            continue
        if kind == "directory":
            os.mkdir(path)
            grow(path, content)
        else:
            with open(path, "wb") as file:
                file.write(content)
        # The builder must be able to read it; a directory gets its owner's write bit in the layer.
        os.chmod(path, mode | (0o700 if kind == "directory" else 0o400))


def flatten(tree: Mapping[bytes, Node], above: bytes = b"") -> dict[bytes, tuple[object, ...]]:
    """Give what the layer of a tree must hold, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, (kind, mode, content) in tree.items():
        if kind == "directory":
            found[above + name] = (kind, mode | 0o700, b"")
            found |= flatten(content, above + name + b"/")
        else:
            found[above + name] = (kind, mode | 0o400, content)
    return found


def read_blob(blob: bytes) -> dict[bytes, tuple[object, ...]]:
    """Read a layer by Python's tarfile: kind, mode, data by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(blob), encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime, member.uname, member.gname) == (0, 0, 1, "", "")
            name = os.fsencode(member.name)
            assert name not in found
            if member.issym():
                found[name] = ("link", 0o777, os.fsencode(member.linkname))
            elif member.isdir():
                found[name] = ("directory", member.mode, b"")
            else:
                file = tar.extractfile(member)
                assert file is not None
                found[name] = ("file", member.mode, file.read())
    return found


def build_tree(folder: Path, tree: Mapping[bytes, Node], scripts: tuple[Script, ...] = (), view: View = "directory") -> bytes:
    """Build a tree's layer through the library, and give its bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        content = f"{work}/content"
        os.mkdir(content)
        grow(os.fsencode(content), tree)
        layer = build_layer(LayerSpec(copy_to_root=(content,), scripts=scripts, view=view), f"{work}/layer")
        blob: Path = Path(work) / "layer/blobs/sha256" / layer.descriptor.digest.removeprefix("sha256:")
        return blob.read_bytes()


@settings(RANDOM, max_examples=60)
@given(tree=TREES)
def test_the_layer_is_the_tree(tree: dict[bytes, Node], memory: Path) -> None:
    """For any tree, what another reader finds in the layer is that tree, and no more."""
    assert read_blob(build_tree(memory, tree)) == flatten(tree)


@settings(RANDOM, max_examples=15)
@given(tree=TREES)
def test_any_tree_survives_the_script_true(tree: dict[bytes, Node], memory: Path) -> None:
    """For any tree, staging and scanning it gives the same bytes as leaving both out."""
    assert build_tree(memory, tree, (Script.text("true"),)) == build_tree(memory, tree)
