"""What would differ between two builds of one script by itself, does not."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from helpers.effort import EVERY
from helpers.layers import unpacked
from helpers.packages import INSTALL, Packages
from helpers.place import make_folder
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow

PYTHON = "/usr/bin/python3"
IMPORT = f"cd srv && {PYTHON} -c 'import mod'\n"
IS_VALID = f"""cd srv
{PYTHON} -v -c 'import mod' 2>../seen
grep -q 'matches.*mod.py' ../seen
rm ../seen
"""


def module(folder: Path) -> Path:
    """Make a tree with a module of today."""
    (folder / "srv").mkdir(parents=True)
    (folder / "srv/mod.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("stage", ["bind", "copy"])
def test_a_compiled_module_is_valid_in_the_image(user: User, stage: str) -> None:
    """Whatever the second of its build is; who builds upon the image, finds it valid, and leaves it as it is."""
    tree = module(user.home / "tree")
    words = ("--view", "directory", "--stage", stage)
    one = user.build("--copy-to-root", tree, *words, "--script", user.script(IMPORT), output="one").layer
    os.utime(tree / "srv/mod.py", (time.time() - 1000, time.time() - 1000))
    other = user.build("--copy-to-root", tree, *words, "--script", user.script(IMPORT), output="other").layer
    assert one["digest"] == other["digest"]
    good(user.run([*COMMAND, "image", "--layer", user.home / "one", "-t", "mod:1", "-o", user.home / "mod.tar"]))
    upon = user.build("--base", user.home / "mod.tar", *words, "--script", user.script(IS_VALID + "touch done\n"), output="upon")
    assert [path for path, member in unpacked(user, upon, "upon").items() if member.info.isreg()] == ["srv/done"]


def test_a_module_is_compiled_again_where_a_script_wrote_its_source(user: User) -> None:
    """The module that is valid for an earlier source is not made valid for a later one."""
    tree = module(user.home / "tree")
    text = IMPORT + f"sleep 1.1; echo 'x = 2' >mod.py; cp -r . ../there; test $({PYTHON} -B -c 'import mod; print(mod.x)') = 2\n"
    good(user.build("--copy-to-root", tree, "--view", "directory", "--script", user.script(text)))
    good(user.run([*COMMAND, "image", "--layer", user.home / "layer", "-t", "mod:1", "-o", user.home / "mod.tar"]))
    script = user.script(f"cd srv; test $({PYTHON} -B -c 'import mod; print(mod.x)') = 2\n")
    user.build("--base", user.home / "mod.tar", "--view", "directory", "--script", script, output="upon")


def test_a_root_filesystems_modules_are_valid(user: User) -> None:
    """As a directory and as a tar, without a script: the bytes are the same, and the source is not touched."""
    tree = module(user.home / "tree")
    subprocess.run([PYTHON, "-m", "compileall", "-q", tree / "srv"], check=True)  # the tree is whoever's who runs the tests
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(tree.rglob("*.py*")) if path.is_file()}
    good(user.run(["tar", "-C", tree, "--owner=0", "--group=0", "-cf", user.home / "tree.tar", "."]))
    layers = [user.build("--rootfs", source, output="layer").layer["digest"] for source in (tree, user.home / "tree.tar")]
    assert len(set(layers)) == 1
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(tree.rglob("*.py*")) if path.is_file()
    }
    user.build("--rootfs", user.home / "tree.tar", "--view", "directory", "--script", user.script(IS_VALID), output="upon")


def test_zip_archives_can_be_made(user: User) -> None:
    """No file of a tree, of a base or of a root filesystem is older than a zip archive can say; their times in layers stay."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "data").write_text("data\n")
    os.utime(tree / "data", (5, 5))
    text = f"""{PYTHON} -c 'import zipfile; zipfile.ZipFile("a.zip", "w").write("data")'\n"""
    epoch = ("--source-date-epoch", "1700000000")
    base = user.build("--copy-to-root", tree, *epoch, output="base")
    good(user.run([*COMMAND, "image", "--layer", user.home / "base", "-t", "b:1", "-o", user.home / "b.tar"]))
    for words in (("--copy-to-root", tree), ("--rootfs", tree), ("--base", user.home / "b.tar")):
        script = user.script(text + "rm a.zip; chmod 600 data\n")
        data = unpacked(user, user.build(*words, *epoch, "--view", "directory", "--script", script))["data"].info
        assert data.mode == 0o600
        assert words[0] == "--base" or data.mtime == 5
    assert unpacked(user, base, "base")["data"].info.mtime == 5


def test_ldconfigs_notes_of_inodes_are_left_out(user: User) -> None:
    """The file is in no layer, with a base that has one and without."""
    tree = user.home / "tree"
    (tree / "var/cache/ldconfig").mkdir(parents=True)
    script = user.script("echo x > var/cache/ldconfig/aux-cache; echo y > kept\n")
    found = unpacked(user, user.build("--copy-to-root", tree, "--view", "directory", "--script", script))
    assert [path for path, member in found.items() if member.info.isreg()] == ["kept"]


def test_a_tidy_layer_is_the_same_again(user: User) -> None:
    """What carries a clock is not in it, ``diff`` says so, and keys are named."""
    script = user.script(
        "mkdir -p var/log/apt etc/ssh; date +%N > var/log/dpkg.log; date +%N > var/log/apt/term.log; echo k > etc/ssh/ssh_host_rsa_key\n"
    )
    plain = [user.build("--view", "directory", "--script", script, output=f"plain-{n}").layer["digest"] for n in range(2)]
    assert plain[0] != plain[1]
    told = user.run([*COMMAND, "diff", user.home / "plain-0", user.home / "plain-1"])
    assert told.status == 1
    assert "--tidy" in told.err
    tidy = [user.build("--view", "directory", "--tidy", "--script", script, output=f"tidy-{n}") for n in range(2)]
    assert tidy[0].layer["digest"] == tidy[1].layer["digest"]
    assert "/etc/ssh/ssh_host_rsa_key" in tidy[0].err
    assert unpacked(user, tidy[0], "tidy-0").keys() >= {"var/log/apt", "etc/ssh/ssh_host_rsa_key"}


@pytest.mark.skipif(not EVERY, reason="it takes minutes, and gets packages from a mirror")
@pytest.mark.skipif(os.geteuid() != 0, reason="the packages are kept in root's place")
def test_packages_are_the_same_again(somebody: User, shared: Path) -> None:
    """Two tidy installations differ in the keys that are drawn by chance, and those are named."""
    packages, offered = Packages(), make_folder(shared, "offered-") / "tree"
    packages.offer(["openssh-server", "nginx-light", "python3"], offered)
    words = (
        "--rootfs",
        packages.root,
        "--copy-to-root",
        offered,
        "--tidy",
        "--script",
        somebody.script(INSTALL + "rm /etc/ssh/ssh_host_*\n"),
    )
    layers = [somebody.build(*words, output=f"layer-{n}").layer["digest"] for n in range(2)]
    assert layers[0] == layers[1]
