"""Access control lists in a tar's headers: attributes of a root filesystem; left out of a layer, as engines read it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from helpers.layers import as_layer

from rootless_layer.layer.contents import read_contents
from rootless_layer.progress import Progress
from rootless_layer.system import acl
from rootless_layer.tar.unpack import unpack_layer, unpack_tar
from rootless_layer.tree.tree import Entry

ACCESS = "SCHILY.acl.access"
TEXT = "user::rwx,user:7:rwx,group::r-x,mask::rwx,other::r-x"
PASSWD = b"root:x:0:0::/root:/bin/sh\ngames:x:7:60::/usr/games:/bin/sh\n"


def write(path: Path, members: dict[str, tuple[bytes, dict[str, str]]]) -> Path:
    """Write a tar of files, each with its data and its pax records."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, (data, records) in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), records
            archive.addfile(info, io.BytesIO(data))
    return path


def unpacked(path: Path) -> tuple[dict[bytes, Entry], list[str]]:
    """Read a tar as a root filesystem, and all that is told of it."""
    told: list[Progress] = []
    entries = unpack_tar(str(path), f"{path}.{os.urandom(4).hex()}", 1, told.append)
    return {entry.path: entry for entry in entries}, [progress.note for progress in told if progress.note]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "user::rwx,group::r-x,other::r-x,user:nobody-here:rwx:7,mask::rwx",  # bsdtar: its order, the number behind the name
        "user::rwx\nuser:games:rwx\ngroup::r-x\nmask::rwx\nother::r-x\n",  # GNU tar
        "u::rwx,u:games:rwx\t#effective:rwx,g::r-x,m::rwx,o::r-x",
    ],
)
def test_a_list_is_kept(tmp_path: Path, text: str) -> None:
    """It is the kernel's attribute, and gives the mode as acl(5) says; a user's number stands in it, or in the archive."""
    found, told = unpacked(write(tmp_path / "x.tar", {"x": (b"", {ACCESS: text}), "etc/passwd": (PASSWD, {})}))
    items = [acl.Item(1, 7), acl.Item(2, 7, 7), acl.Item(4, 5), acl.Item(16, 7), acl.Item(32, 5)]
    assert found[b"x"].xattrs == ((acl.ACCESS, acl.write(items)),)
    assert stat.S_IMODE(found[b"x"].mode) == 0o775
    assert not told


def test_a_list_that_says_no_more_than_the_mode_is_none(tmp_path: Path) -> None:
    """Three entries are the mode."""
    found, _ = unpacked(write(tmp_path / "x.tar", {"x": (b"", {ACCESS: "user::r-x,group::r--,other::---"})}))
    assert (stat.S_IMODE(found[b"x"].mode), found[b"x"].xattrs) == (0o540, ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user::rwx,user:games:rwx,group::r-x,mask::rwx,other::r-x", "'games'"),
        ("user::rwx,user:4294967295:rwx,group::r-x,mask::rwx,other::r-x", "'4294967295'"),
        ("user::rwx,user:7:rwx,group::r-x,other::r-x", "Linux"),
        ("user::rwX,group::r-x,other::r-x", "'user::rwX'"),
        ("everyone@:rwx::allow", "cannot be read"),
        ("user::rwx,user:7:rwx,user:7:r-x,group::r-x,mask::rwx,other::r-x", "twice"),
        ("user::rwx,user:" + "1" * 5000 + ":rwx,group::r-x,mask::rwx,other::r-x", "'11"),
        (
            ",".join(["user::rwx", *(f"user:{number}:r--" for number in range(1, 9000)), "group::r-x,mask::rwx,other::r-x"]),
            "bytes",
        ),
    ],
)
def test_lists_that_cannot_be_kept_are_told(tmp_path: Path, text: str, why: str) -> None:
    """The mode is the header's; one note has the first path, how many more there are, and the reason."""
    path = write(tmp_path / "x.tar", {"x": (b"", {ACCESS: text}), "y": (b"", {ACCESS: text})})
    found, [note] = unpacked(path)
    assert (stat.S_IMODE(found[b"x"].mode), found[b"x"].xattrs) == (0o644, ())
    assert note.startswith(f"{path}: /x (and 1 more): access control")
    assert why in note


@pytest.mark.parametrize("text", [",", "=#nothing"])
def test_a_list_of_nothing_is_none(tmp_path: Path, text: str) -> None:
    """A comment alone says nothing; the mode is the header's."""
    found, _ = unpacked(write(tmp_path / "x.tar", {"x": (b"", {ACCESS: text})}))
    assert (stat.S_IMODE(found[b"x"].mode), found[b"x"].xattrs) == (0o644, ())


def test_only_a_directory_has_a_default(tmp_path: Path) -> None:
    """Linux refuses a default list of a file: it is left out, and told."""
    found, [note] = unpacked(write(tmp_path / "x.tar", {"x": (b"", {"SCHILY.acl.default": TEXT})}))
    assert found[b"x"].xattrs == ()
    assert "of this type" in note


def test_what_comes_later_counts(tmp_path: Path) -> None:
    """A member that takes the place of one with a list has none."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for records in ({ACCESS: TEXT}, {}):
            info = tarfile.TarInfo("d")
            info.type, info.pax_headers = tarfile.DIRTYPE, records
            archive.addfile(info)
    assert unpacked(path)[0][b"d"].xattrs == ()


@pytest.mark.parametrize("program", ["tar", "bsdtar --format=pax"])
def test_lists_that_real_programs_wrote(tmp_path: Path, program: str) -> None:
    """What comes back are the attributes and modes on the disk, also of a directory's default and of a file of two names."""
    top = tmp_path / "in"
    (top / "d").mkdir(parents=True)
    (top / "f").write_bytes(b"x")
    (top / "g").hardlink_to(top / "f")
    for given in (["-m", "u:5:rwx,d:g:4711:r-x,d:u::rwx,d:o::-", top / "d"], ["-m", "g:0:r", top / "f"]):
        if subprocess.run(["setfacl", *given], check=False).returncode:
            pytest.skip("the file system has no access control lists")
    (top / "etc").mkdir()
    for name in ("passwd", "group"):
        (top / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
    subprocess.run([*program.split(), "--acls", "-cf", tmp_path / "x.tar", "-C", top, "."], check=True)
    found, told = unpacked(tmp_path / "x.tar")
    for name in ("d", "f", "g"):
        kept = tuple((key.encode(), os.getxattr(top / name, key)) for key in sorted(os.listxattr(top / name)) if "acl" in key)
        assert kept
        assert found[name.encode()].xattrs == kept
        assert found[name.encode()].mode == (top / name).stat().st_mode
    assert not told


def test_a_layer_has_the_headers_mode(tmp_path: Path) -> None:
    """Engines read no such list: it changes no mode of a base's, and is told once."""
    path = write(tmp_path / "x.tar", {"x": (b"", {ACCESS: TEXT}), "y": (b"", {ACCESS: TEXT})})
    told: list[Progress] = []
    changes = unpack_layer(as_layer(path).copy_plain, "layer", str(tmp_path / "files"), {}, told.append)
    assert (stat.S_IMODE(changes.added[b"x"].mode), changes.added[b"x"].xattrs) == (0o644, ())
    assert [progress.note.startswith("layer: /x (and 1 more): ") for progress in told if progress.note] == [True]
    member = read_contents(as_layer(path)).members[-1]
    assert stat.S_IMODE(member.entry.mode) == 0o644
    assert member.warning
