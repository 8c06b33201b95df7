"""What a layer hides of the tree below it, and what an image needs to start."""

from __future__ import annotations

import stat

import pytest

from rootless_layer.tree.hiding import Needed, few, programs, resolve, unmeant, unusual
from rootless_layer.tree.tree import Entry


def tree(**paths: str | int) -> dict[bytes, Entry]:
    """Make entries: a text is a link's target, a number a directory's mode or, with the type bits, a file's."""
    made = {b"": Entry(path=b"", mode=stat.S_IFDIR | 0o755)}
    for name, what in paths.items():
        path = name.replace("__", "/").encode()
        if isinstance(what, str):
            made[path] = Entry(path=path, mode=stat.S_IFLNK | 0o777, target=what.encode())
        else:
            made[path] = Entry(path=path, mode=what if what >> 12 else stat.S_IFDIR | what)
    return made


FILE, PROGRAM = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755
USR = tree(bin="usr/bin", usr=0o755, usr__bin=0o755, usr__bin__dash=PROGRAM, usr__bin__sh="dash")


@pytest.mark.parametrize(
    ("path", "end", "way"),
    [
        (b"bin/sh", b"usr/bin/dash", [b"bin", b"usr", b"usr/bin", b"usr/bin/sh", b"usr/bin/dash"]),
        (b"bin/../bin/./dash", b"usr/bin/dash", [b"bin", b"usr", b"usr/bin", b"usr/bin", b"usr/bin/dash"]),
        (b"../../usr", b"usr", [b"usr"]),
        (b"usr/lib/x", None, [b"usr"]),
    ],
)
def test_links_are_followed_within_the_tree(path: bytes, end: bytes | None, way: list[bytes]) -> None:
    """``..`` above the root is the root, and each path on the way is told."""
    found, passed = resolve(path, USR.get)
    assert (found.path if found else None) == end
    if b".." not in path:
        assert [entry.path for entry in passed] == way


def test_links_in_a_circle() -> None:
    """They lead nowhere, as in the kernel."""
    assert resolve(b"a", tree(a="b", b="a").get)[0] is None


def test_what_a_config_runs() -> None:
    """A word without a slash is looked for in PATH, one with a slash from the working directory."""
    config = {"Entrypoint": ["redis"], "Cmd": ["./run"], "Env": ["PATH=/opt/bin:/bin"], "WorkingDir": "/srv"}
    assert programs(config) == {"/bin/sh": (b"bin/sh",), "redis": (b"opt/bin/redis", b"bin/redis"), "./run": (b"srv/./run",)}
    assert programs({"Cmd": ["/x"]})["/x"] == (b"x",)
    assert b"usr/bin/x" in programs({"Cmd": ["x"]})["x"]
    for odd in ({"Cmd": "x"}, {"Cmd": [1]}, {"Cmd": []}, {"Entrypoint": None, "Env": "PATH=/x"}):
        assert list(programs(odd)) == ["/bin/sh"]


def see(*layers: dict[bytes, Entry], gone: tuple[bytes, ...] = ()) -> dict[str, str]:
    """Put layers upon one another, and say what is lost; the last one removes what is ``gone`` on purpose."""
    needed, below = Needed(programs({})), dict[bytes, Entry]()
    for number, layer in enumerate(layers):
        below = {path: entry for path, entry in below.items() if path not in gone or number + 1 < len(layers)} | layer
        needed.see(layer, below.get, f"layer {number}", gone if number + 1 == len(layers) else ())
    return needed.lost


def test_a_shell_that_is_hidden() -> None:
    """A directory over the link /bin takes the shell away: the path, before and after are named."""
    assert see(USR, tree(bin=0o755)) == {
        "/bin/sh": "layer 1: /bin/sh is in the layers below, and cannot be found or run any more:"
        " /bin was a link to usr/bin, and is a directory"
    }  # fmt: skip


def test_a_shell_that_cannot_be_run() -> None:
    """Not even root runs a file without a bit for it."""
    [said] = see(USR, tree(usr__bin__dash=FILE)).values()
    assert said.endswith("/usr/bin/dash was a file, and is a file that cannot be run (0644)")


def test_a_shell_that_is_brought_back_or_taken_away_on_purpose() -> None:
    """Neither is an accident."""
    assert see(USR, tree(bin=0o755), tree(bin__sh=PROGRAM)) == {}
    assert see(USR, {}, gone=(b"usr/bin/dash",)) == {}


def test_a_link_into_the_store_is_taken_to_lead_somewhere() -> None:
    """Nix's layers may come in any order."""
    assert see(tree(bin=0o755, bin__sh="/nix/store/x-bash/bin/sh")) == {}


def test_loaders_are_needed_once_they_are_seen() -> None:
    """A dynamic program cannot start without its loader, wherever a link leads to it from."""
    below = tree(lib="usr/lib", usr=0o755, usr__lib=0o755)
    below[b"usr/lib/ld-linux.so.2"] = Entry(path=b"usr/lib/ld-linux.so.2", mode=PROGRAM)
    assert list(see(below, tree(lib=0o755))) == ["/lib/ld-linux.so.2"]


def test_accidents_with_directories_and_links() -> None:
    """A mode, a link in whose place something else stands, a directory in whose place a file stands."""
    below = tree(tmp=0o1777, bin="usr/bin", usr=0o755, usr__bin=0o755, etc=0o755, dead="nowhere")
    layer = tree(tmp=0o755, bin=0o755, etc=FILE, dead=0o755)
    said = list(unmeant(layer.values(), below.get, (below | layer).get))
    assert said == [
        "/tmp is 1777 0:0 in the layers below, and 0755 0:0 from here on",
        "/bin is a link to usr/bin in the layers below, and a directory from here on: what names found through the link is hidden",
        "/etc is a directory in the layers below, and a file from here on: what was in it is gone",
    ]
    assert list(unmeant(layer.values(), below.get, (below | layer).get, gone=(b"tmp", b"bin", b"etc"))) == []
    assert list(unmeant(below.values(), below.get, below.get)) == []


def test_few_notes() -> None:
    """Twenty are shown, and how many more there are."""
    notes = [f"x: {number}" for number in range(25)]
    assert few(notes) == [*notes[:20], "x: 5 more of the kind"]
    assert few(notes[:20]) == notes[:20]


def test_usual_directories() -> None:
    """/ is 0755, /tmp and /var/tmp are 1777, all three root's."""
    assert list(unusual(tree(tmp=0o1777).get, "root")) == []
    [said] = unusual(tree(tmp=0o755).get, "root/")
    assert said.startswith("/tmp is 0755 0:0 in root/, and 1777 0:0 everywhere else")
    assert "chmod 1777 root/tmp" in said
    assert "in the tar" in next(iter(unusual(tree(tmp=0o755).get, "root.tar", is_tar=True)))
