"""Closures, trees and programs that the tests of sessions share, and a look at what each test leaves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.aftermath import make_tools, marked
from helpers.cases import Inputs
from helpers.corpus import BY_NAME, environment, options_of, shared_contents
from helpers.hostile import Field, Stores, make_field
from helpers.oracle import Chroot, unpack
from helpers.place import PLACE, in_memory, make_folder, once, remove
from helpers.real_root import build
from helpers.running import VIEWS, Runner, nothing_outlives
from helpers.stores import Store, fingerprint, shared_store
from helpers.users import User, make_user


@pytest.fixture(scope="session")
def small(shell_store: Store) -> Store:
    """A closure with a shell and coreutils."""
    return shell_store


@pytest.fixture(scope="session")
def tools(shell_store: Store) -> Path:
    """Programs of several kinds: their C library is the same path of every closure."""
    return once("tools", lambda folder: make_tools(folder, shell_store))


@pytest.fixture(scope="session")
def content(shared: Path) -> Path:
    """A tree with one small file."""
    folder = shared / "content"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hostname").write_text("here\n")
    return folder


@pytest.fixture(params=VIEWS)
def runner(request: pytest.FixtureRequest, user: User, tools: Path) -> Runner:
    """Give everybody in both views, with a closure that has a shell, coreutils, setfattr and setcap."""
    store = shared_store("bash", "coreutils", "attr", "libcap2-bin")
    return Runner(user, [*store.options, "--copy-to-root", str(tools), *marked(user)], request.param)


@pytest.fixture(scope="session")
def stores(shared: Path) -> Stores:
    """Give stores to attack, of this process's, with a shell, coreutils, setfattr and setcap."""
    return Stores(shared, shared_store("bash", "coreutils", "attr", "libcap2-bin"))


@pytest.fixture(scope="session")
def python_stores(shared: Path) -> Stores:
    """Give stores with Python, too."""
    return Stores(shared, shared_store("bash", "coreutils", "python3.11-minimal"))


@pytest.fixture
def field(user: User, request: pytest.FixtureRequest) -> Field:
    """Sources owned by who runs the build, hard linked (the worst case), or by another user: by its parameter, whose and which."""
    owned, programs = getattr(request, "param", (True, "stores"))
    return make_field(user, request.getfixturevalue(programs), owned=owned)


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test, whatever it did: no process, mount, queue, temporary tree; no layer that is not whole."""
    names = request.fixturenames
    everybody = [request.getfixturevalue("user")] if "user" in names else []
    if "users" in names:
        everybody += request.getfixturevalue("users")
    with nothing_outlives(everybody):
        yield


@pytest.fixture(scope="session")
def inputs(shell_store: Store, store: Store, big_store: Store, accounts: Path) -> Iterator[Inputs]:
    """The closures and trees of the corpus; they must be the same when the last script has run."""
    given = Inputs({"shell": shell_store, "small": store, "big": big_store}, [*shared_contents(big_store), str(accounts)])
    before = {folder: fingerprint(folder) for folder in given.folders()}
    yield given
    assert {folder: fingerprint(folder) for folder in before} == before, "a script changed a source"
    assert given.changed_copies() == [], "a script changed a source"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on a tmpfs that everybody may write to: another file system, and a quick one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix=f"{os.path.basename(os.environ[PLACE])}-") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.fixture(scope="session")
def chroot(shared: Path, inputs: Inputs) -> Chroot:
    """A real root directory of the corpus's inputs, unpacked from their layer by GNU tar."""
    store = inputs.stores["big"]

    def make(base: Path) -> None:
        user = make_user(shared, "root")
        unpack(build(user, options_of(BY_NAME["nothing"], "root", store, inputs.contents)), base)
        remove(user.home)

    return Chroot(once("oracle-base", make), store, environment(store))


@pytest.fixture
def work(shared: Path) -> Iterator[Path]:
    """A directory of a test's own on a file system that holds owners and attributes."""
    folder = make_folder(in_memory(shared), "oracle-")
    yield folder
    remove(folder)
