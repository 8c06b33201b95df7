"""What a build mounts for its scripts: seen as it is asked for, in either view, and no part of the layer."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.aftermath import FULL, assert_said, members
from helpers.layers import unpacked
from helpers.roots import busybox_root
from helpers.running import VIEWS
from helpers.users import COMMAND, User, good

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

SCRIPT = """\
cd ${TOP:-/}
test "$(cat $M/bound/sub/file)" = bound
test "$(cat $M/one)" = bound
test "$(stat -c %u:%g:%a $M/bound/sub/file $M/mem $M/kept)" = "0:0:640
3:4:1770
5:0:750"
touch $M/mem/file $M/kept/file
chown 8:9 $M/mem/file $M/kept/file
test "$(stat -c %u:%g $M/mem/file $M/kept/file)" = "8:9
8:9"
! touch $M/bound/other
! touch $M/one
mkdir srv/made
chown 5:6 srv/made
"""


@pytest.fixture(scope="module")
def source(shared: Path) -> Path:
    """A directory to bind."""
    folder = shared / "bound"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("bound\n")
    (folder / "sub/file").chmod(0o640 if os.geteuid() else 0o644)
    (folder / "sub/link").symlink_to("/etc/passwd")
    return folder


def rootfs(view: str) -> list[str | Path]:
    """Options for a root with a shell, of which a script sees programs in either view."""
    return ["--rootfs", busybox_root(), "--view", view]


def mounts(*options: str) -> list[str]:
    """Give an option for each mount."""
    return [word for option in options for word in ("--mount", option)]


@pytest.mark.parametrize("view", VIEWS)
def test_mounts_are_seen_and_not_in_the_layer(users: Sequence[User], source: Path, view: str) -> None:
    """Binds, memory and a cache are there, with their owners; the layer is that of the same script without, whoever builds."""
    at = "/mnt/new" if view == "root" else "/tmp/mnt"
    asked = mounts(
        f"type=bind,source={source},target={at}/bound", f"src={source}/sub/file,dst={at}/one,ro",
        f"type=tmpfs,target={at}/mem,uid=3,gid=4,mode=1770,size=1m", f"type=cache,target={at}/kept,id=k,uid=5,mode=0750",
    )  # fmt: skip
    mode = (source / "sub/file").stat().st_mode & 0o777
    text = f"TOP={'/' if view == 'root' else '$PWD'}\nM={at}\n" + SCRIPT.replace(":640", f":{mode:o}")
    digests = set()
    for user in users:
        words = [*rootfs(view), "--script", user.script("mkdir srv/made\nchown 5:6 srv/made\n", "plain")]
        digests.add(good(user.build(*words)).layer["digest"])
        words[-1] = user.script(text, "mounted")
        result = good(user.build(*words, *asked))
        digests.add(result.layer["digest"])
        assert not any(path.startswith("mnt") for path in unpacked(user, result))
    assert len(digests) == 1


def test_a_mount_stands_upon_what_is_there(user: User, source: Path) -> None:
    """A directory, a file and a link of the tree or of its base are covered, and are in the layer as they were."""
    base = user.home / "base"
    text = "mkdir -p var/data run\nln -s ../run var/run\necho own > var/data/file\nchown 7:7 var/data\necho own > srv/one\n"
    good(user.build("--rootfs", busybox_root(), "--script", user.script(text), output="base"))
    asked = mounts(
        f"type=bind,source={source},target=/var/data", f"source={source}/sub/file,target=/srv/one", "type=tmpfs,target=/var/run/deep/x",
        f"source={source},target=/var/new/x",
    )  # fmt: skip
    seen = "test $(cat /var/data/sub/file /srv/one | grep -c bound) = 2\ntouch /run/deep/x/file\ntest -d /var/new/x/sub\necho 1 > /srv/two\n"
    for words in (["--base", base], ["--base", base, "--stage", "copy"]):
        good(user.build(*words, *asked, "--script", user.script(seen)))
        found = members(user)
        assert [path for path, member in found.items() if not member.isdir()] == ["srv/two"], words
        assert not {"var", "var/data", "var/new", "run/deep"} & set(found), words


def test_every_script_has_the_mounts(user: User, source: Path) -> None:
    """Scripts of one layer share a tmpfs, with its owners; one that takes the place of a mount away fails the build."""
    first = user.script("touch /opt/mem/file\nchown 5:6 /opt/mem/file\nmkdir /opt/own\n", "first")
    second = user.script("test $(stat -c %u:%g /opt/mem/file) = 5:6\ntest -f /opt/src/sub/file\nmv /opt /moved\n", "second")
    asked = mounts("type=tmpfs,target=/opt/mem", f"source={source},target=/opt/src")
    good(user.build(*rootfs("root"), *asked, "--script", first, "--script", second))
    assert {path for path in members(user) if path.startswith(("opt", "moved"))} == {"moved", "moved/own"}
    result = user.build(*rootfs("root"), *asked, "--script", first, "--script", second, "--script", first, output="other")
    assert_said(result, 69, "/opt/mem")


@pytest.mark.parametrize("view", VIEWS)
def test_scripts_share_memory(user: User, view: str) -> None:
    """What a script has in /dev/shm is there in the next one, which has the owners of that, and of its own files."""
    first = user.script("touch /dev/shm/file\nchown 5:6 /dev/shm/file\n", "first")
    look = "touch /dev/shm/own\ntest $(stat -c %u:%g /dev/shm/file) = 5:6\ntest $(stat -c %u:%g /dev/shm/own) = 0:0\n"
    good(user.build(*rootfs(view), "--script", first, "--script", user.script(look)))


@pytest.mark.parametrize("view", VIEWS)
def test_a_mount_in_a_mount(user: User, source: Path, view: str) -> None:
    """One mount may stand in another one, in whatever order they are given."""
    for top in ("/opt/mem",) if view == "root" else ("/tmp/root/opt/mem", "/tmp/mem"):
        asked = mounts(f"source={source},target={top}/deep/src", f"type=tmpfs,target={top}", f"type=tmpfs,target={top}/deep")
        good(user.build(*rootfs(view), *asked, "--", "sh", "-ec", f"test -f {top}/deep/src/sub/file; touch {top}/deep/x"))
        assert not any(path.startswith(("opt", "tmp/")) for path in members(user))


def test_a_full_tmpfs_is_the_scripts_affair(user: User) -> None:
    """What does not fit is told to the script, which may go on; its size is the mount's."""
    text = "! dd if=/dev/zero of=/mem/file bs=64k count=20\ntest $(stat -c %s /mem/file) -le 1048576\n"
    result = good(user.build(*rootfs("root"), *mounts("type=tmpfs,target=/mem,size=1m"), "--script", user.script(text)))
    assert FULL in result.err


def test_a_bind_that_a_script_wishes_to_change(user: User, source: Path) -> None:
    """A script that gives a bound file another owner fails the build, and the file is as it was."""
    before = os.stat(source / "sub/file")
    result = user.build(*rootfs("root"), *mounts(f"source={source},target=/src"), "--", "chown", "5:6", "/src/sub/file")
    assert_said(result, 77, "/src/sub/file")
    assert os.stat(source / "sub/file") == before


def test_what_a_bind_does_not_show(user: User) -> None:
    """An output and the cache in the bound directory are not seen, nor sockets; a pipe is refused."""
    folder = user.home / "project"
    (folder / "sub").mkdir(parents=True)
    os.chown(folder, *(os.stat(user.home).st_uid, os.stat(user.home).st_gid))
    (folder / "sub/file").write_text("1")
    (folder / "sub/link").symlink_to("file")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "sub/socket"))
    asked = [*rootfs("root"), *mounts(f"source={folder},target=/src"), "--", "sh", "-c", "cp -a /src /srv/copy"]
    expected = ["srv/copy", "srv/copy/sub", "srv/copy/sub/file", "srv/copy/sub/link"]
    digests = set()
    for _ in range(2):
        result = good(user.build(*asked, output="project/layer", env={"ROOTLESS_LAYER_CACHE": str(folder / "cache")}))
        (folder / "cache/layers").mkdir(parents=True, exist_ok=True)
        digests.add(result.layer["digest"])
        assert [path for path in members(user, "project/layer") if path.startswith("srv/copy")] == expected
    assert len(digests) == 1
    os.mkfifo(folder / "sub/pipe")
    assert_said(user.build(*asked), 65, str(folder / "sub/pipe"))


@pytest.mark.parametrize(
    ("option", "status", "said"),
    [
        ("source=/no/such,target=/src", 66, "/no/such"),
        ("source={home}/script,target=/etc", 66, "/etc"),
        ("source={home},target=/bin/sh", 66, "bin/busybox"),
        ("type=bind,rw,source={home},target=/src", 2, "read-only"),
        ("from=other,source={home},target=/src", 2, "from"),
        ("type=ssh,target=/src", 2, "ssh"),
        ("type=tmpfs", 2, "target"),
        ("type=tmpfs,target=/", 2, "/"),
        ("type=tmpfs,target=/srv/../proc/x", 2, "/proc/x"),
        ("type=tmpfs,target=srv", 2, "absolute"),
        ("type=tmpfs,target=/x,mode=9", 2, "octal"),
        ("type=tmpfs,target=/x,size=0x5", 2, "size"),
        ("type=bind,source={home},target=/x,uid=5", 2, "uid"),
        ("type=cache,target=/x,sharing=all", 2, "all"),
        ("type=cache,target=/x,target=/y", 2, "twice"),
        ("type=cache,target=/x,shared", 2, "shared"),
        ("type=secret,env=A", 2, "id"),
    ],
)
def test_what_cannot_be_mounted(somebody: User, option: str, status: int, said: str) -> None:
    """The message names what is wrong, and nothing is built."""
    script = somebody.script("true\n")
    result = somebody.build(*rootfs("root"), *mounts(option.format(home=somebody.home)), "--script", script)
    assert_said(result, status, said)
    assert not (somebody.home / "layer").exists()


def test_two_mounts_at_one_place(somebody: User) -> None:
    """Of two mounts at a place, one would be lost: that is an error; so is a cache in two ways."""
    for one, two in (
        ("type=tmpfs,target=/x", "type=tmpfs,target=/y/../x"),
        ("type=cache,id=a,target=/x", "type=cache,id=a,target=/y,sharing=locked"),
    ):
        assert_said(somebody.build(*rootfs("root"), *mounts(one, two), "--", "true"), 2, "mount")


def test_the_directory_view_mounts_where_something_is(user: User, source: Path) -> None:
    """There a mount goes below /tmp, into the tree, or where this machine has a directory or a file of the kind; else it is refused."""
    asked = mounts(
        f"source={source},target=/tmp/root/var/src",
        f"source={source},target=/opt",
        f"source={source}/sub/file,target=/etc/passwd",
    )
    text = "test -f var/src/sub/file\ntest -f /opt/sub/file\ntest $(cat /etc/passwd) = bound\nmkdir var/made\n"
    good(user.build("--view", "directory", *asked, "--script", user.script(text)))
    assert {path for path in members(user) if path.startswith("var/")} == {"var/made"}
    for target in ("/no/such/place", "/etc"):
        words = mounts(f"source={source}/sub/file,target={target}")
        assert_said(user.build("--view", "directory", *words, "--", "true"), 69, target)


def test_mounts_in_a_file_of_make(user: User) -> None:
    """A mount is a line or a table there; what is bound is in the key."""
    (user.home / "src").mkdir()
    (user.home / "src/file").write_text("one")
    file = user.home / "file.toml"
    file.write_text(
        f'[layer.a]\nrootfs = "{busybox_root()}"\nrun = "cp /src/file /srv/file; touch /mem/x"\noutput = "out"\n'
        'mount = ["src=src,target=/src", { type = "tmpfs", target = "/mem", mode = 0o700, size = "1m" }]\n'
    )
    for text in ("one", "other"):
        (user.home / "src/file").write_text(text)
        good(user.run([*COMMAND, "make", file]))
        found = members(user, "out")
        assert found["srv/file"].size == len(text)
        assert not {"src", "mem"} & set(found)
    file.write_text(file.read_text().replace("src=src", "src=absent"))
    assert_said(user.run([*COMMAND, "make", file]), 66, "absent", "layer.a")
