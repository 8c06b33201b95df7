"""A base shown by an overlay gives the layer that a copy of it gives, whatever the scripts do."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, members
from helpers.effort import EVERY, todays
from helpers.place import remove
from helpers.running import say
from helpers.stores import Store, fingerprint, shared_store
from helpers.users import COMMAND, User, make_user

from rootless_layer.errors import OverlayError
from rootless_layer.session.inside.overlay import Overlay

pytestmark = pytest.mark.slow

BASE = """mkdir -p /etc/sub /data/deep/deeper /gone/deep /opaque/sub /own /share
echo root:x:0:0::/root:/bin/sh > /etc/passwd
echo secret > /etc/shadow; chown 0:42 /etc/shadow; chmod 640 /etc/shadow
echo one > /data/one; ln /data/one /data/two; ln /data/one /data/deep/three; chown 33:33 /data/one
echo x > /gone/deep/file; ln /gone/deep/file /gone/same
echo y > /opaque/below; echo z > /opaque/sub/below; chown 7 /opaque/sub
cp /etc/passwd /data/tool; chmod 4755 /data/tool
cp /etc/passwd /data/closed; chmod 0 /data/closed; chown 5:5 /data/closed
mknod /data/null c 1 3; chown 8:8 /data/null; mkfifo /data/fifo; chown 9 /data/fifo
ln -s passwd /etc/link; chown -h 3:4 /etc/link; ln -s ../data /etc/data
chown 11:11 /own; chmod 2750 /own; echo in > /own/in; chown 12 /own/in
setfattr -n user.x -v base /etc/passwd; setcap cap_net_raw+ep /own/in
for n in 1 2 3 4 5; do echo $n > /share/$n; done; chmod 555 /share; chmod 444 /share/*
chmod 711 /
"""

SCRIPTS = {
    "nothing": "true",
    "looks": "find / -xdev > /dev/null; cat /data/one /own/in; ls -lR /etc >/dev/null",
    "sees": """test "$(stat -c %u:%g:%a /etc/shadow /data/tool /data/closed /own | tr '\\n' ' ')" = "0:42:640 0:0:4755 5:5:0 11:11:2750 "
test "$(stat -c %u:%h /data/two)" = 33:3; test "$(stat -c %F:%t:%T:%u /data/null)" = "character special file:1:3:8"
test "$(stat -c %u:%g /etc/link)" = 3:4; test "$(stat -c %u /data/fifo)" = 9; test "$(stat -c %a /)" = 711
getcap /own/in | grep -q net_raw; test "$(getfattr --only-values -n user.x /etc/passwd)" = base""",
    "appends": "echo more >> /etc/passwd; echo more >> /etc/shadow; echo more >> /own/in",
    "rewrites": "cat /etc/passwd > /etc/passwd.new; mv /etc/passwd.new /etc/passwd; cat /etc/shadow > /tmp.x; cat /tmp.x > /etc/shadow; rm /tmp.x",
    "touches": "touch /etc/passwd /own /share/1; touch -h /etc/link",
    "owners": "chown 1:2 /etc/passwd; chown 0:0 /etc/shadow; chown -R 77:78 /own /gone; chown -h 6 /etc/link; chown 1 /data/null /data/fifo",
    "modes": "chmod 600 /etc/passwd; chmod 755 /data/closed; chmod 4711 /own/in; chmod 700 /share; chmod u+s /share/2; chmod g-s /own",
    "root": "chown 5:6 /; chmod 750 /",
    "linked_owner": "chown 50 /data/two",
    "linked_mode": "chmod 4755 /data/two",
    "linked_data": "echo two > /data/one",
    "linked_replaced": "cp /data/one /data/new; mv /data/new /data/one",
    "linked_removed": "rm /data/one; chown 9 /data/two",
    "linked_moved": "mv /data/one /else; rm -r /data/deep",
    "linked_gone": "mv /gone/same /same; rm -r /gone",
    "links": "ln /own/in /own/other; ln /etc/passwd /etc/passwd-; echo more >> /etc/passwd",
    "links_owned": "ln /etc/again /etc/other; chown 4 /etc/other",
    "links_unowned": "ln /share/1 /share/other; echo more >> /share/1; ln /share/2 /share/old; echo new > /share/new; mv /share/new /share/2",
    "links_symbolic": "ln /etc/link /etc/link2",
    "links_stay": "ln /own/in /kept; rm /own/in",
    "removes": "rm -r /gone; rm /etc/link /data/null /data/fifo /data/tool; rmdir /etc/sub",
    "remakes": "rm -r /opaque /own; mkdir -p /opaque/sub /own; echo new > /opaque/sub/new; chmod 700 /own",
    "remakes_same": "rm /etc/sub -r; mkdir /etc/sub; rm /data/null; mknod /data/null c 1 3; chown 8:8 /data/null",
    "replaces": "rm -r /opaque; echo file > /opaque; rm /etc/passwd; mkdir /etc/passwd; ln -s x /etc/passwd/x; rm /etc/link; mkdir /etc/link",
    "renames": "mv /etc/passwd /etc/p; mv /etc/p /etc/passwd; mv /etc/shadow /shadow; mv /own/in /in; mv /data/null /dev/other",
    "renames_directories": "mv /own /elsewhere; mv /opaque/sub /opaque/bus; mv /gone /g; mv /g /gone",
    "adds": "mkdir -p /share/new/deep; echo a > /share/new/deep/a; chown 3 /share/new/deep/a; echo b > /data/deep/b",
    "attributes": "setcap cap_chown+ep /etc/passwd; setcap -r /own/in; setfattr -x user.x /etc/passwd; setfattr -n user.y -v y /share",
    "attributes_copied": "echo >> /own/in; setfattr -n user.z -v z /own/in; cp -a /own /copy",
    "devices": "chown 5 /dev/null; rm -f /data/null; mknod /data/null b 7 7; mkdir -p /dev/shm",
    "renames_by_call": """perl -e 'rename("/own", "/nwo") && mkdir("/a") && rename("/a", "/b") or die $!'""",
    "renames_new": "mkdir /a /a/b; mv /a/b /a/c; mv /a /z; rm -r /opaque; mkdir -p /opaque/sub; mv /opaque/sub /opaque/bus; mv /opaque /paque",
    "deep": "p=/data/deep; for n in 1 2 3 4 5 6 7 8; do p=$p/d; mkdir $p; done; chown -R 9:9 /data/deep",
}


@pytest.fixture(scope="module")
def perl() -> Store:
    """A closure with perl."""
    return shared_store("bash", "coreutils", "perl-base")


@pytest.fixture(scope="module")
def tools(big_store: Store) -> Store:
    """A closure with the tools that set attributes."""
    return big_store


def shown(store: Store) -> list[str]:
    """Give the options by which scripts see a closure's programs, which are then in no layer: there is less to copy."""
    return ["--tools", str(store.graph), "--store-root", str(store.root)]


def bases(user: User, tools: Store) -> list[str | Path]:
    """Build a base of four layers: a program, what a script made, what another made of that, and nothing."""
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    programs = user.build("--copy-to-root", tools.on_disk("libcap2-bin"), output="0", env=env)
    assert programs.status == 0, programs.err
    words: list[str | Path] = ["--base", user.home / "0"]
    later = "echo again > /etc/again; chown 21 /etc/again; rm /share/5; rm -r /etc/data; chown 13 /own/in; setcap cap_net_raw+ep /own/in\n"
    for number, text in (("1", BASE), ("2", later), ("3", "true\n")):
        made = user.build(*words, *shown(tools), "--script", user.script(text, f"script-{number}"), output=number, env=env)
        assert made.status == 0, made.err
        words += ["--base", user.home / number]
    return words


def test_an_overlay_gives_what_a_copy_gives(users: list[User], tools: Store) -> None:
    """Each script upon a base gives one layer by an overlay and by a copy, to root and to somebody; no snapshot changes."""
    scripts = dict(todays([*SCRIPTS.items()], 12))
    digests: dict[str, set[str]] = {name: set() for name in scripts}
    copied = set()
    for user in users:
        env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        words = bases(user, tools)
        assert user.build(*words, *shown(tools), "--", "true", env=env).status == 0  # the last layer's snapshot is made
        snapshots = [fingerprint(tree) for tree in sorted(user.home.glob("cache/snapshots/*/tree"))]
        for name, text in scripts.items():
            script = user.script(text + "\n", f"script-{name}")
            for stage in ("auto", "copy") if EVERY or user is users[0] else ("auto",):
                made = user.build(*words, *shown(tools), "--script", script, "--stage", stage, output="upper", env=env)
                assert made.status == 0, (name, made.err)
                digests[name].add(made.layer["digest"])
                if "so it is copied" in made.err:
                    copied.add(name)
        assert_nothing_left(user)
        assert [fingerprint(tree) for tree in sorted(user.home.glob("cache/snapshots/*/tree"))] == snapshots
    assert {name for name, found in digests.items() if len(found) > 1} == set()
    # A second name for a file of the base, or another for a directory, is what an overlay cannot give. (It may be
    # that the machine is short of memory, and others are copied as well.)
    refused = {"links", "links_owned", "links_stay", "links_symbolic", "renames_directories", "renames_by_call"}
    assert copied >= refused & set(scripts)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have the kernel forget")
def test_an_overlay_that_forgets_is_noticed(shared: Path, tools: Store) -> None:
    """Where the kernel drops what it knows of a file that was copied up, a copy of the base is staged, and no owner is lost."""
    user = make_user(shared, "somebody")
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    words = bases(user, tools)
    # The script goes on until it sees another number, and does not wait for one in the copy, where it runs again. It has the number
    # before it writes: the kernel may forget the file as soon as it is copied up.
    text = """number=$(stat -c %i /own/in); echo more >> /own/in
while test "$(stat -f -c %T /own)" = overlayfs && test "$(stat -c %i /own/in)" = "$number"; do sleep 0.02; done
echo FORGOTTEN
"""
    script = user.script(text, "forgotten")
    command = [*COMMAND, "build", "--timeout", "180", "-o", user.home / "layer", *words, *shown(tools), "--script", script]
    with open(user.home / "said", "wb") as said:
        process = user.start(command, env=env, stdout=subprocess.DEVNULL, stderr=said)
    while process.poll() is None:
        if "FORGOTTEN" not in say(user):  # no longer than it takes: the kernel forgets what other tests use as well
            Path("/proc/sys/vm/drop_caches").write_text("2\n")
        time.sleep(0.02)
    assert process.returncode == 0, say(user)
    assert "lost track of this file of the base" in say(user)
    assert {path: (one.uid, one.mode) for path, one in members(user).items() if one.isreg()} == {"own/in": (13, 0o644)}
    remove(user.home)


def test_a_number_that_changes_between_two_looks_is_noticed(tmp_path: Path) -> None:
    """Where the kernel forgets a file after its number was noted, and before the record was read, the overlay is refused."""
    for name in ("file", "other"):
        (tmp_path / name).touch()
    overlay = object.__new__(Overlay)
    overlay.tree = overlay.upper = os.fsencode(tmp_path)
    overlay.at_start, overlay.perhaps_copied, overlay.several_names, overlay.forgotten = {}, {}, {}, []
    number, another = (os.lstat(tmp_path / name).st_ino for name in ("file", "other"))
    overlay.paths = {number: b"file", another: b"file"}
    overlay.check_lost([number], [])
    with pytest.raises(OverlayError, match="/file: overlayfs lost track"):
        overlay.check_lost([number, another], [])


def test_snapshots_that_cannot_be_shown_are_copied(user: User, store: Store) -> None:
    """Where overlayfs refuses, of which more layers than it takes are an example, a copy is staged, and it is said why."""
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    tree = user.home / "content"
    tree.mkdir()
    (tree / "file").write_text("x\n")
    assert user.build("--copy-to-root", tree, output="tiny", env=env).status == 0
    words = [
        word for number in range(501) for word in ("--base", shutil.copytree(user.home / "tiny", user.home / f"tiny-{number}"))
    ]
    made = user.build(*words, *shown(store), "--", "chown", "5", "/file", env=env)
    assert made.status == 0, made.err
    assert "the base cannot be shown by an overlay, so it is copied" in made.err
    assert [(path, one.uid) for path, one in members(user).items() if not path.startswith("nix")] == [("file", 5)]


def tarred(path: Path, *members: tuple[str, dict[str, object]]) -> Path:
    """Write a tar of members as they are given: a name and what its header says; ``data`` is a file's text."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, said in members:
            header = tarfile.TarInfo(name)
            data = str(said.get("data", "")).encode()
            header.size = len(data)
            for key, value in said.items():
                if key != "data":
                    setattr(header, key, value)
            archive.addfile(header, io.BytesIO(data))
    return path


def layout_of(user: User, layout: Path, archives: list[Path]) -> Path:
    """Make an image of tars as they are, by umoci."""
    steps = [["umoci", "init", "--layout", layout], ["umoci", "new", "--image", f"{layout}:test"]]
    steps += [["umoci", "raw", "add-layer", "--image", f"{layout}:test", archive] for archive in archives]
    for words in steps:
        result = user.run(words)
        assert result.status == 0, result.err
    return layout


DIR = {"type": tarfile.DIRTYPE, "mode": 0o755}
ODD_LAYERS: dict[str, tuple[list[list[tuple[str, dict[str, object]]]], str]] = {
    "one name left": (
        [[("d", DIR), ("d/a", {"data": "a", "uid": 33, "mode": 0o4755}), ("d/b", {"type": tarfile.LNKTYPE, "linkname": "d/a"})],
         [("d/.wh.b", {})]],
        "echo more >> /d/a",
    ),
    "repeated paths": ([[("d", DIR), ("d/f", {"data": "1"}), ("d/f", {"data": "2", "uid": 7}), ("z", {"data": "z"}), ("z", DIR)]], "touch /d/f /z/new"),
    "nothing": ([[("f", {"data": "f", "uid": 5})], [], [(".wh.absent", {})]], "echo more >> /f"),
    "aufs": ([[("f", {"data": "f"}), (".wh..wh.plnk", DIR), (".wh..wh.plnk/x", {"data": "x"}), (".wh..wh.aufs", {})]], "test ! -e /.wh..wh.plnk; touch /f"),
    "nameless whiteouts": ([[("f", {"data": "f", "uid": 5})], [(".wh.", {}), (".wh..", {}), (".wh...", {})]], "test -e /f; touch /f"),
    "a socket": ([[("a", {"data": "a", "uid": 2}), ("d", DIR), ("d/b", {"data": "b"})]], """perl -e 'for ("/a", "/d") {
        system "rm", "-r", $_; socket(S, 1, 1, 0); bind(S, pack("Sa108", 1, $_)) or die $! }'"""),
    "an exchange": ([[("d", DIR), ("d/b", {"data": "b", "uid": 3})]], """mkdir /n; perl -e '
        syscall(316, -100, my $new = "/n", -100, my $old = "/d", 2) == 0 or die $!'"""),
    "a root": ([[("./", {**DIR, "mode": 0o711, "uid": 5})]], "chmod 755 /; chown 0:0 /; touch /n"),
    "paths through links": (
        [[("usr", DIR), ("usr/bin", DIR), ("bin", {"type": tarfile.SYMTYPE, "linkname": "usr/bin"}), ("usr/bin/x", {"data": "x"}), ("usr/bin/z", {})],
         [("bin/y", {"data": "y", "uid": 6}), ("bin/.wh.x", {})], [("/bin/y", {"data": "yy", "uid": 8})]],
        "test ! -e /usr/bin/x; test -h /bin; echo more >> /usr/bin/y",
    ),
    "links below": (
        [[("a", {"data": "a", "uid": 4})], [("b", {"type": tarfile.LNKTYPE, "linkname": "a"})], [(".wh.a", {}), ("d", DIR)]],
        "echo more >> /b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_LAYERS)
def test_odd_layers_of_others(user: User, store: Store, perl: Store, name: str) -> None:
    """Layers that others make, or might, are shown by an overlay as a copy of them is, and no owner of theirs is lost."""
    archives, text = ODD_LAYERS[name]
    if name == "an exchange" and os.uname().machine != "x86_64":
        pytest.skip("it makes a system call by its number")
    tars = [tarred(user.home / f"{number}.tar", *members) for number, members in enumerate(archives)]
    image = layout_of(user, user.home / "image", tars)
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    tools = perl if "perl" in text else store
    words = ["--base", image, *shown(tools), "--script", user.script(text + "\n")]
    made = [user.build(*words, "--stage", stage, env=env).layer["digest"] for stage in ("copy", "auto")]
    assert made[0] == made[1]
    found = members(user)
    if name == "a root":
        assert [(one.mode, one.uid) for path, one in found.items() if path in {"", "."}] == [(0o755, 0)]
    owners = {path: one.uid for path, one in found.items() if one.isreg() and not path.startswith("nix") and ".wh." not in path}
    expected = {
        "one name left": {"d/a": 33},
        "repeated paths": {"d/f": 7, "z/new": 0},
        "nothing": {"f": 5},
        "links below": {"b": 4},
    }
    assert owners == expected.get(name, owners)
