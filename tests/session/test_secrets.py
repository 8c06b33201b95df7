"""Secrets: scripts have them as files or variables, and nothing else has."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest
from helpers.aftermath import assert_said, marked, members, until
from helpers.roots import busybox_root
from helpers.running import STARTED, VIEWS
from helpers.users import COMMAND, HANG, User, good

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


def root(*mounts: str, view: str = "root") -> list[str | Path]:
    """Options for a root with a shell, and mounts."""
    return ["--rootfs", busybox_root(), "--view", view, *(word for mount in mounts for word in ("--mount", mount))]


def holders(top: Path, secret: bytes) -> set[Path]:
    """Name the files below a directory in which a secret is, by name or content."""
    found = set()
    for here, _, names in os.walk(top):
        for name in names:
            path = Path(here, name)
            if path.is_file() and not path.is_symlink() and (secret in path.read_bytes() or secret in os.fsencode(path)):
                found.add(path)
    return found


def telling(secret: bytes, kind: str) -> dict[int, bytes]:
    """Give the arguments or environments that tell a secret, by process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / kind).read_bytes()
        except OSError:
            continue
        if secret in said:
            found[int(folder.name)] = said
    return found


@pytest.mark.parametrize("way", ["file", "variable", "as a variable"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_secret_is_nowhere_else(user: User, way: str, view: str) -> None:
    """While a script has it, and after: it is in no file, argument or environment but what the caller and the script have."""
    secret = secrets.token_hex(20)
    source = user.home / "secret"
    at = "/run/secrets/T" if view == "root" else "/tmp/secret"
    mount = {
        "file": f"type=secret,id=T,src={source},target={at}",
        "variable": f"type=secret,id=T,target={at},required",
        "as a variable": "type=secret,id=T,env=TOKEN",
    }[way]
    if way == "file":
        source.write_text(secret)
        source.chmod(0o600)
        os.chown(source, user.home.stat().st_uid, -1)
    kept = "/c" if view == "root" else "/tmp/c"
    text = (
        f'test "$(cat {at} 2> /dev/null || echo $TOKEN)" != ""\n'
        f"S=$(cat {at} 2> /dev/null || echo $TOKEN)\ntest $(echo $S | wc -c) = 41\nunset S\n"
        f'test -z "$(ls -ld {at} 2> /dev/null)" || test "$(stat -c %u:%g:%a {at})" = 0:0:400\n'
        f"echo RUNNING\nwhile ! test -e {kept}/go; do sleep 0.01; done\nmkdir srv/made\nfalse\n"
    )
    words = root(mount, f"type=cache,target={kept}", view=view)
    with open(user.home / "said", "wb") as said, open(user.home / "json", "wb") as out:
        process = user.start(
            [*COMMAND, "build", "--json", "-o", user.home / "layer", "--cache", *marked(user), *words, "--script", user.script(text)],
            env={} if way == "file" else {"T": secret}, stdout=out, stderr=said, start_new_session=True,
        )  # fmt: skip
    STARTED.append(process)
    assert until(lambda: b"RUNNING" in (user.home / "said").read_bytes() or process.poll() is not None)
    assert process.poll() is None, (user.home / "said").read_text()
    assert telling(secret.encode(), "cmdline") == {}
    told = telling(secret.encode(), "environ")
    assert (process.pid in told) == (way != "file")
    scripts = {pid for pid, said in told.items() if b"TOKEN=" in said}
    assert told.keys() - scripts - {process.pid} == set()
    assert bool(scripts) == (way == "as a variable")
    assert holders(user.home, secret.encode()) == ({source} if way == "file" else set())
    [folder] = user.home.glob(".cache/rootless-layer/mounts/*/files")
    (folder / "go").write_text("")
    assert process.wait(HANG) == 1
    assert holders(user.home, secret.encode()) == ({source} if way == "file" else set())


def test_what_a_script_sees_of_a_secret(user: User) -> None:
    """A file in memory that is never swapped, read-only, of the mode and owner that are asked for; its place is not in the layer."""
    mounts = ["type=secret,id=T", "type=secret,id=T,target=/etc/deep/t,uid=5,gid=6,mode=0440", "type=secret,id=T,env=A,target=/t"]
    text = (
        'test "$(stat -c %u:%g:%a /run/secrets/T /etc/deep/t /t)" = "0:0:400\n5:6:440\n0:0:400"\n'
        "cat /run/secrets/T /etc/deep/t /t | cmp - /want\n"
        'test "$A$A$A." = "$(cat /want; echo .)"\n'
        "grep -q ' /run/secrets/T ramfs ro' /proc/mounts\n! sh -c 'echo 1 > /t'\n! rm /run/secrets/T\nrm /want\n"
    )
    want = user.home / "tree"
    want.mkdir()
    (want / "want").write_text("a b\n\n" * 3)
    words = [*root(*mounts), "--copy-to-root", want, "--script", user.script(text)]
    good(user.build(*words, env={"T": "a b\n\n"}))
    assert not {"run", "etc/deep", "t", "want"} & set(members(user))


def test_a_secret_is_no_part_of_the_key(user: User) -> None:
    """Another one, or none, gives the layer that was built; its place counts."""
    script = user.script("echo BUILT >&2\n")
    for mount, env, built in (
        ("type=secret,id=T", {"T": "1"}, True), ("type=secret,id=T", {"T": "2"}, False), ("type=secret,id=T", {}, False),
        ("type=secret,id=U,target=/run/secrets/T", {"U": "2"}, False), ("type=secret,id=U", {"U": "2"}, True),
    ):  # fmt: skip
        assert ("BUILT" in good(user.build("--cache", *root(mount), "--script", script, env=env)).err) == built, mount


def test_a_secret_that_nobody_gives(user: User) -> None:
    """It is not there, and the command says so; where it is required nothing is built."""
    look = ["--", "sh", "-c", "test ! -e /run/secrets/T"]
    for mount in ("type=secret,id=T", f"type=secret,id=T,src={user.home}/none"):
        assert "the secret T is not given" in good(user.build(*root(mount), *look)).err
        assert_said(user.build(*root(f"{mount},required=true"), *look, output="other"), 66 if "src" in mount else 65, "none|T")
    assert not (user.home / "other").exists()


@pytest.mark.parametrize("view", VIEWS)
def test_a_variable_needs_no_mount(somebody: User, view: str) -> None:
    """A secret that is a variable alone is there in either view, and takes the place of one of that name."""
    words = root("type=secret,id=T,env=TERM", view=view)
    good(somebody.build(*words, "--env", "TERM=x", "--", "sh", "-c", "test $TERM = 1", env={"T": "1"}))


@pytest.mark.parametrize(("data", "said"), [(b"a\0b", "NUL"), (b"x" * 600_000, "bytes")], ids=["NUL", "large"])
def test_what_is_no_secret(somebody: User, data: bytes, said: str) -> None:
    """What no variable takes, or is too large, is an error that does not tell it."""
    file = somebody.home / "file"
    file.write_bytes(data)
    file.chmod(0o644)
    result = somebody.build(*root(f"type=secret,id=T,src={file},env=A"), "--", "true")
    assert_said(result, 65, said)
    assert "xxxx" not in result.err + result.out


def test_a_secret_that_is_too_long_for_a_variable(somebody: User) -> None:
    """The message names the variable, and how long it is."""
    file = somebody.home / "file"
    file.write_text("y" * 200_000)
    result = somebody.build(*root(f"type=secret,id=T,src={file},env=LONG"), "--", "sh", "-c", "true")
    assert result.status != 0
    assert "LONG" in result.err
    assert "yyyy" not in result.err + result.out


def test_no_other_process_has_the_callers_variables(user: User) -> None:
    """The processes that a build starts have of its environment what they need, as any variable may be a secret."""
    value = secrets.token_hex(20)
    process = user.start(
        [*COMMAND, "build", "-o", user.home / "layer", *marked(user), *root(), "--", "sh", "-c", "echo RUNNING; exec sleep 1000"],
        env={"SOMETHING": value}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    STARTED.append(process)
    assert process.stderr is not None
    while b"RUNNING" not in process.stderr.readline():
        assert process.poll() is None
    assert telling(value.encode(), "environ").keys() == {process.pid}
    process.terminate()
    assert process.wait(HANG) == 143
    process.stderr.close()
