"""A machine without a usable fakeroot or without namespaces gives the same layer, or says what it lacks."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from helpers.aftermath import CONFINED, assert_said, marked, members, owner, until
from helpers.running import STARTED, VIEWS, read, say, script_of
from helpers.stores import Store
from helpers.users import COMMAND, HANG, Result, User

from rootless_layer.system.namespaces import refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def programs(user: User) -> Path:
    """A directory to put other programs in."""
    (user.home / "bin").mkdir()
    return user.home / "bin"


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_machine_without_fakeroot(user: User, small: Store, programs: Path, content: Path) -> None:
    """Without fakeroot a script is refused: 69, naming it and how to get it; without a script it is not needed."""
    environment = {"PATH": str(programs)}
    assert_said(script_of(user, small, "true\n", env=environment), 69, "fakeroot", "[Ii]nstall")
    assert user.build("--copy-to-root", content, *marked(user), env=environment).status == 0


WRAPPERS = {
    # What the wrapper says, what the daemon does, and what is to be said of it.
    "old": (
        "FAKED=$HERE/faked\nPATHS=/usr/lib/x86_64-linux-gnu/libfakeroot\nFAKEROOT_LIB=libfakeroot-sysv.so",
        "echo fakeroot version 1.20",
        ["1.20", "1.25"],
    ),
    "no version": (
        "FAKED=$HERE/faked\nPATHS=/usr/lib/x86_64-linux-gnu/libfakeroot\nFAKEROOT_LIB=libfakeroot-sysv.so",
        "exit 3",
        ["faked", "1.25"],
    ),
    "silent": ("", "", ["FAKED"]),
    "no daemon": ("FAKED=/no/such/faked\nPATHS=/usr/lib\nFAKEROOT_LIB=libfakeroot.so", "", ["/no/such/faked"]),
    "no library": (
        "FAKED=$HERE/faked\nPATHS=/no/such/folder\nFAKEROOT_LIB=libfakeroot.so",
        "echo 1.31",
        ["libfakeroot.so", "/no/such/folder"],
    ),
    "not text": ("\x7fELF\x01\x02", "", ["fakeroot"]),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_fakeroot_that_is_of_no_use(user: User, small: Store, programs: Path, kind: str) -> None:
    """A fakeroot that is too old or broken is refused: 69, with what was found and what is needed."""
    wrapper, daemon, words = WRAPPERS[kind]
    for name in ("fakeroot", "fakeroot-sysv"):
        program(programs / name, wrapper.replace("$HERE", str(programs)))
    program(programs / "faked", daemon)
    result = script_of(user, small, "true\n", env={"PATH": f"{programs}:{os.environ['PATH']}"})
    assert_said(result, 69, *words, "1.25 or newer")


def real_library() -> tuple[str, str]:
    """Give the directory and the name of this machine's libfakeroot."""
    from rootless_layer.session.fakeroot import find_programs

    library = find_programs().library
    return os.path.dirname(library), os.path.basename(library)


@pytest.mark.parametrize(("daemon", "status"), [("exit 1", 71), ("echo nonsense; exec sleep 1000", 71), ("kill -9 $$", 71)])
def test_a_daemon_that_does_not_come_up(user: User, small: Store, programs: Path, daemon: str, status: int) -> None:
    """A daemon that ends at once, or says what no daemon says, fails the build: 71, without waiting for ever."""
    folder, name = real_library()
    for wrapper in ("fakeroot", "fakeroot-sysv"):
        program(programs / wrapper, f"FAKED={programs}/faked\nPATHS={folder}\nFAKEROOT_LIB={name}")
    program(programs / "faked", f'case "$*" in *--version*) echo 1.31; exit 0 ;; esac\n{daemon}')
    result = script_of(user, small, "true\n", env={"PATH": f"{programs}:{os.environ['PATH']}"})
    assert_said(result, status, "faked")


def confined(user: User, store: Store, text: str, *more: str | Path) -> Result:
    """Build with a script where there are no namespaces to be had."""
    result = user.run([
        sys.executable, CONFINED, "root" if user.is_root else "user", *COMMAND, "build", "-o", user.home / "layer", *store.options,
        *marked(user), "--script", user.script(text), "--json", *more,
    ])  # fmt: skip
    assert "left:" not in result.err, result.err
    assert "Traceback" not in result.err, result.err
    return result


SCRIPT = "mkdir d; chown 33:34 d; chmod 2750 d; echo x > f; chown 1:2 f; chmod 4711 f; mknod c c 5 1; mkfifo p; ln -s f l; chown -h 3:4 l\n"


def test_without_namespaces_the_layer_is_the_same(users: list[User], small: Store) -> None:
    """A machine without namespaces gives the same layer from a copy, in the views that it can show; stderr says what was done."""
    for view in VIEWS:
        digests = set()
        for user in users:
            digests.add(
                user.build(*small.options, *marked(user), "--view", view, "--script", user.script(SCRIPT)).layer["digest"]
            )
            if view == "root" and not user.is_root:
                continue
            result = confined(user, small, SCRIPT, "--view", view)
            digests.add(result.layer["digest"])
            assert "user namespaces are" in result.err
            assert ("is a chroot" if view == "root" else "the directory view") in result.err
            assert "copied" in result.err
        assert len(digests) == 1


def test_without_namespaces_somebody_has_no_root_view(users: list[User], small: Store) -> None:
    """Where somebody cannot be shown another root, the root view is refused with a hint, and the script never runs; or it is the true one."""
    user = users[-1]
    result = confined(user, small, f"ls -d {user.home} && echo REACHED\nmkdir /data || exit 9\nchown 5 /data\n", "--view", "root")
    assert "REACHED" not in result.err
    if result.status:
        assert_said(result, 69, "view", "directory")
    else:
        assert owner(members(user)["data"])[:2] == (5, 0)


def test_without_namespaces_bind_is_refused(users: list[User], small: Store) -> None:
    """What was asked for and cannot be is an error: --stage bind where nothing can be mounted, 69."""
    for user in users:
        assert_said(confined(user, small, "true\n", "--stage", "bind", "--view", "directory"), 69, "mount", "--stage copy")


def test_without_namespaces_nothing_is_mounted(users: list[User], small: Store) -> None:
    """A mount that was asked for is refused there: 69. A secret that is a variable alone needs none."""
    for user in users:
        view = ["--view", "root" if user.is_root else "directory"]
        for mount in (
            "type=tmpfs,target=/tmp/x",
            "type=secret,id=PATH",
            f"source={user.home},target=/tmp/x",
            "type=cache,target=/tmp/x",
        ):
            assert_said(confined(user, small, "true\n", *view, "--mount", mount), 69, "mount", "user namespaces")
        result = confined(user, small, 'test -n "$SECRET"\n', *view, "--mount", "type=secret,id=HOME,env=SECRET")
        assert result.status == 0, result.err


def test_without_namespaces_an_attribute_alone_makes_root_the_owner(users: list[User], big_store: Store) -> None:
    """Also where the builder's own id is visible in the session, setfattr on a fresh file does not make the builder its owner."""
    for user in users:
        text = "echo > a; setfattr -n user.x -v y a\n"
        result = confined(user, big_store, text, "--view", "directory")
        if result.status == 0:
            assert owner(members(user)["a"])[:2] == (0, 0)
        else:
            assert_said(result, 76, "/a: ")


def test_without_namespaces_the_caller_survives(users: list[User], small: Store) -> None:
    """A script that kills all that it may kill ends at most its own build: whoever started the command lives on."""
    for user in users:
        bystander = 'sleep 1000 & before=$!; "$@"; status=$?; kill -0 $before && echo ALIVE >&2; kill $before; exit $status'
        script = user.script("kill -9 -1 || :\nsleep 0.1\n")
        result = user.run([
            sys.executable, CONFINED, "root" if user.is_root else "user", "sh", "-c", bystander, "sh", *COMMAND, "build", "-o",
            user.home / "layer", *small.options, *marked(user), "--view", "root" if user.is_root else "directory", "--script", script,
        ])  # fmt: skip
        assert "ALIVE" in result.err, result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["SIGINT", "SIGTERM", "SIGKILL"])
def test_without_namespaces_a_signal_ends_everything(users: list[User], small: Store, number: int) -> None:
    """Where no process namespace ends them together, the processes of a build that gets a signal end all the same."""
    for user in users:
        script = user.script("(setsid sleep 1000 &)\necho RUNNING\nsleep 1000\n")
        command = [*COMMAND, "build", "-o", str(user.home / "layer"), *small.options, *marked(user)]
        with open(user.home / "said", "wb") as said:
            process = user.start(
                [
                    sys.executable,
                    CONFINED,
                    "root" if user.is_root else "user",
                    *command,
                    "--view",
                    "directory",
                    "--script",
                    script,
                ],
                stderr=said,
            )
        STARTED.append(process)
        assert until(lambda user=user: "RUNNING" in say(user)), say(user)  # type: ignore[misc]
        (build,) = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if read(folder / "cmdline").split(b"\0")[1:3] == [b"-m", b"rootless_layer"]
            and str(user.home).encode() in read(folder / "cmdline")
        ]
        os.kill(build, number)
        assert process.wait(HANG) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: 137}[signal.Signals(number)], say(
            user
        )
        assert "left:" not in say(user), say(user)
        assert "Traceback" not in say(user), say(user)
        assert not (user.home / "layer").exists()


def test_why_there_are_no_namespaces_is_told() -> None:
    """What the kernel calls a full device is a setting, and what it calls no permission is one of three."""
    assert "max_user_namespaces" in refusal(OSError(errno.ENOSPC, "unshare: No space left on device"))
    assert "AppArmor" in refusal(PermissionError(errno.EPERM, "unshare: Operation not permitted"))
    assert refusal(OSError(errno.EIO, "unshare: broken")) == "unshare: broken"
