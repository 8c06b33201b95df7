"""How scripts start: as whom, in which directory, by which shell, and with what of the base's config."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from helpers.aftermath import CONFINED
from helpers.image_commands import image
from helpers.layers import unpacked
from helpers.roots import busybox_root
from helpers.running import VIEWS
from helpers.trees import plant
from helpers.users import COMMAND, User, good

from rootless_layer import LayerSpec, Script
from rootless_layer.errors import InputError
from rootless_layer.oci.run_config import RunConfig
from rootless_layer.plan.plan import plan
from rootless_layer.plan.start import Account, Accounts
from rootless_layer.session.environment import Environment
from rootless_layer.session.shell import by_shell
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Entry, Tree

pytestmark = pytest.mark.slow

PASSWD = "# no user\nroot:x:0:0::/root:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n77:x:5:6::/x:\nhomeless:x:8:9:::\nbad:x:y:1::/:\n"
GROUP = "root:x:0:\napp:x:1001:\nextra:x:1002:other,app\nwheel:x:10:app\n"


# --- names ---


def accounts(folder: Path, **files: str) -> Accounts:
    """Give the accounts of a tree with these files, whose ``/etc`` is a link."""
    made = []
    for name, text in files.items():
        (folder / name).write_text(text)
        made.append(Entry(path=b"usr/etc/" + name.encode(), mode=stat.S_IFREG | 0o644, source=os.fsencode(folder / name)))
    tree = Tree.of([Entry(path=b"etc", mode=stat.S_IFLNK | 0o777, target=b"usr/etc"), *made])
    return Accounts(tree.entries.get)


def test_users_are_found_as_a_dockerfile_finds_them(tmp_path: Path) -> None:
    """A user is a name or a number of the tree's; the groups are the user's own, unless one is given; a number needs no line."""
    there = accounts(tmp_path, passwd=PASSWD, group=GROUP)
    app = Account(1000, 1001, (10, 1001, 1002), "app", "/srv")
    assert there.find("user", "app") == there.find("user", "1000") == app
    assert there.find("user", "app:wheel") == Account(1000, 10, (10,), "app", "/srv")
    assert there.find("user", "1000:5") == Account(1000, 5, (5,), "app", "/srv")
    assert there.find("user", "4") == Account(4, 0, (0,), "", "/")
    assert there.find("user", "77").uid == 5, "a name of digits is a name"
    assert there.find("user", "homeless").home == "/"
    for name in ("nobody", "bad", "4294967295", "app:none", "app:app:app", "٣"):
        with pytest.raises(InputError, match="user: there is no"):
            there.find("user", name)
    assert accounts(tmp_path).find("user", "3:4") == Account(3, 4, (4,), "", "/")


def test_owners_are_found_as_copy_finds_them(tmp_path: Path) -> None:
    """A name alone means its own group as well, a number alone the group of that number."""
    there = accounts(tmp_path, passwd=PASSWD, group=GROUP)
    assert there.owner("chown", "app") == (1000, 1001)
    assert there.owner("chown", "app:extra") == (1000, 1002)
    assert there.owner("chown", "7") == (7, 7)
    assert there.owner("chown", "7:8") == (7, 8)


# --- the base's config ---


def test_the_config_says_what_run_takes() -> None:
    """Env by variable, the directory as an absolute path, the shell; what no process can be given is passed over."""
    said = {"Env": ["A=1", "B=2", "A=3", "none", "=x", "N=\0"], "WorkingDir": "srv/x/", "Shell": ["bash", "-c"], "User": "app"}
    assert RunConfig.of({"config": said}) == RunConfig((("A", "3"), ("B", "2")), "/srv/x", ("bash", "-c"))
    for empty in ({}, {"config": None}, {"config": {"Env": None, "WorkingDir": "", "Shell": []}}):
        assert not RunConfig.of(empty)


def upon(config: RunConfig, **more: object) -> LayerSpec:
    """Give a spec upon a base of such a config."""
    return LayerSpec(base=Base({}, "", {}, run_config=config), scripts=(Script.text("x"),), **more)  # type: ignore[arg-type]


def test_variables_of_the_base_are_between_the_fixed_ones_and_the_callers() -> None:
    """The base's take the place of the fixed, and --env that of both; the directory view has this machine's programs."""
    config = RunConfig((("PATH", "/opt/bin"), ("HOME", "/h"), ("A", "base"), ("B", "base")))
    found = Environment.of(upon(config, environment={"A": "own"}), mounted=True).variables
    assert [found[name] for name in ("PATH", "HOME", "USER", "A", "B")] == ["/opt/bin", "/h", "root", "own", "base"]
    found = Environment.of(upon(config), Account(4, 0, (0,), "", "/"), mounted=True).variables
    assert (found["HOME"], "USER" in found, "LOGNAME" in found) == ("/h", False, False)
    found = Environment.of(upon(config, view="directory"), mounted=True).variables
    assert "A" not in found
    assert found["HOME"] == "/root"


def test_a_shell_takes_the_text_or_the_path() -> None:
    """The text follows -c and its like, as SHELL has it; the words come from the spec, else from the base, else they are sh -e."""
    script, config = Script.text("text"), RunConfig(shell=("/bin/bash", "-o", "pipefail", "-c"))
    assert by_shell(LayerSpec(), script, b"/path") == [b"sh", b"-e", b"/path"]
    assert by_shell(upon(config), script, b"/path") == [b"/bin/bash", b"-o", b"pipefail", b"-c", b"text"]
    assert by_shell(upon(config, view="directory"), script, b"/path") == [b"sh", b"-e", b"/path"]
    assert by_shell(upon(config, shell=("ash",)), script, b"/path") == [b"ash", b"/path"]
    assert by_shell(LayerSpec(shell=("sh", "-euc")), Script("x", b"text", ("a",)), b"/path") == [
        b"sh",
        b"-euc",
        b"text",
        b"/path",
    ]
    assert by_shell(LayerSpec(shell=("pwsh", "-Command")), script, b"/path")[-1] == b"text"
    with pytest.raises(InputError, match="NUL"):
        by_shell(upon(config), Script("x", b"a\0b"), b"/path")


# --- in sessions ---


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_of_a_users(users: list[User], view: str) -> None:
    """The ids, groups, home and directory are the user's; what the user makes is the user's, and root's files stay root's."""
    text = (
        'test "$(id -u):$(id -g):$(id -G)" = "1000:1000:1000"; test "$HOME:$USER:$LOGNAME" = /srv:app:app\n'
        "case $PWD in */srv/deep/down) ;; *) exit 3;; esac\n"
        "touch file; mkdir folder; ln -s file link\n"
        "if touch ../../none; then exit 4; fi; if chmod 777 ../..; then exit 5; fi; if chown 0 file; then exit 6; fi\n"
    )
    found = [
        user.build(
            "--rootfs",
            busybox_root(),
            "--view",
            view,
            "--user",
            "app",
            "--workdir",
            "/srv/deep/down",
            "--script",
            user.script(text),
        )
        for user in users
    ]
    assert len({result.layer["digest"] for result in found}) == 1
    owners = {path: each.owner for path, each in unpacked(users[-1], found[-1]).items() if path.startswith("srv/")}
    assert owners == {
        "srv/deep": "1000:1000:755", "srv/deep/down": "1000:1000:755", "srv/deep/down/file": "1000:1000:644",
        "srv/deep/down/folder": "1000:1000:755", "srv/deep/down/link": "1000:1000:777",
    }  # fmt: skip


def test_every_script_begins_as_the_user(user: User) -> None:
    """A script that became somebody else has changed nothing for the next, and root's scripts are root's as before."""
    ids = 'test "$(id -u):$(id -g):$(id -G)" = "7:8:8"'
    good(
        user.build(
            "--rootfs", busybox_root(), "--user", "7:8", "--script", user.script(ids, "a"), "--script", user.script(ids, "b")
        )
    )
    root = 'su app -c "id -u" | grep -x 1000; test "$(id -u):$(id -G):$HOME" = 0:0:/root'
    good(user.build("--rootfs", busybox_root(), "--script", user.script(root, "a"), "--script", user.script(root, "b")))


@pytest.mark.parametrize("view", VIEWS)
def test_without_namespaces(users: list[User], view: str) -> None:
    """A script is the user's, in its directory, where there is a chroot or nothing; proot runs those of root alone, and it is said."""
    text = 'test "$(id -u):$(id -g)" = 7:8; case $PWD in */srv/w) ;; *) exit 3;; esac; touch file'
    options = ["--rootfs", busybox_root(), "--view", view, "--user", "7:8", "--workdir", "/srv/w"]
    digests = set()
    for user in users:
        words = [*options, "--script", user.script(text)]
        digests.add(user.build(*words).layer["digest"])
        how = "root" if user.is_root else "user"
        result = user.run([sys.executable, CONFINED, how, *COMMAND, "build", "-o", user.home / "layer", "--json", *words])
        if view == "root" and not user.is_root:
            assert (result.status, "namespaces" in result.err) == (69, True), result.err
        else:
            digests.add(result.layer["digest"])
    assert len(digests) == 1


def test_a_script_that_names_its_interpreter(user: User) -> None:
    """It is the user's as well; and a program that only root may execute is refused."""
    text = '#!/bin/sh\nset -e\ntest "$(id -u)" = 7; touch "$1"\n'
    copied = ["--copy", f"{user.script(text, 'source')}:/run:chown=7:chmod=700", "--workdir", "/srv/w"]
    found = unpacked(user, user.build("--rootfs", busybox_root(), "--user", "7:8", *copied, "--", "/run", "made"))
    assert {path: found[path].owner for path in ("run", "srv/w", "srv/w/made")} == {
        "run": "7:7:700", "srv/w": "7:8:755", "srv/w/made": "7:8:644",
    }  # fmt: skip
    assert (user.home / "source").read_text() == text
    result = user.build("--rootfs", busybox_root(), "--user", "9", *copied, "--", "/run", "made")
    assert (result.status, "/run" in result.err) == (76 + 50, True), result.err


def test_a_script_changes_the_copy_alone(user: User) -> None:
    """The source is as it was: owner, mode, bytes and time of change."""
    source = user.home / "source"
    source.write_text("a")
    before = os.stat(source)
    script = user.script("chown 5:6 /x; chmod 4711 /x; echo b >> /x; rm /y")
    for stage in ("auto", "copy"):
        options = ["--rootfs", busybox_root(), "--copy", f"{source}:/x", "--copy", f"{source}:/y", "--stage", stage]
        found = unpacked(user, user.build(*options, "--script", script))
        assert (found["x"].owner, found["x"].data, "y" in found) == ("5:6:4711", b"ab\n", False)
    after = os.stat(source)
    assert (source.read_text(), after.st_mode, after.st_uid, after.st_ctime_ns) == (
        "a", before.st_mode, before.st_uid, before.st_ctime_ns,
    )  # fmt: skip


def test_a_working_directory_without_a_script(user: User) -> None:
    """It is made as WORKDIR makes it, through the tree's own links; what is there stays as it is."""
    tree = user.home / "tree"
    plant(tree, {"usr/lib/x": "x"})
    (tree / "lib").symlink_to("usr/lib")
    found = unpacked(user, user.build("--copy-to-root", tree, "--workdir", "/lib/../lib/a/b"))
    assert {path: each.owner for path, each in found.items() if "/a" in path} == {
        "usr/lib/a": "0:0:755",
        "usr/lib/a/b": "0:0:755",
    }
    assert found["lib"].info.linkname == "usr/lib"
    assert [*unpacked(user, user.build("--workdir", "app"))] == ["app"]


def test_what_cannot_be_is_said_before_any_script(somebody: User) -> None:
    """An unknown user, a directory that is a file, and words that are none: each is named, and nothing is written."""
    root = ["--rootfs", busybox_root()]
    for options, status, said in (
        (["--user", "nobody"], 65, "/etc/passwd"),
        (["--user", "app:none"], 65, "/etc/group"),
        (["--user", "a:b:c"], 2, "a:b:c"),
        (["--workdir", "/etc/passwd/x"], 65, "/etc/passwd"),
        (["--shell", "sh 'x"], 2, "sh 'x"),
    ):
        result = somebody.build(*root, *options, "--", "touch", "/ran")
        assert (result.status, said in result.err) == (status, True), result.err
        assert not (somebody.home / "layer").exists()


def test_a_script_takes_up_the_config_of_the_base(users: list[User]) -> None:
    """Variables, directory and shell are those of the image below, and --env has the last word; root stays root."""
    for user in users:
        good(user.build("--rootfs", busybox_root(), output="root"))
        config = {
            "Env": ["PATH=/opt:/bin", "A=base", "B=base"],
            "WorkingDir": "/srv/w",
            "Shell": ["/bin/sh", "-ec"],
            "User": "app",
        }
        good(image(user, "--layer", user.home / "root", "--config", json.dumps(config), output="base"))
        text = user.script('test "$PATH:$A:$B:$PWD" = /opt:/bin:own:base:/srv/w; test "$(id -u):$0" = 0:/bin/sh; touch made')
        first = user.build("--base", user.home / "base", "--env", "A=own", "--script", text, output="first")
        assert "srv/w/made" in unpacked(user, first, "first")
        second = user.script('test "$A:$PWD" = base:/srv/w; rm made')  # an image below, and a layer between
        good(user.build("--base", user.home / "base", "--base", user.home / "first", "--script", second, output="second"))
    digests = {json.loads((user.home / "second/layer.json").read_text())["digest"] for user in users}
    assert len(digests) == 1


def test_a_layer_below_says_nothing(user: User) -> None:
    """A layer's directory has no config: the directory is the top, and the variables are the fixed ones."""
    good(user.build("--rootfs", busybox_root(), "--workdir", "/srv/w", "--env", "A=x", output="base"))
    good(user.build("--base", user.home / "base", "--script", user.script('test "$PWD:${A-none}" = /:none')))


def test_a_plan_of_no_script_needs_no_directory() -> None:
    """A base's own working directory is made for scripts alone."""
    config = RunConfig(folder="/srv/w")
    assert b"srv/w" in plan(upon(config)).tree.entries
    assert plan(LayerSpec(base=Base({}, "", {}, run_config=config))).tree.entries.keys() == {b""}
    assert plan(LayerSpec(base=Base({}, "", {}, run_config=config), workdir="x")).start.folder == b"srv/w/x"
