"""What the tests share: real closures, and the command run as root and as somebody else."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings

for _number in (signal.SIGINT, signal.SIGHUP):  # a background job's commands would inherit that they are ignored
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "scripts"
COMMAND = [sys.executable, "-m", "rootless_layer"]
SOMEBODY = 12345
"""A user id with no privilege and no name: builds may need neither."""
PLACE = "ROOTLESS_LAYER_TEST_DIR"
"""The variable with the directory that all of a run's processes share; ``scripts/test`` removes it, however the run ends."""
HANG = 600.0
"""Seconds after which a command is taken to hang: no test waits for less, as a machine may be busy."""


PATIENT = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
"""For tests whose fixtures do not change, on a machine that is busy."""
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@attrs.frozen
class Result:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def layer(self) -> dict[str, Any]:
        """What ``--json`` printed; the command must have succeeded."""
        assert self.status == 0, self.err
        layer: dict[str, Any] = json.loads(self.out)
        return layer


@attrs.frozen
class User:
    """Somebody who runs commands, with a directory of their own."""

    name: str
    home: Path

    @property
    def is_root(self) -> bool:
        """Whether this is real root."""
        return self.name == "root"

    def arguments(self) -> dict[str, Any]:
        """What :mod:`subprocess` needs to become this user."""
        if self.is_root or os.geteuid() != 0:
            return {}
        return {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of this user's commands: nothing of the caller's but PATH."""
        temporary = self.home / "tmp"
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "USER": self.name, "TMPDIR": str(temporary), **(extra or {})}

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = HANG, **more: Any
    ) -> Result:
        """Run a command as this user, to its end."""
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
            env=self.environment(env), cwd=more.pop("cwd", self.home), **self.arguments(), **more,
        )  # fmt: skip
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def start(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command as this user."""
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, env=self.environment(env), cwd=self.home,
            **self.arguments(), **more,
        )  # fmt: skip

    def build(self, *words: str | Path, output: str = "layer", env: Mapping[str, str] | None = None, **more: Any) -> Result:
        """Run ``rootless-layer build … -o HOME/output --json``; options may end with ``--`` and a command."""
        return self.run([*COMMAND, "build", "-o", self.home / output, "--json", *words], env=env, **more)

    def script(self, text: str, name: str = "script") -> Path:
        """Write a script into this user's directory."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def leftovers(self) -> list[str]:
        """Name the temporary trees that are left: there must be none."""
        return sorted(os.listdir(self.home / "tmp")) + [
            name for name in os.listdir(self.home) if name.startswith(".rootless-layer-")
        ]


def pytest_configure(config: pytest.Config) -> None:
    """Make the directory of this run, unless whoever began it has: pytest-xdist's processes get it by the environment."""
    if PLACE not in os.environ:
        os.environ[PLACE] = tempfile.mkdtemp(prefix="rl-tests-", dir="/var/tmp")
        config.add_cleanup(functools.partial(remove, Path(os.environ[PLACE])))
    Path(os.environ[PLACE]).chmod(0o755)


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory of this process's that everybody may read, for as long as the tests run."""
    folder = Path(tempfile.mkdtemp(prefix="process-", dir=os.environ[PLACE]))
    folder.chmod(0o755)
    yield folder
    remove(folder)


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Give a directory or file of that name which the first of pytest's processes makes, and no test changes.

    ``make`` is called with the path. No build with ``--stage hardlink`` may use it: that gives the sources another
    time of change, which the builds beside it would take for what their scripts did.
    """
    path = Path(os.environ[PLACE], name)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{path}.done"):
            if os.path.lexists(path):  # of one that was killed, or failed
                remove(path) if path.is_dir() else path.unlink()
            make(path)
            Path(f"{path}.done").touch()
    return path


def remove(folder: Path) -> None:
    """Remove a tree, read-only directories and all, and however many files it has."""
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)


def make_user(shared: Path, name: str) -> User:
    """Make a user a fresh directory."""
    home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared))
    (home / "tmp").mkdir()
    if name != "root" and os.geteuid() == 0:
        for path in (home, home / "tmp"):
            os.chown(path, SOMEBODY, SOMEBODY)
    home.chmod(0o755)
    return User(name, home)


@pytest.fixture(params=["root", "somebody"])
def user(request: pytest.FixtureRequest, shared: Path) -> Iterator[User]:
    """Real root, and then somebody without privilege: what is tested holds for both."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("these tests were not started by root")
    made = make_user(shared, request.param)
    yield made
    remove(made.home)


@pytest.fixture
def users(shared: Path) -> Iterator[list[User]]:
    """Everybody at once, to compare what they build; root is the first where there is root."""
    made = [make_user(shared, name) for name in (["root"] if os.geteuid() == 0 else []) + ["somebody"]]
    yield made
    for one in made:
        remove(one.home)


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
TOOLS = ("findutils", "sed", "grep", "tar", "attr", "libcap2-bin", "rsync", "perl-base", "python3.11-minimal")


def make_store(folder: Path, packages: Sequence[str]) -> Store:
    """Make a closure of this machine's own programs, for a test that does with it what it likes."""
    subprocess.run([sys.executable, SCRIPTS / "machine_closure.py", folder, *packages], check=True, capture_output=True)
    for heavy in folder.glob("nix/store/*-libc6-*/lib/*/gconv"):
        remove(heavy)  # nothing here converts text
    return store_of(folder, folder / "graph")


def shared_store(*packages: str) -> Store:
    """Give a closure of this machine's own programs that is made once for all tests, which only read it."""
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    folder = once(f"store-{digest}", lambda folder: make_store(folder, packages))
    return store_of(folder, folder / "graph")


@pytest.fixture(scope="session")
def store() -> Store:
    """A closure with a shell, coreutils, shadow's programs and su."""
    return shared_store(*PACKAGES)


@pytest.fixture(scope="session")
def big_store() -> Store:
    """The same with every tool that the corpus of scripts uses."""
    return shared_store(*PACKAGES, *TOOLS)


@pytest.fixture(scope="session")
def shell_store() -> Store:
    """A closure with a shell and coreutils alone: the quickest that runs a script in the root view."""
    return shared_store("bash", "coreutils")


@pytest.fixture(scope="session")
def accounts() -> Path:
    """A tree with the account files that shadow's programs need."""
    return once("accounts", make_accounts)


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


GROUPED = ("test_nix.py", "test_nix_images.py")
"""Files whose tests share what is long in the making: they run one after the other."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test to the next process that is free, but those of some files to one.

    The plugin's own groups are lost between its version 3.8 and pytest 9, without a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if os.path.basename(file) in GROUPED else nodeid

    return Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
