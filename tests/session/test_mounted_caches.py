"""Caches that scripts mount: kept between builds by their names, used by several as each says, and no part of a layer or its key."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.aftermath import FULL, assert_nothing_left, assert_said, marked, members, owner, until
from helpers.caches import place, tidy
from helpers.place import remove
from helpers.roots import busybox_root
from helpers.running import STARTED, VIEWS
from helpers.small_disk import small_disk
from helpers.users import COMMAND, HANG, User, good

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

RUNNING = "echo RUNNING >&2\nwhile ! test -e /c/go; do sleep 0.01; done\n"
"""A script that runs until there is a file in the cache."""


def words(option: str, script: str | Path) -> list[str | Path]:
    """Options of a build that mounts a cache at /c, with a script."""
    return ["--rootfs", busybox_root(), "--mount", f"type=cache,target=/c,{option}", "--script", script]


def files(user: User) -> list[Path]:
    """The directories of a user's caches, as scripts see them."""
    return sorted(place(user).glob("mounts/*/files"))


def running(user: User, name: str, option: str, text: str) -> subprocess.Popen[bytes]:
    """Start a build, whose words are kept beside its output."""
    with open(user.home / f"{name}.said", "wb") as said:
        command = [*COMMAND, "build", "-o", user.home / name, *marked(user), *words(option, user.script(text, f"{name}.sh"))]
        process = user.start(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
    STARTED.append(process)
    return process


def said(user: User, name: str) -> str:
    """What such a build has said."""
    return (user.home / f"{name}.said").read_text()


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_in_a_cache_is_there_in_the_next_build(user: User, view: str) -> None:
    """It stays, with its modes, as root's or the mount's owner's; the layers are equal, and those of scripts without it."""
    at = "/c" if view == "root" else "/tmp/c"
    text = f"umask 027\nC={at}\ntest -e $C/file || {{ echo 1 > $C/file; mkdir $C/sub; chown 5:6 $C/file; ln -s file $C/link; }}\n"
    look = text + "stat -c %u:%g:%a $C $C/file $C/sub >&2\ntest $(cat $C/link) = 1\n"
    digests, seen = set(), []
    for ids in ("", "", ",uid=7,gid=8,mode=1770"):
        option = ["--mount", f"type=cache,id=one,target={at}{ids}"]
        result = good(user.build("--rootfs", busybox_root(), "--view", view, *option, "--script", user.script(look)))
        digests.add(result.layer["digest"])
        seen.append(re.findall(r"^\d+:\d+:\d+$", result.err, re.MULTILINE))
    assert seen == [
        ["0:0:755", "5:6:640", "0:0:750"], ["0:0:755", "0:0:640", "0:0:750"], ["7:8:1770", "7:8:640", "7:8:750"],
    ]  # fmt: skip
    digests.add(good(user.build("--rootfs", busybox_root(), "--view", view, "--script", user.script("true\n"))).layer["digest"])
    assert len(digests) == 1
    assert len(files(user)) == 1


def test_a_cache_is_found_by_its_name(user: User) -> None:
    """By default that is its target; another id is another cache, and the target then does not matter. One that is read-only stays."""
    good(user.build(*words("id=a", user.script("echo a > /c/file\n"))))
    good(user.build(*words("ro", user.script("test ! -e /c/file\n! touch /c/other\n"))))
    mount = ["--mount", "type=cache,id=a,target=/d", "--mount", "type=cache,id=a,target=/e"]
    good(
        user.build(
            "--rootfs", busybox_root(), *mount, "--", "sh", "-ec", "test $(cat /d/file) = a; rm /e/file; ! test -e /d/file"
        )
    )
    listed = json.loads(tidy(user, "ls", "--json").out)
    assert {(kept["kind"], kept["id"], kept["digest"]) for kept in listed} == {("mount", "a", ""), ("mount", "/c", "")}


def test_a_cache_is_no_part_of_the_key(user: User) -> None:
    """A layer is found whatever a cache holds; it is built again where the cache is mounted elsewhere."""
    script = user.script("echo BUILT >&2\necho 1 >> /c/file\nmkdir -p /d\n")
    for option, built in (("id=a", True), ("id=a", False), ("id=b,sharing=locked", False), ("uid=5", True)):
        assert ("BUILT" in good(user.build("--cache", *words(option, script))).err) == built, option
    other = ["--rootfs", busybox_root(), "--mount", "type=cache,target=/d", "--mount", "type=tmpfs,target=/c", "--script", script]
    assert "BUILT" in good(user.build("--cache", *other)).err


def test_the_cache_lists_and_removes_it(user: User) -> None:
    """It is listed with its size, which is that of now; gc removes it, but not while a build uses it."""
    for size in (1000, 3000):
        good(user.build(*words("id=a", user.script(f"head -c {size} /dev/zero > /c/file\n"))))
        [kept] = json.loads(tidy(user, "ls", "--json").out)
        assert size < kept["bytes"] < size + 200
    process = running(user, "one", "id=a", RUNNING)
    assert until(lambda: "RUNNING" in said(user, "one"))
    assert json.loads(tidy(user, "gc", "--keep", "0", "--json").out)["removed"] == []
    [folder] = files(user)
    (folder / "go").write_text("")
    assert process.wait(HANG) == 0, said(user, "one")
    [gone] = json.loads(tidy(user, "gc", "--keep", "0", "--json").out)["removed"]
    assert gone["id"] == "a"
    assert files(user) == []


def test_two_builds_share_a_cache(user: User) -> None:
    """Both see what the other one writes while both run."""
    wait = "touch /c/{own}\nwhile ! test -e /c/{other}; do sleep 0.01; done\n"
    one = running(user, "one", "sharing=shared", wait.format(own="a", other="b"))
    two = running(user, "two", "id=/c", wait.format(own="b", other="a"))
    assert [one.wait(HANG), two.wait(HANG)] == [0, 0], said(user, "one") + said(user, "two")
    assert len(files(user)) == 1


def test_a_build_waits_for_a_locked_cache(user: User) -> None:
    """The second says so, and begins when the first has ended."""
    one = running(user, "one", "sharing=locked", RUNNING + "echo one >> /c/log\n")
    assert until(lambda: "RUNNING" in said(user, "one"))
    two = running(user, "two", "sharing=locked", "echo BEGUN >&2\necho two >> /c/log\n")
    assert until(lambda: "waits" in said(user, "two"))
    [folder] = files(user)
    assert not (folder / "log").exists()
    assert "BEGUN" not in said(user, "two")
    (folder / "go").write_text("")
    assert [one.wait(HANG), two.wait(HANG)] == [0, 0], said(user, "one") + said(user, "two")
    assert (folder / "log").read_text() == "one\ntwo\n"


def test_a_private_cache_is_one_builds(user: User) -> None:
    """While one build uses it, another has a cache for itself; later both are there again, one after the other."""
    one = running(user, "one", "sharing=private", "echo one > /c/own\n" + RUNNING)
    assert until(lambda: "RUNNING" in said(user, "one"))
    good(user.build(*words("sharing=private", user.script("test ! -e /c/own\necho two > /c/own\n")), output="two"))
    assert len(files(user)) == 2
    for folder in files(user):
        (folder / "go").write_text("")
    assert one.wait(HANG) == 0, said(user, "one")
    good(user.build(*words("sharing=private", user.script("test $(cat /c/own) = one\n")), output="two"))


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: signal.Signals(number).name
)
def test_a_build_that_is_ended_leaves_no_lock(user: User, number: int) -> None:
    """Whoever waits for its cache has it when all of its processes are gone, with what was in it."""
    one = running(user, "one", "sharing=locked", "echo one > /c/own\n(trap '' TERM INT; sleep 1000) &\n" + RUNNING)
    assert until(lambda: "RUNNING" in said(user, "one"))
    two = running(user, "two", "sharing=locked", "test $(cat /c/own) = one\n")
    assert until(lambda: "waits" in said(user, "two"))
    one.send_signal(number)
    assert one.wait(HANG) != 0
    assert two.wait(HANG) == 0, said(user, "two")
    assert_nothing_left(user, patiently=True)
    assert len(files(user)) == 1
    assert (files(user)[0] / "own").read_text() == "one\n"


def test_a_link_in_a_cache_leads_nowhere_else(user: User) -> None:
    """It is followed in the scripts' own root; a cache whose directory was replaced by one is refused."""
    secret = user.home / "outside"
    secret.write_text("outside")
    good(user.build(*words("id=a", user.script(f"ln -s {secret} /c/file\nln -s /etc /c/folder\n"))))
    good(user.build(*words("id=a,uid=5", user.script(f"! cat /c/file\ngrep -q app /c/folder/passwd\ntest ! -e {user.home}\n"))))
    assert secret.read_text() == "outside"
    [folder] = files(user)
    remove(folder)
    folder.symlink_to(user.home)
    assert_said(user.build(*words("id=a", user.script("true\n")), output="other"), 73, str(folder))


def test_a_file_that_another_session_removes_gives_its_owner_to_none(user: User) -> None:
    """The number of an inode with an owner may be another file's as soon as another session has removed it from a shared cache."""
    make = "touch /c/d/$i; chown 5:6 /c/d/$i; mknod /c/d/d$i c 1 3"
    text = f"mkdir /c/d\nfor i in $(seq 40); do {make}; done\n" + RUNNING
    one = running(user, "one", "sharing=shared", text + "for i in $(seq 2000); do : > /srv/$i; done\n")
    assert until(lambda: "RUNNING" in said(user, "one"))
    [folder] = files(user)
    remove(folder / "d")
    (folder / "go").write_text("")
    assert one.wait(HANG) == 0, said(user, "one")
    found = members(user, "one")
    assert len([path for path in found if path.startswith("srv/")]) == 2000
    assert {owner(member)[:2] for member in found.values()} == {(0, 0)}
    assert not any(member.isdev() for member in found.values())


def test_a_cache_that_cannot_be_made(somebody: User) -> None:
    """The message names the place, and the variable that says another."""
    (somebody.home / "file").write_text("")
    env = {"ROOTLESS_LAYER_CACHE": str(somebody.home / "file/cache")}
    assert_said(somebody.build(*words("id=a", somebody.script("true\n")), env=env), 73, "file/cache", "ROOTLESS_LAYER_CACHE")


def test_a_full_disk_is_the_scripts_affair(user: User) -> None:
    """A script that fills the cache's disk is told, and may go on; neither a lock nor anything else is left, and gc makes room."""
    with small_disk(user, "2m") as folder:
        env = {"ROOTLESS_LAYER_CACHE": str(folder / "cache")}
        text = "! dd if=/dev/zero of=/c/file bs=64k count=100\n(sleep 1000 &)\nmkdir /srv/made\n"
        result = good(user.build(*words("id=a,sharing=locked", user.script(text)), env=env))
        assert FULL in result.err
        assert user.build(*words("id=a,sharing=locked", user.script("! echo 1 > /c/more\nfalse\n")), env=env).status == 1
        [gone] = json.loads(user.run([*COMMAND, "cache", "gc", "--keep", "0", "--json"], env=env).out)["removed"]
        assert gone["bytes"] > 1 << 20
        remove(folder / "cache")


def test_it_is_kept_from_other_users(user: User) -> None:
    """Nobody else can execute what a script has made there, as a set-ID program."""
    good(user.build(*words("mode=0777", user.script("cp /bin/busybox /c/su\nchmod 6755 /c/su\n"))))
    [folder] = files(user)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    with contextlib.suppress(FileNotFoundError):
        assert os.stat(folder / "su").st_uid == folder.parent.stat().st_uid


def test_in_a_file_of_make(user: User) -> None:
    """Layers of one file use a cache one after the other where it is locked, whatever else is in its list."""
    mount = '[{{ type = "cache", target = "/{0}", sharing = "locked" }}, "type=cache,target=/{1},sharing=locked"]'
    run = 'run = "echo {} >> /a/log; echo {} >> /b/log"\n'
    text = "".join(
        f'[layer.{name}]\nrootfs = "{busybox_root()}"\noutput = "{name}"\nmount = {mount.format(*order)}\n'
        + run.format(name, name)
        for name, order in (("x", "ab"), ("y", "ba"), ("z", "ab"))
    )
    (user.home / "file.toml").write_text(text)
    good(user.run([*COMMAND, "make", "-j", "3", user.home / "file.toml"]))
    logs: Sequence[str] = [(folder / "log").read_text() for folder in files(user)]
    assert [sorted(log.split()) for log in logs] == [["x", "y", "z"]] * 2
