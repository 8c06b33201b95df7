"""A source that cannot be read, or that changes while it is read, is named."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helpers.aftermath import CLOSED, assert_said, marked, members, until
from helpers.running import say, started
from helpers.stores import Store
from helpers.users import HANG, SOMEBODY, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


def test_a_source_that_cannot_be_read(user: User, small: Store, content: Path) -> None:
    """A source without read permission is named: 66, with what to do."""
    if user.is_root:
        pytest.skip("root reads everything")
    tree = user.home / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/secret").write_text("secret\n")
    for path in (tree / "below/secret", tree / "below"):
        path.chmod(0)
        for option in ("--copy-to-root", "--rootfs"):
            for script in ([], ["--script", str(user.script("true\n"))]):
                result = user.build(*small.options, option, tree, *script, *marked(user))
                assert_said(result, 66, str(path), CLOSED, "readable")
        path.chmod(0o755)
    assert_said(user.build("--copy-to-root", user.home / "none", *marked(user)), 66, "none: ", "does not exist")


def changed(how: str, path: Path) -> None:
    """Change a file while somebody reads it."""
    if how == "grown":
        with path.open("ab") as file:
            file.write(b"more")
    elif how == "cut":
        os.truncate(path, 1 << 20)
    elif how == "rewritten":
        with path.open("r+b") as file:
            file.write(b"x")
    elif how == "replaced":
        other = path.with_name("other")
        with other.open("wb") as file:
            file.truncate(1 << 30)
        other.rename(path)
    elif how == "removed":
        path.unlink()


def open_files(pid: int) -> list[str]:
    """Name the descriptors of a process and of its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [f"/proc/{each}/fd/{name}" for each in (str(pid), *children) for name in os.listdir(f"/proc/{each}/fd")]
    except OSError:
        return []


@pytest.mark.parametrize("how", ["grown", "cut", "rewritten", "replaced", "removed"])
def test_a_source_that_changes_while_it_is_read(users: list[User], how: str) -> None:
    """A file that grows, shrinks or is written to while it is read fails the build and is named: 66; one that is replaced is read to its end."""
    user = users[-1]
    (user.home / "big").mkdir()
    path = user.home / "big/sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    path.chmod(0o666)
    if os.geteuid() == 0:
        for each in (path, path.parent):
            os.chown(each, SOMEBODY, SOMEBODY)
    process = started(user, "--copy-to-root", user.home / "big", "--blob", "derived")
    reading = threading.Event()

    def change() -> None:
        while process.poll() is None:
            for descriptor in open_files(process.pid):
                try:
                    if (
                        os.readlink(descriptor) == str(path)
                        and "pos:\t0\n" not in Path(descriptor.replace("/fd/", "/fdinfo/")).read_text()
                    ):
                        reading.set()
                        changed(how, path)
                        return
                except OSError:
                    continue

    changer = threading.Thread(target=change)
    changer.start()
    status = process.wait(HANG)
    changer.join()
    assert reading.is_set()
    said = say(user)
    assert "Traceback" not in said
    if how in {"replaced", "removed"} and status == 0:
        return  # what was opened was read whole
    assert status == 66, said
    assert str(path) in said
    assert "changed" in said
    assert not (user.home / "layer").exists()


def test_a_source_that_changes_between_plan_and_script(users: list[User], small: Store) -> None:
    """A tree that another changes while the scripts run does not matter once it is copied; a mounted store path is read as it is planned, or refused."""
    user = users[-1]
    (user.home / "tree").mkdir()
    path = user.home / "tree/file"
    path.write_text("before\n")
    path.chmod(0o666)
    process = started(
        user, *small.options, "--copy-to-root", user.home / "tree", "--script", user.script("echo RUNNING\nsleep 0.5\n")
    )
    assert until(lambda: "RUNNING" in say(user))
    path.write_text("after it was staged\n")
    status = process.wait(HANG)
    said = say(user)
    assert "Traceback" not in said
    if status:
        assert status == 66, said
        assert str(path) in said
    else:
        assert members(user)["file"].size == len("before\n")
