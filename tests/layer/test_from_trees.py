"""Trees are merged into the root, and where two of them differ an error names both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.inputs import LIBRARY, PROGRAM, write
from helpers.layers import assert_no_layer, refused, unpacked
from helpers.stores import Store, fingerprint
from helpers.users import User

pytestmark = pytest.mark.slow


def test_trees_are_merged(user: User) -> None:
    """Directories of several contents become one, and a file that two of them have alike stands once."""
    one = write(user.home / "one", {"etc/one": "1", "etc/same": "same", "etc/link": "-> same", "empty": None})
    two = write(user.home / "two", {"etc/two": "2", "etc/same": "same", "etc/link": "-> same", "var/two": "2"})
    found = unpacked(user, user.build("--copy-to-root", one, "--copy-to-root", two))
    assert set(found) == {"etc", "etc/one", "etc/two", "etc/same", "etc/link", "empty", "var", "var/two"}
    assert found["etc/same"].data == b"same"
    assert found["etc/link"].info.linkname == "same"


def test_a_conflict_names_both_sides(user: User) -> None:
    """All paths that two contents give differently stand in one error, each with both contents."""
    one = write(user.home / "one", {"data": "1", "type": "1", "link": "-> a", "mode": "1", "same": "1"})
    two = write(user.home / "two", {"data": "2", "type/file": "1", "link": "-> b", "mode": "1", "same": "1"})
    (two / "mode").chmod(0o755)
    result = user.build("--copy-to-root", one, "--copy-to-root", two)
    refused(result)
    for name in ("data", "type", "link", "mode"):
        [line] = [line for line in result.err.splitlines() if f"/{name}:" in line]
        assert str(one) in line
        assert str(two) in line
    assert "/same:" not in result.err
    assert_no_layer(user)


@pytest.mark.parametrize(("conflict", "kept"), [("first", "1"), ("last", "2")])
def test_one_of_two_contents_may_count(user: User, small: Store, conflict: str, kept: str) -> None:
    """With --conflict the first tree's file counts or the last's; not against a directory, a store path or a root filesystem."""
    one = write(user.home / "one", {"etc/name": "1", "bin/program": "1", "only": "1"})
    two = write(user.home / "two", {"etc/name": "2", "bin/program": "-> name", "more": "2"})
    trees = ["--copy-to-root", one, "--copy-to-root", two, "--conflict", conflict]
    found = unpacked(user, user.build(*trees))
    assert found["etc/name"].data.decode() == kept
    assert found["bin/program"].info.issym() == (kept == "2")
    assert {"only", "more"} <= set(found)
    folder = write(user.home / "folder", {"etc/name/file": "3"})
    refused(user.build(*trees, "--copy-to-root", folder), "/etc/name", folder)
    refused(user.build(*trees, "--rootfs", write(user.home / "root", {"etc/name": "0"})), "/etc/name", one)
    changed = write(user.home / "changed", {f"{PROGRAM[1:]}/bin/program": "other"})
    refused(user.build(*small.options, "--copy-to-root", changed, "--conflict", conflict), PROGRAM, changed)


def test_a_content_must_agree_with_the_root_filesystem(user: User) -> None:
    """A content does not silently replace a file of the root filesystem."""
    root = write(user.home / "root", {"etc/passwd": "root", "etc/same": "same"})
    tree = write(user.home / "tree", {"etc/passwd": "other", "etc/same": "same", "etc/more": "more"})
    refused(user.build("--rootfs", root, "--copy-to-root", tree), "/etc/passwd", root, tree)
    (tree / "etc/passwd").unlink()
    assert "etc/more" in unpacked(user, user.build("--rootfs", root, "--copy-to-root", tree))


def test_keep_dirlinks_is_as_rsync_has_it(user: User) -> None:
    """With --keep-dirlinks a directory's files go where an earlier tree links to a directory, as with rsync -K."""
    one = write(
        user.home / "one", {"usr/bin/one": "1", "bin": "-> usr/bin", "sbin": "-> bin", "lib": "-> /usr/lib", "usr/lib": None}
    )
    two = write(user.home / "two", {"bin/two": "2", "bin/deep/two": "2", "sbin/more": "2"})
    trees = ["--copy-to-root", one, "--copy-to-root", two]
    found = unpacked(user, user.build(*trees, "--keep-dirlinks"))
    merged = user.home / "merged"
    for tree in (one, two):
        subprocess.run(["rsync", "-aK", f"{tree}/", merged], check=True)
    expected = {
        os.path.relpath(os.path.join(here, name), merged) for here, dirs, files in os.walk(merged) for name in dirs + files
    }
    assert set(found) == expected
    assert found["usr/bin/two"].data == b"2"
    assert found["usr/bin/more"].data == b"2"
    assert found["bin"].info.issym()


def test_without_keep_dirlinks_a_directory_and_a_link_conflict(user: User) -> None:
    """A directory where another tree has a link is a conflict, in either order; with the option only where the link is later."""
    one = write(user.home / "one", {"usr/bin/one": "1", "bin": "-> usr/bin"})
    two = write(user.home / "two", {"bin/two": "2"})
    refused(user.build("--copy-to-root", one, "--copy-to-root", two), "/bin", one, two)
    refused(user.build("--copy-to-root", two, "--copy-to-root", one), "/bin", one, two)
    refused(user.build("--copy-to-root", two, "--copy-to-root", one, "--keep-dirlinks"), "/bin", one, two)
    assert_no_layer(user)


@pytest.mark.parametrize("target", ["absent", "usr/file", "dead"])
def test_keep_dirlinks_needs_a_directory_behind_the_link(user: User, target: str) -> None:
    """A link to a file, to nothing or to itself does not become a directory."""
    one = write(user.home / "one", {"usr/file": "1", "dead": "-> dead", "bin": f"-> {target}"})
    two = write(user.home / "two", {"bin/two": "2"})
    refused(user.build("--copy-to-root", one, "--copy-to-root", two, "--keep-dirlinks"), "/bin", two)


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_a_root_file_stands_for_a_store_file(user: User, small: Store, link: str) -> None:
    """--link makes a root file a hard link of the store file, a symbolic link to it, or a copy; an empty file is always a file."""
    before = fingerprint(small.root)
    found = unpacked(user, user.build(*small.options, "--copy-to-root", PROGRAM, "--link", link))
    program, stored = found["bin/program"], f"{PROGRAM[1:]}/bin/program"
    if link == "hard":
        assert program.info.islnk()
        assert program.info.linkname == stored
    elif link == "symbolic":
        assert program.info.issym()
        assert program.info.linkname == f"/{stored}"
    else:
        assert program.data == b"program"
        assert program.owner == "0:0:555"
    assert found[stored].data == b"program"
    assert found["bin/alias"].info.linkname == "program"
    assert found["share/empty"].info.isreg()
    assert found["share/empty"].info.size == 0
    assert found["var/empty"].info.isdir()
    assert fingerprint(small.root) == before


def test_a_content_may_be_part_of_a_store_path(user: User, small: Store) -> None:
    """A directory below a store path is merged as the root, each file a link to where it stands in the store."""
    found = unpacked(user, user.build(*small.options, "--copy-to-root", f"{PROGRAM}/share"))
    assert found["doc/program"].info.linkname == f"{PROGRAM[1:]}/share/doc/program"
    assert "bin" not in found


def test_a_content_may_be_named_as_it_lies_on_disk(user: User, small: Store) -> None:
    """A store path's place under --store-root names the same content as its own name."""
    named = user.build(*small.options, "--copy-to-root", PROGRAM).layer
    placed = user.build(*small.options, "--copy-to-root", small.on_disk("program")).layer
    assert named["digest"] == placed["digest"]


def test_a_content_may_be_a_link(user: User, small: Store) -> None:
    """Links to a content are followed, such as Nix's ``result``: over several, into the store wherever that lies."""
    expected = user.build(*small.options, "--copy-to-root", PROGRAM).layer["digest"]
    (user.home / "result").symlink_to(PROGRAM)
    (user.home / "again").symlink_to("result")
    (user.home / "placed").symlink_to(small.on_disk("program"))
    for name in ("result", "again", "placed"):
        assert user.build(*small.options, "--copy-to-root", user.home / name).layer["digest"] == expected
    tree = write(user.home / "tree", {"file": "text"})
    (user.home / "outside").symlink_to(tree)
    assert unpacked(user, user.build("--copy-to-root", user.home / "outside"))["file"].data == b"text"


def test_a_content_behind_a_linked_directory_is_found(user: User, small: Store) -> None:
    """A link anywhere in a content's path is followed, not only its last part."""
    (user.home / "current").symlink_to(PROGRAM)
    direct = user.build(*small.options, "--copy-to-root", f"{PROGRAM}/share").layer
    linked = user.build(*small.options, "--copy-to-root", user.home / "current/share").layer
    assert direct["digest"] == linked["digest"]


def test_a_content_must_be_a_directory_that_is_there(user: User, small: Store) -> None:
    """A file, a path that is not there and a link to nowhere are errors that name it."""
    (user.home / "loop").symlink_to("loop")
    refused(user.build("--copy-to-root", small.graph), small.graph)
    refused(user.build(*small.options, "--copy-to-root", f"{PROGRAM}/bin/program"), f"{PROGRAM}/bin/program")
    refused(user.build(*small.options, "--copy-to-root", f"{PROGRAM}/absent"), f"{PROGRAM}/absent", status=66)
    absent = user.build("--copy-to-root", user.home / "absent")
    refused(absent, user.home / "absent", status=66)
    assert "--store-root" not in absent.err  # it lies in no store
    refused(user.build("--copy-to-root", user.home / "loop"), user.home / "loop", status=66)
    assert_no_layer(user)


def test_a_store_path_outside_of_the_closure_is_a_tree_like_any_other(user: User, small: Store) -> None:
    """What a root file stands for must be in the layer: else it is the file itself."""
    options = ["--store-path", LIBRARY, "--store-root", small.root, "--copy-to-root"]
    for name in (PROGRAM, small.on_disk("program")):
        found = unpacked(user, user.build(*options, name))
        assert found["bin/program"].data == b"program"
        assert f"{PROGRAM[1:]}" not in found


def test_two_store_paths_may_hold_the_same_file(user: User, small: Store) -> None:
    """Contents that give a path with the same data do not conflict because they stand for two store files."""
    for path in (LIBRARY, PROGRAM):
        write(small.root / path[1:], {"share/licence": "licence"})
    result = user.build(*small.options, "--copy-to-root", LIBRARY, "--copy-to-root", PROGRAM)
    assert unpacked(user, result)["share/licence"].info.linkname == f"{LIBRARY[1:]}/share/licence"


def test_what_a_user_may_not_read_is_named(user: User) -> None:
    """A file or a directory that cannot be read ends the build, with its name."""
    if user.is_root:
        pytest.skip("root may read everything")
    tree = write(user.home / "tree", {"file": "text", "folder/file": "text"})
    for name in ("file", "folder"):
        os.chown(tree / name, 0, 0) if os.geteuid() == 0 else None
        (tree / name).chmod(0o000)
        refused(user.build("--copy-to-root", tree), tree / name, status=66)
        (tree / name).chmod(0o755)
    assert_no_layer(user)


@pytest.mark.parametrize("kind", ["content", "rootfs", "tar", "store", "script"])
def test_a_whiteouts_name_cannot_be_in_a_layer(user: User, store: Store, kind: str) -> None:
    """A file called .wh.x would delete x from the layers below: an error names it, wherever it comes from."""
    tree = write(user.home / "tree", {"etc/.wh.x": "text", "etc/ok.wh.x": "text"})
    words: list[str | Path] = ["--copy-to-root", tree]
    if kind == "rootfs":
        words = ["--rootfs", tree]
    elif kind == "tar":
        subprocess.run(["tar", "-C", tree, "-cf", user.home / "tar", "."], check=True)
        words = ["--rootfs", user.home / "tar"]
    elif kind == "store":
        write(user.home / "store" / LIBRARY[1:], {"etc/.wh.x": "text"})
        words = ["--store-path", LIBRARY, "--store-root", user.home / "store"]
    elif kind == "script":
        words = [*store.options, "--script", user.script("mkdir /etc\n: > /etc/.wh.x\n")]
    result = user.build(*words)
    refused(result, "etc/.wh.x")
    assert "ok.wh.x" not in result.err
    assert_no_layer(user)


def test_follow_dirlinks_is_as_rsync_has_it_without_copies(user: User, small: Store) -> None:
    """With --follow-dirlinks a link to a directory becomes one, as with rsync -k; its files stand for the store's."""
    here = {
        "usr/bin/one": "1",
        "bin": "-> usr/bin",
        "deep": "-> chain",
        "chain": "-> usr",
        "gone": "-> absent",
        "file": "-> usr/bin/one",
    }
    tree = write(user.home / "tree", {**here, "program": f"-> {PROGRAM}/bin", "share": f"-> {LIBRARY}/share"})
    other = write(user.home / "other", {"share/more": "2"})
    options = [*small.options, "--copy-to-root", tree, "--copy-to-root", other, "--follow-dirlinks"]
    found = {name: member for name, member in unpacked(user, user.build(*options)).items() if not name.startswith("nix")}
    merged = user.home / "merged"
    for one in (tree, other):  # rsync does not know where the store lies
        subprocess.run(["rsync", "-ak", f"{one}/", merged], check=True, capture_output=True)
    paths = [os.path.join(here, name) for here, dirs, files in os.walk(merged) for name in dirs + files]
    expected = {os.path.relpath(path, merged) for path in paths if path != f"{merged}/program"}
    assert set(found) == expected | {"program", "program/program", "program/alias", "program/library", "share/text"}
    assert found["program/program"].info.linkname == f"{PROGRAM[1:]}/bin/program"
    assert found["share/text"].info.islnk()
    assert found["program/library"].info.issym()
    assert found["deep/bin/one"].data == b"1"
    circle = write(user.home / "circle", {"in": "-> ../circle"})
    refused(user.build("--copy-to-root", circle, "--follow-dirlinks", output="other-layer"), "leads back", status=66)
