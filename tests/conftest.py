"""What the tests share: this run's directories, its users, and closures of this machine's programs."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.effort import DAY, EVERY
from helpers.place import MEMORY, PLACE, in_memory, make_folder, mount_memory, once, remove, unmount
from helpers.running import VIEWS
from helpers.stores import PACKAGES, TOOLS, Store, make_accounts, shared_store
from helpers.users import User, make_user
from hypothesis import HealthCheck, settings

for _number in (signal.SIGINT, signal.SIGHUP):  # a background job's commands would inherit that they are ignored
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Make the directories of this run, unless whoever began it has: pytest-xdist's processes get them by the environment."""
    if not os.environ.get(PLACE):
        os.environ[PLACE] = tempfile.mkdtemp(prefix="rl-tests-", dir="/var/tmp")
        config.add_cleanup(functools.partial(remove, Path(os.environ[PLACE])))
    Path(os.environ[PLACE]).chmod(0o755)
    if not os.environ.get(MEMORY):
        memory = mount_memory(Path(os.environ[PLACE]))
        os.environ[MEMORY] = str(memory)
        if memory != Path(os.environ[PLACE]):
            config.add_cleanup(functools.partial(unmount, memory))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have root build in one view and somebody in the other on one day, and the other way round on the next."""
    left = [] if EVERY or os.geteuid() != 0 else [item for item in items if not _is_todays(item)]
    config.hook.pytest_deselected(items=left)
    out = set(left)
    items[:] = [item for item in items if item not in out]


def _is_todays(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    view = parameters.get("runner", parameters.get("view"))
    return "user" not in parameters or view not in VIEWS or ((parameters["user"] == "root") + VIEWS.index(view) + DAY) % 2 == 0


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory of this process's that everybody may read, for as long as the tests run."""
    folder = make_folder(Path(os.environ[PLACE]), "process-")
    # An ext4 puts each directory of this one elsewhere: without a journal it looks at every inode that was freed nearby.
    subprocess.run(["chattr", "+T", folder], capture_output=True, check=False)
    yield folder
    for made in {in_memory(folder), folder}:  # one and the same where there is no memory to mount
        remove(made)


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


@pytest.fixture
def somebody(shared: Path) -> Iterator[User]:
    """One user, without privilege where the tests have one to give."""
    made = make_user(shared, "somebody")
    yield made
    remove(made.home)


@pytest.fixture
def folder(shared: Path) -> Iterator[Path]:
    """A fresh directory that everybody may read."""
    made = make_folder(in_memory(shared), "folder-")
    yield made
    remove(made)


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


GROUPS = {
    "test_nix.py": "nix", "test_nix_builders.py": "nix images", "test_nix_examples.py": "nix images", "test_nix_images.py": "nix images",
}  # fmt: skip
"""Files by name whose tests share what is long in the making, and with which others: they run one after the other."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test to the next process that is free, but those of a group to one.

    The plugin's own groups are lost between its version 3.8 and pytest 9, without a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return GROUPS.get(os.path.basename(nodeid.partition("::")[0]), nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
