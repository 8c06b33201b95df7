"""Access control lists: what is read, refused, inherited and allowed is the kernel's, on a real file system."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer.system import acl
from rootless_layer.system.acl import ACCESS, DEFAULT, Item, inherited, mode_of, parse, permitted, with_mode, write

pytestmark = pytest.mark.slow

OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF
PERMISSIONS = st.integers(0, 7)
IDS = st.sampled_from((0, 7, 1000, 1001, 65534))


@st.composite
def a_list(draw: st.DrawFn) -> list[Item]:
    """Draw a list that the kernel takes."""
    users = sorted(draw(st.sets(IDS, max_size=3)))
    groups = sorted(draw(st.sets(IDS, max_size=3)))
    mask = [Item(MASK, draw(PERMISSIONS))] if users or groups or draw(st.booleans()) else []
    return [
        Item(OWNER, draw(PERMISSIONS)),
        *(Item(USER, draw(PERMISSIONS), who) for who in users),
        Item(OWNING_GROUP, draw(PERMISSIONS)),
        *(Item(GROUP, draw(PERMISSIONS), who) for who in groups),
        *mask,
        Item(OTHER, draw(PERMISSIONS)),
    ]


ENTRY = st.builds(Item, st.sampled_from((1, 2, 4, 8, 16, 32, 64)), st.integers(0, 9), st.sampled_from((NOBODY, 0, 1000)))
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory of a file system that has lists."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        try:
            os.setxattr(folder, ACCESS, write([Item(OWNER, 7), Item(OWNING_GROUP, 5), Item(OTHER, 5)]))
        except OSError as error:
            pytest.skip(f"/var/tmp has no access control lists: {error.strerror}")
        yield Path(folder)


def refusal(action: Callable[[], object]) -> int | None:
    """Give the error of an action."""
    try:
        action()
    except OSError as error:
        return error.errno
    return None


def fresh(place: Path, name: str = "file", mode: int = 0o640) -> Path:
    """Make a file anew."""
    path = place / name
    path.unlink(missing_ok=True)
    path.touch()
    path.chmod(mode)
    return path


def list_of(path: Path, name: bytes = ACCESS) -> list[Item]:
    """Read the list of a file; nothing where there is none."""
    return parse(os.getxattr(path, name)) if name.decode() in os.listxattr(path) else []


@QUIET
@given(st.one_of(a_list(), st.lists(ENTRY, max_size=6)), st.sampled_from((0, 1, 2, 3)), st.binary(max_size=2))
def test_the_kernel_refuses_the_same_lists(place: Path, items: list[Item], version: int, rest: bytes) -> None:
    """A value is taken or refused with the same error."""
    path = fresh(place)
    value = struct.pack("<I", version) + write(items)[4:] + rest
    assert refusal(lambda: parse(value)) == refusal(lambda: os.setxattr(path, ACCESS, value))


@QUIET
@given(a_list(), st.integers(0, 0o777), st.integers(0, 0o777))
def test_a_list_and_a_mode(place: Path, items: list[Item], before: int, after: int) -> None:
    """A list changes the mode, and a mode the list, as on disk; a list that says no more than the mode is none."""
    path = fresh(place, mode=before | 0o600)
    os.setxattr(path, ACCESS, write(items))
    mode, said = mode_of(items, stat.S_IFREG | before)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(mode)
    assert said == (list_of(path) == [])
    if not said:
        assert list_of(path) == items
        os.chmod(path, after)
        assert list_of(path) == with_mode(items, after)


@QUIET
@given(a_list(), st.integers(0, 0o777), st.booleans())
def test_what_a_directory_hands_on(place: Path, items: list[Item], mode: int, folder: bool) -> None:  # noqa: FBT001 - drawn
    """What is made in a directory with a default list has the kernel's list and mode, whatever the umask."""
    with tempfile.TemporaryDirectory(dir=place) as above:
        os.setxattr(above, DEFAULT, write(items))
        path = Path(above, "made")
        before = os.umask(0o077)
        try:
            if folder:
                os.mkdir(path, mode)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
        finally:
            os.umask(before)
        ours, ours_mode = inherited(items, mode)
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ours_mode)
        assert list_of(path) == ([] if mode_of(ours, ours_mode)[1] else ours)
        os.chmod(path, 0o700)
        if folder:
            assert list_of(path, DEFAULT) == items


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(a_list(), st.sampled_from((1000, 1001, 65534)), st.lists(IDS, max_size=2, unique=True), IDS, IDS)
def test_what_somebody_may(place: Path, items: list[Item], user: int, groups: list[int], owner: int, group: int) -> None:
    """Reading, writing and executing are allowed to the owner, users, groups and others as access(2) says."""
    path = fresh(place)
    os.chown(path, owner, group)
    os.setxattr(path, ACCESS, write(items))
    pid = os.fork()
    if not pid:
        os.setgroups(groups)
        os.setresgid(1001, 1001, 1001)
        os.setresuid(user, user, user)
        os._exit(sum(want for want in (4, 2, 1) if os.access(path, want)))
    right = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert permitted(items, owner == user, group, user, (1001, *groups)) == right


def test_no_list_is_an_empty_one() -> None:
    """A list without entries is read, and none without its version."""
    assert acl.parse(struct.pack("<I", 2)) == []
