"""A staged tree read after its session: what the scripts left there, by the disk and by the record."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import attrs
import pytest
from helpers.staged import EPOCH, FILE, FOLDER, SPEC, Session, inode, session, stage, stamps_of
from helpers.trees import plant

from rootless_layer import LayerSpec, Script, closure_of_paths
from rootless_layer.errors import RecordError, SourceError
from rootless_layer.plan.plan import Plan, plan
from rootless_layer.session.inside.messages import Wish
from rootless_layer.session.inside.script import TREE_SHOWN_AT
from rootless_layer.session.ownership import OwnershipRecord, Row
from rootless_layer.session.scan import check_sources, scan
from rootless_layer.tree.tree import Entry, Tree, stamp

STORED = f"nix/store/{'a' * 32}-a"
SCAFFOLD = ".rootless-layer"
TREE: dict[str, str | None] = {"etc": None, "etc/name": "name", "etc/link": "-> name", "var": None}


def test_what_no_script_changed_is_as_planned(tmp_path: Path) -> None:
    """Each entry is the planned one itself, with the source that it had."""
    made = session(tmp_path, TREE)
    found = made.scan()
    assert found.keys() == TREE.keys()
    assert all(entry is made.staged.plan.tree.entries[name.encode()] for name, entry in found.items())


def test_what_scripts_make_is_roots(tmp_path: Path) -> None:
    """Without a row a file has the mode on disk and is root's; later times are the epoch, earlier ones stay."""
    made = session(tmp_path, TREE)
    plant(made.top, {"new/file": "text", "new/link": "-> file"})
    (made.top / "new/file").chmod(0o640)
    os.utime(made.top / "new/file", (7, 7))
    os.mkfifo(made.top / "new/fifo")
    (made.top / "new/fifo").chmod(0o600)
    (made.top / "new").chmod(0o1777)
    found = made.scan()
    assert {name: (oct(entry.mode), entry.mtime) for name, entry in found.items() if name not in TREE} == {
        "new": ("0o41777", EPOCH), "new/file": ("0o100640", 7), "new/link": ("0o120777", EPOCH), "new/fifo": ("0o10600", EPOCH),
    }  # fmt: skip
    assert {(entry.uid, entry.gid) for entry in found.values()} == {(0, 0)}
    assert (found["new/file"].size, found["new/file"].source) == (4, os.fsencode(made.top / "new/file"))
    assert found["new/link"].target == b"file"


def test_what_is_changed_has_its_own_bytes(tmp_path: Path) -> None:
    """A file that was written is read from the staged tree; one that is gone, or is another kind, is not the planned one."""
    made = session(tmp_path, TREE)
    (made.top / "etc/name").write_text("eman")
    (made.top / "etc/link").unlink()
    (made.top / "var").rmdir()
    (made.top / "var").write_text("")
    (made.top / "var").chmod(0o644)
    found = made.scan()
    assert found.keys() == TREE.keys() - {"etc/link"}
    assert found["etc/name"].source == os.fsencode(made.top / "etc/name")
    assert found["var"].mode == FILE
    assert found["etc"] is made.staged.plan.tree.entries[b"etc"]


def test_the_same_bytes_again_are_as_planned(tmp_path: Path) -> None:
    """A file that was replaced by another with the same bytes keeps its source, as long as there is one."""
    made = session(tmp_path, {"file": "text"})
    (made.top / "new").write_text("text")
    (made.top / "new").chmod(0o644)
    (made.top / "new").rename(made.top / "file")
    assert made.scan()["file"] is made.staged.plan.tree.entries[b"file"]
    (tmp_path / "source/file").unlink()
    assert made.scan()["file"].source == os.fsencode(made.top / "file")


def test_a_mode_alone_is_a_change(tmp_path: Path) -> None:
    """On disk, and in the record, which alone may have the set-ID bits."""
    made = session(tmp_path, {"one": "1", "two": "2", "three": "3"})
    (made.top / "one").chmod(0o600)
    made.give("two", stat.S_IFREG | 0o4755)
    (made.top / "two").chmod(0o755)
    made.give("three", stat.S_IFREG | 0o4644)
    assert {name: oct(entry.mode) for name, entry in made.scan().items()} == {
        "one": "0o100600", "two": "0o104755", "three": "0o104644",
    }  # fmt: skip


def test_a_file_that_nobody_may_read_is_read(tmp_path: Path) -> None:
    """Its mode in the layer is what the script gave it; on disk it becomes readable."""
    made = session(tmp_path, {})
    (made.top / "secret").write_text("text")
    (made.top / "secret").chmod(0)
    assert made.scan()["secret"].mode == stat.S_IFREG
    assert os.stat(made.top / "secret").st_mode & stat.S_IRUSR


def test_a_socket_is_noted(tmp_path: Path) -> None:
    """It is no part of a layer, and the note names it."""
    made = session(tmp_path, TREE)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(made.top / "var/socket"))
    tree, notes = scan(made.staged, made.record, made.spec)
    assert b"var/socket" not in tree.entries
    assert notes == ["/var/socket: a socket is not part of a layer; left out"]


def test_owners_come_from_the_record(tmp_path: Path) -> None:
    """A row's owner and mode are the file's, also where nothing else of it changed; the planned source stays."""
    made = session(tmp_path, TREE)
    made.give("etc/name", FILE, 5, 6)
    made.give("etc/link", stat.S_IFLNK | 0o777, 7, 8)
    made.give("var", stat.S_IFDIR | 0o2755, 0, 9)
    found = made.scan()
    assert {name: (entry.uid, entry.gid) for name, entry in found.items()} == {
        "etc": (0, 0), "etc/name": (5, 6), "etc/link": (7, 8), "var": (0, 9),
    }  # fmt: skip
    assert found["var"].mode == stat.S_IFDIR | 0o2755
    assert found["etc/name"].source == os.fsencode(made.top / "etc/name")


def test_devices_are_files_on_disk(tmp_path: Path) -> None:
    """A regular file stands for each device of mknod; the record says what it is."""
    made = session(tmp_path, {})
    plant(made.top, {"null": "", "disk": ""})
    os.mkfifo(made.top / "fifo")
    made.give("null", stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3))
    made.give("disk", stat.S_IFBLK | 0o660, 0, 6, rdev=os.makedev(8, 1))
    made.give("fifo", stat.S_IFIFO | 0o600, rdev=99)
    found = made.scan()
    assert {name: (entry.mode, entry.rdev, entry.gid) for name, entry in found.items()} == {
        "null": (stat.S_IFCHR | 0o666, os.makedev(1, 3), 0), "disk": (stat.S_IFBLK | 0o660, os.makedev(8, 1), 6),
        "fifo": (stat.S_IFIFO | 0o600, 0, 0),
    }  # fmt: skip
    assert {entry.source for entry in found.values()} == {None}


def test_attributes_come_from_the_record(tmp_path: Path) -> None:
    """An extended attribute makes a file another than planned; links may have some."""
    made = session(tmp_path, TREE)
    given = ((b"user.a", b"b"),)
    made.record = attrs.evolve(made.record, xattrs={made.inode("etc/name"): given, made.inode("etc/link"): given})
    found = made.scan()
    assert {name for name, entry in found.items() if entry.xattrs == given} == {"etc/name", "etc/link"}


def test_a_record_that_cannot_be_this_trees(tmp_path: Path) -> None:
    """A row of another kind of file is an error that names the path."""
    made = session(tmp_path, TREE)
    made.give("etc/name", FOLDER, 5)
    with pytest.raises(RecordError, match=r"^/etc/name: recorded as another type"):
        made.scan()


def test_names_of_one_file_are_linked(tmp_path: Path) -> None:
    """The first name in order has the data, the others are links to it."""
    made = session(tmp_path, {"file": "text"})
    for name in ("a", "z"):
        os.link(made.top / "file", made.top / name)
    assert {name: entry.link for name, entry in made.scan().items()} == {"a": None, "file": b"a", "z": b"a"}


@pytest.mark.parametrize("gone", ["removed", "replaced"])
def test_a_planned_link_outlives_its_target(tmp_path: Path, gone: str) -> None:
    """Where the first name of a file was removed, or is another file, the second has the data itself."""
    for top in ("source", "tree"):
        plant(tmp_path / top, {"one": "text"})
    os.link(tmp_path / "tree/one", tmp_path / "tree/two")
    source = os.fsencode(tmp_path / "source/one")
    first = Entry(path=b"one", mode=FILE, mtime=EPOCH, size=4, source=source, stamp=stamp(os.lstat(source)))
    made = stage(tmp_path, Plan(Tree.of([first, attrs.evolve(first, path=b"two", link=b"one")])))
    assert {name: entry.link for name, entry in made.scan().items()} == {"one": None, "two": b"one"}
    (made.top / "one").unlink()
    if gone == "replaced":
        plant(made.top, {"one": "other"})
    found = made.scan()
    assert (found["two"].link, found["two"].source) == (None, source)
    assert ("one" in found) == (gone == "replaced")


def with_store(tmp_path: Path, *, mounted: bool) -> Session:
    """Stage a store path: a place to mount it upon, or a copy of it."""
    source = tmp_path / "store" / STORED
    plant(source, {"bin/tool": "tool", "link": "-> bin"})
    closure = closure_of_paths([f"/{STORED}"], tmp_path / "store")
    planned = plan(LayerSpec(closure=closure, source_date_epoch=EPOCH, scripts=(Script.text(":"),)))
    if not mounted:
        shutil.copytree(source, tmp_path / "tree" / STORED, symlinks=True)
        return stage(tmp_path, planned)
    plant(tmp_path / "tree" / STORED, {})
    return stage(tmp_path, planned, points={STORED.encode(): inode(tmp_path / "tree" / STORED)})


@pytest.mark.parametrize("mounted", [True, False])
def test_store_paths_are_as_planned(tmp_path: Path, *, mounted: bool) -> None:
    """What is in a store path comes from the plan, whether scripts saw a mount or a copy."""
    made = with_store(tmp_path, mounted=mounted)
    found = made.scan()
    assert found.keys() == {"nix", "nix/store", STORED, f"{STORED}/bin", f"{STORED}/bin/tool", f"{STORED}/link"}
    assert found[f"{STORED}/bin/tool"].source == os.fsencode(tmp_path / "store" / STORED / "bin/tool")


def test_a_mounted_store_path_stays_in_its_place(tmp_path: Path) -> None:
    """A place that was replaced is named, and so is one that is gone."""
    made = with_store(tmp_path, mounted=True)
    (made.top / STORED).rename(made.top / "moved")
    assert made.problems() == [f"/{STORED}: a script moved or removed the store path"]
    plant(made.top / STORED, {})
    assert f"/{STORED}: a script replaced the store path" in made.problems()


def test_a_store_path_that_is_a_link_stands_in_the_tree(tmp_path: Path) -> None:
    """Nothing is mounted upon a link, so that a row for it is a wish to change the store path; root's row is none."""
    plant(tmp_path / "tree", {STORED: "-> file"})
    made = stage(tmp_path, Plan(Tree.of([])), points={STORED.encode(): inode(tmp_path / "tree" / STORED)})
    made.give(STORED, stat.S_IFLNK | 0o777)
    assert STORED not in made.scan()
    made.give(STORED, stat.S_IFLNK | 0o777, 5)
    assert made.problems() == [f"/{STORED}: a script wished to change the store path's file (to lrwxrwxrwx 5:0)"]


def test_a_copy_of_a_store_path_is_compared(tmp_path: Path) -> None:
    """Bytes, an owner, a file more or less in it are changes, each of which is named."""
    made = with_store(tmp_path, mounted=False)
    made.give(f"{STORED}/bin", FOLDER, 5)
    (made.top / STORED / "bin/tool").write_text("loot")
    (made.top / STORED / "more").touch()
    assert made.problems() == [
        f"/{STORED}/bin: a script changed or removed the store path's file",
        f"/{STORED}/bin/tool: a script changed or removed the store path's file",
        f"/{STORED}/more: a script added a file to the store path",
    ]
    shutil.rmtree(made.top / STORED / "bin")
    assert len(made.problems()) == 3


def test_a_writable_store_path_is_a_tree_like_any(tmp_path: Path) -> None:
    """With closure_writable what scripts change in it is in the layer."""
    made = with_store(tmp_path, mounted=False)
    made.spec = attrs.evolve(SPEC, closure_writable=True)
    (made.top / STORED / "bin/tool").write_text("changed")
    (made.top / STORED / "more").touch()
    found = made.scan()
    assert found[f"{STORED}/bin/tool"].size == 7
    assert f"{STORED}/more" in found


def wished(made: Session, path: str | Path, mode: int = FILE) -> list[str]:
    """Give what is said where a script wished a file that it saw to be user 5's."""
    made.record = OwnershipRecord({}, wishes=(Wish(os.fsencode(path), mode, 5, 6),))
    return made.problems()


def test_a_wish_names_the_store_path(tmp_path: Path) -> None:
    """A file of a store path is named as scripts see it, with what it was to be, in each view."""
    made = with_store(tmp_path, mounted=True)
    told = f"/{STORED}/bin/tool: a script wished to change the store path's file (to -rw-r--r-- 5:6)"
    assert wished(made, f"/{STORED}/bin/tool") == [told]
    assert wished(made, f"{TREE_SHOWN_AT}/{STORED}/bin/tool") == [told]


def test_a_wish_on_what_is_only_seen(tmp_path: Path) -> None:
    """A file of a tool or of this machine is named by its path there."""
    tools = closure_of_paths([f"/{STORED}"], plant(tmp_path / "store", {f"{STORED}/bin/tool": "tool"}))
    made = session(tmp_path, {})
    made.spec = attrs.evolve(SPEC, tools=tools)
    assert wished(made, f"/{STORED}/bin/tool", stat.S_IFREG | 0o4755) == [
        f"/{STORED}/bin/tool: a script wished to change the store path's file (to -rwsr-xr-x 5:6)"
    ]
    assert wished(made, "/etc/passwd") == ["/etc/passwd: a script wished to change this machine's file (to -rw-r--r-- 5:6)"]


def test_a_scaffold_leaves_no_trace(tmp_path: Path) -> None:
    """Directories, links and files that were added for the view are left out, but for what scripts made their own."""
    plant(tmp_path / "tree", {f"{SCAFFOLD}/file": "x", "proc": None, "dev/null": "", "dev/stdin": "-> /proc/self/fd/0"})
    scaffold = {SCAFFOLD: None, "proc": None, "dev": None, "dev/null": b"/dev/null", "dev/stdin": None}
    made = stage(tmp_path, Plan(Tree.of([])), scaffold={os.fsencode(name): source for name, source in scaffold.items()})
    assert made.scan() == {}
    plant(made.top, {f"{SCAFFOLD}/more": "x", "dev/own": "mine"})
    (made.top / "dev").chmod(0o700)
    found = made.scan()
    assert found.keys() == {"dev", "dev/own"}
    assert found["dev"].mode == stat.S_IFDIR | 0o700
    (made.top / "dev/own").unlink()
    made.give("proc", FOLDER, 5)
    assert made.scan().keys() == {"proc"}


@pytest.mark.parametrize("how", ["a row", "another link"])
def test_a_link_of_the_scaffold_may_become_the_layers(tmp_path: Path, how: str) -> None:
    """A script that gives it an owner, or puts another in its place, has it in the layer."""
    plant(tmp_path / "tree", {"dev/stdin": "-> /proc/self/fd/0"})
    made = stage(tmp_path, Plan(Tree.of([])), scaffold={b"dev": None, b"dev/stdin": None})
    assert made.scan() == {}
    if how == "a row":
        made.give("dev/stdin", stat.S_IFLNK | 0o777, 5)
    else:
        (made.top / "dev/stdin").unlink()
        (made.top / "dev/stdin").symlink_to("mine")
    assert made.scan().keys() == {"dev", "dev/stdin"}


def test_a_file_of_the_view_is_never_in_a_layer(tmp_path: Path) -> None:
    """A row for the file that is shown in the directory of the view changes nothing."""
    plant(tmp_path, {f"tree/{SCAFFOLD}/library": "", "library": "text"})
    scaffold = {SCAFFOLD.encode(): None, f"{SCAFFOLD}/library".encode(): os.fsencode(tmp_path / "library")}
    made = stage(tmp_path, Plan(Tree.of([])), scaffold=scaffold)
    made.record = OwnershipRecord({inode(tmp_path / "library"): Row(FILE, 5, 0, 0)})
    assert made.scan() == {}


def test_a_device_of_this_machine_is_what_scripts_made_of_it(tmp_path: Path) -> None:
    """A row for a device that was mounted is in the layer as a device of the layer's own."""
    plant(tmp_path / "tree", {"dev/null": ""})
    made = stage(tmp_path, Plan(Tree.of([])), scaffold={b"dev": None, b"dev/null": b"/dev/null"})
    row = Row(stat.S_IFCHR | 0o600, 5, 6, os.makedev(1, 3))
    null, given = inode(Path("/dev/null")), ((b"user.a", b"b"),)
    made.record = OwnershipRecord({null: row}, {null: given})
    assert made.scan()["dev/null"] == Entry(
        path=b"dev/null", mode=row.mode, uid=5, gid=6, mtime=EPOCH, rdev=row.rdev, xattrs=given
    )


def test_sources_are_compared(tmp_path: Path) -> None:
    """Where nothing protects a source, one that changed or is gone is named, ten at the most."""
    plant(tmp_path / "source", {f"{number:02}": "text" for number in range(15)})
    checked = {
        os.fsencode(tmp_path / "source") + b"/" + path: each for path, each in stamps_of(tmp_path / "source").items() if path
    }
    made = session(tmp_path / "other", {}, checked=checked)
    check_sources(made.staged)
    (tmp_path / "source/00").write_text("changed")
    (tmp_path / "source/01").unlink()
    with pytest.raises(SourceError) as caught:
        check_sources(made.staged)
    assert list(caught.value.problems) == [f"{tmp_path}/source/{name}: changed while the scripts ran" for name in ("00", "01")]
    for path in (tmp_path / "source").iterdir():
        path.unlink()
    with pytest.raises(SourceError) as caught:
        check_sources(made.staged)
    assert len(caught.value.problems) == 10
