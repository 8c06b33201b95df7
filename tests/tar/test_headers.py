"""Numbers in headers: what a tar says of a member is what every reader takes, or an error that names it."""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.layers import as_layer

from rootless_layer.check.blob import read_blob
from rootless_layer.errors import InputError
from rootless_layer.layer.blob import Piece
from rootless_layer.layer.contents import read_contents
from rootless_layer.layer.soundness import Soundness
from rootless_layer.oci.findings import Finder
from rootless_layer.plan.rootfs import read_directory
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.progress import Progress
from rootless_layer.tar.listing import read_listing
from rootless_layer.tar.unpack import unpack_layer, unpack_tar
from rootless_layer.tree.mtree import read
from rootless_layer.tree.tree import Entry

UID, GID, SIZE, MTIME, TYPE = slice(108, 116), slice(116, 124), slice(124, 136), slice(136, 148), slice(156, 157)
MAGIC, MAJOR, PREFIX = slice(257, 265), slice(329, 337), 345
GNU, STAR = b"ustar  \0", b"ustar\x0000"
OLD_SPARSE, REAL_SIZE, OLD_SPARSE_MAP = slice(386, 410), slice(483, 495), slice(386, 482)
DATA = b"just 14 bytes\n"


def member(*changes: tuple[slice, bytes], data: bytes = DATA, pax: dict[str, str] | None = None) -> bytes:
    """Make a tar of a directory and a file ``x``, whose header has other bytes in some fields, and a right checksum."""
    first = tarfile.TarInfo("d")  # of the first header libarchive itself looks whether its numbers are some
    first.type = tarfile.DIRTYPE
    info = tarfile.TarInfo("x")
    info.size = len(data)
    made = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for field, content in changes:
        made[field] = content.ljust(field.stop - field.start, b"\0")
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    before = first.tobuf(tarfile.USTAR_FORMAT)
    if pax:
        with_pax = tarfile.TarInfo("x")
        with_pax.pax_headers = pax
        before += with_pax.tobuf(tarfile.PAX_FORMAT)[:-512]
    return before + bytes(made) + data + bytes(-len(data) % 512) + bytes(1024)


def by_rootfs(path: Path) -> Entry:
    """Read a file as a root filesystem."""
    [_folder, entry] = unpack_tar(str(path), f"{path}.files-{os.urandom(4).hex()}", 1)
    return entry


def by_base(path: Path) -> Entry:
    """Read a file as a layer that is unpacked."""
    return unpack_layer(as_layer(path).copy_plain, str(path), f"{path}.files-{os.urandom(4).hex()}", {}).added[b"x"]


def by_contents(path: Path) -> Entry:
    """Read a file as ``inspect`` and ``diff`` do."""
    return read_contents(as_layer(path)).members[-1].entry


READERS = pytest.mark.parametrize("reader", [by_rootfs, by_base, by_contents])
Reader = Callable[[Path], Entry]

OLD_GO = (MAGIC, GNU), (slice(476, 488), b"12574544345\0"), (slice(488, 500), b"12574544345\0")
RIGHT = {
    "star's times where GNU has a sparse file's size": (OLD_GO, {}, (0, 0)),
    "nothing for an id": ([(UID, b""), (GID, b"        ")], {}, (0, 0)),
    "an id that ends in spaces": ([(UID, b" 17  \0 \0")], {}, (0o17, 0)),
    "an id in base 256": ([(UID, b"\x80\0\0\0\x7f\xff\xff\xff")], {}, (2**31 - 1, 0)),
    "the largest ids": ([], {"uid": "4294967294", "gid": "4294967294"}, (2**32 - 2, 2**32 - 2)),
    "pax's id for the header's": ([(UID, b"0000007\0")], {"uid": "70000"}, (70_000, 0)),
}


@READERS
@pytest.mark.parametrize(("changes", "pax", "owner"), RIGHT.values(), ids=RIGHT)
def test_odd_headers_that_are_right(
    tmp_path: Path, reader: Reader, changes: list[tuple[slice, bytes]], pax: dict[str, str], owner: tuple[int, int]
) -> None:
    """What other readers take is taken as they take it: the owner, the size, and as many bytes."""
    (tmp_path / "x.tar").write_bytes(member(*changes, pax=pax))
    entry = reader(tmp_path / "x.tar")
    assert (entry.size, entry.uid, entry.gid) == (14, *owner)
    if entry.source is not None:
        assert Path(entry.source.decode()).read_bytes() == DATA


WRONG: dict[str, tuple[list[tuple[slice, bytes]], dict[str, str], str]] = {
    "an id of 2^32": ([(UID, b"\x80\0\0\1\0\0\0\0")], {}, "its uid is 4294967296"),
    "the id that means no change": ([], {"gid": "4294967295"}, "its gid is 4294967295"),
    "an id of more than 64 bits": ([], {"uid": "1" + "0" * 30}, "its pax uid is no number"),
    "an id of 63 bits": ([], {"uid": "9223372036854775807"}, "its uid is 9223372036854775807"),
    "an id below nothing": ([(UID, b"\xff" * 8)], {}, "its uid is -1"),
    "pax's id below nothing": ([], {"uid": "-1"}, "its uid is -1"),
    "an id of no digits": ([(GID, b"users")], {}, "its gid is no number"),
    "an id of the digit 8": ([(UID, b"0001008\0")], {}, "its uid is no number"),
    "an id behind a nought byte": ([(UID, b"\x00001000\0")], {}, "its uid is no number"),
    "pax's id with a letter": ([], {"uid": "12a"}, "its pax uid is no number"),
    "a size of no digits": ([(SIZE, b"fourteen")], {}, "its size is no number"),
    "a size below nothing": ([(SIZE, b"\xff" * 11 + b"\xfe")], {}, "negative size|its size is -2"),
    "a time of no digits": ([(MTIME, b"yesterday")], {}, "its mtime is no number"),
    "pax's time with a letter": ([], {"mtime": "12x"}, "its pax mtime is no number"),
    "a device of no digits": ([(TYPE, b"3"), (MAJOR, b"tty")], {}, "its devmajor is no number"),
    "a device of more than 32 bits": ([(TYPE, b"3"), (MAJOR, b"\x80\0\0\1\0\0\0\1")], {}, "it is a device 4294967297, 0"),
    "holes of a file that is not sparse": (
        [(MAGIC, GNU), (OLD_SPARSE, b"%011o\0%011o\0" % (512, 14)), (REAL_SIZE, b"%011o\0" % 526)], {}, "holes|its size",
    ),
    "a link of which pax alone says what it is to": ([(TYPE, b"2")], {"linkpath": "d"}, "a link to"),
    "a prefix of a name where GNU has times": ([(MAGIC, GNU), (slice(345, 445), b"usr/share/doc")], {}, "its name has a prefix"),
    "star's sparse file": ([(MAGIC, STAR), (TYPE, b"S"), (REAL_SIZE, b"%011o\0" % 526)], {}, "sparse"),
}  # fmt: skip


@READERS
@pytest.mark.parametrize(("changes", "pax", "expected"), WRONG.values(), ids=WRONG)
def test_numbers_that_are_none(
    tmp_path: Path, reader: Reader, changes: list[tuple[slice, bytes]], pax: dict[str, str], expected: str
) -> None:
    """A number that no file can have, or that is none, is never cut to one: the error names the member and the number."""
    device = (TYPE, b"3") in changes or (TYPE, b"2") in changes
    (tmp_path / "x.tar").write_bytes(member(*changes, data=b"" if device else DATA, pax=pax))
    with pytest.raises(InputError, match=expected):
        reader(tmp_path / "x.tar")


def test_a_time_that_no_file_system_keeps(tmp_path: Path) -> None:
    """A base's time is kept as it is, so one beyond all of them is an error; a root filesystem's is cut to the epoch anyway."""
    (tmp_path / "x.tar").write_bytes(member(pax={"mtime": str(2**60)}))
    assert by_rootfs(tmp_path / "x.tar").mtime == 1
    for reader in (by_base, by_contents):
        with pytest.raises(InputError, match=r"/x: its time is 1152921504606846976"):
            reader(tmp_path / "x.tar")


@READERS
@pytest.mark.parametrize("name", ["path", "linkpath"])
def test_names_that_linux_does_not_take(tmp_path: Path, reader: Reader, name: str) -> None:
    """A path, or what a symbolic link says, of more bytes than the kernel takes is an error: each look at it would take long."""
    kind = [(TYPE, b"2"), (slice(157, 257), b"d")] if name == "linkpath" else []
    (tmp_path / "x.tar").write_bytes(member(*kind, data=b"" if kind else DATA, pax={name: "d/" * 3000}))
    with pytest.raises(InputError, match=r"a name of [56]... bytes"):
        reader(tmp_path / "x.tar")


def global_header(records: dict[str, str]) -> bytes:
    """Make a pax header that is for all members that follow."""
    info = tarfile.TarInfo("x")
    return info.create_pax_global_header(records)


@READERS
@pytest.mark.parametrize("key", ["uid", "mtime", "path", "linkpath", "size", "SCHILY.xattr.user.x"])
def test_what_a_global_header_says_is_refused(tmp_path: Path, reader: Reader, key: str) -> None:
    """Readers do not agree whether it counts, so that the error names what it says."""
    (tmp_path / "x.tar").write_bytes(global_header({key: "7"}) + member())
    with pytest.raises(InputError, match=f"a global pax header gives it and all that follow a {key}"):
        reader(tmp_path / "x.tar")


@READERS
def test_a_global_comment_is_none_of_a_members(tmp_path: Path, reader: Reader) -> None:
    """Git writes the commit so: nobody's owner or name."""
    (tmp_path / "x.tar").write_bytes(global_header({"comment": "0" * 40}) + member())
    assert reader(tmp_path / "x.tar").path == b"x"


@READERS
@pytest.mark.parametrize("kind", [b"1", b"2"], ids=["hard", "symbolic"])
@pytest.mark.parametrize("magic", [GNU, STAR, b""], ids=["gnu", "ustar", "v7"])
@pytest.mark.parametrize("pax", [{}, {"comment": "x"}], ids=["alone", "with pax"])
def test_a_link_to_nothing(tmp_path: Path, reader: Reader, kind: bytes, magic: bytes, pax: dict[str, str]) -> None:
    """It is an error in each dialect, and no empty file."""
    (tmp_path / "x.tar").write_bytes(member((TYPE, kind), (MAGIC, magic), data=b"", pax=pax))
    with pytest.raises(InputError, match="/x: it is a link to nothing"):
        reader(tmp_path / "x.tar")


def test_members_are_counted(tmp_path: Path) -> None:
    """Whoever waits for a root filesystem sees how many members were read."""
    (tmp_path / "x.tar").write_bytes(member()[:-1024] + member())
    told: list[Progress] = []
    unpack_tar(str(tmp_path / "x.tar"), str(tmp_path / "spool"), 1, told.append)
    assert [step.entries for step in told] == [1, 2, 3, 4]


@READERS
def test_an_attribute_that_bsdtar_wrote(tmp_path: Path, reader: Reader) -> None:
    """It writes each attribute twice, and the name in the encoding of URLs: it is one, of the name that it has on disk."""
    keys = {"LIBARCHIVE.xattr.user.a%20b": "dg", "SCHILY.xattr.user.a%20b": "v", "SCHILY.xattr.user.c%20d": "w"}
    (tmp_path / "x.tar").write_bytes(member(pax=keys | {"LIBARCHIVE.xattr.user.p": "dg", "SCHILY.xattr.user.p": "v"}))
    assert reader(tmp_path / "x.tar").xattrs == ((b"user.a b", b"v"), (b"user.c%20d", b"w"), (b"user.p", b"v"))


def pairs(*numbers: int) -> bytes:
    """Write numbers as the map of an old sparse header has them."""
    return b"".join(b"%011o\0" % number for number in numbers)


V1 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "20"}
S = (TYPE, b"S"), (MAGIC, GNU), (REAL_SIZE, b"%011o\0" % 20)
MAPS: dict[str, tuple[list[tuple[slice, bytes]], dict[str, str], bytes]] = {
    "overlapping": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,8,7,6"}, DATA),
    "unordered": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "10,7,0,7"}, DATA),
    "of other words": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,2,x,2"}, DATA),
    "of an odd count": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,14,3"}, DATA),
    "beyond the size": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "7,14"}, DATA),
    "of more data": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,15"}, DATA),
    "of less data": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,13"}, DATA),
    "none": ([], {"GNU.sparse.size": "20"}, DATA),
    "half of one": ([], {"GNU.sparse.size": "20", "GNU.sparse.offset": "0"}, DATA),
    "of another form": ([], V1 | {"GNU.sparse.major": "2"}, b"1\n0\n14\n".ljust(512, b"\0") + DATA),
    "before the data, of other words": ([], V1, b"1\n0\nx\n".ljust(512, b"\0") + DATA),
    "before the data, beyond the size": ([], V1, b"1\n7\n14\n".ljust(512, b"\0") + DATA),
    "old, overlapping": ([*S, (OLD_SPARSE_MAP, pairs(0, 8, 7, 6))], {}, DATA),
    "old, beyond the size": ([*S, (OLD_SPARSE_MAP, pairs(7, 14))], {}, DATA),
    "old, of other words": ([*S, (OLD_SPARSE_MAP, b"zero".ljust(12, b"\0") + pairs(14))], {}, DATA),
}


@READERS
@pytest.mark.parametrize(("changes", "pax", "data"), MAPS.values(), ids=MAPS)
def test_a_map_of_holes_that_is_none(
    tmp_path: Path, reader: Reader, changes: list[tuple[slice, bytes]], pax: dict[str, str], data: bytes
) -> None:
    """Readers make different files of it, so that the error names the member and what is wrong."""
    (tmp_path / "x.tar").write_bytes(member(*changes, data=data, pax=pax))
    with pytest.raises(InputError) as caught:
        reader(tmp_path / "x.tar")
    assert re.search(r"/x: (it|the map of its holes)", str(caught.value))


RIGHT_MAPS: dict[str, tuple[list[tuple[slice, bytes]], dict[str, str], bytes]] = {
    "0.1": ([], {"GNU.sparse.size": "20", "GNU.sparse.map": "0,7,10,7,20,0"}, DATA),
    "1.0": ([], V1, b"3\n0\n7\n10\n7\n20\n0\n".ljust(512, b"\0") + DATA),
    "old": ([*S, (OLD_SPARSE_MAP, pairs(0, 7, 10, 7, 20, 0))], {}, DATA),
}


@READERS
@pytest.mark.parametrize(("changes", "pax", "data"), RIGHT_MAPS.values(), ids=RIGHT_MAPS)
def test_a_map_of_holes(
    tmp_path: Path, reader: Reader, changes: list[tuple[slice, bytes]], pax: dict[str, str], data: bytes
) -> None:
    """Each of GNU tar's forms is a file with its data where the map has it, and zeros between."""
    (tmp_path / "x.tar").write_bytes(member(*changes, data=data, pax=pax))
    entry = reader(tmp_path / "x.tar")
    assert entry.size == 20
    if entry.source is not None:
        assert Path(entry.source.decode()).read_bytes() == DATA[:7] + bytes(3) + DATA[7:] + bytes(3)


def test_validate_lists_each_number(tmp_path: Path) -> None:
    """What the other commands refuse is a problem of the layer's, each named."""
    one, other = member(pax={"uid": "-1"})[:-1024], member((GID, b"users"))
    (tmp_path / "x.tar").write_bytes(one + other)
    finder = Finder()
    contents = read_blob(Piece(str(tmp_path / "x.tar"), len(one + other)), "layer", finder).contents
    Soundness("layer", contents, {}, finder, known=True).check()
    said = " ".join(map(str, finder.problems))
    assert "its uid is -1" in said
    assert "its gid is no number" in said


@pytest.mark.parametrize("number", ["4294967295", "99999999999", "-1"])
def test_ids_of_an_mtree_file(tmp_path: Path, number: str) -> None:
    """An id that no file can have in an mtree file, a foreign one or a layer's own, is an error that names the path."""
    line = f"./x type=file mode=0644 uid={number} gid=0 time=1.0 size=0"
    (tmp_path / "listing").write_text(f"#mtree\n{line}\n")
    with pytest.raises(InputError, match="x: its uid is"):
        read_listing(str(tmp_path / "listing"))
    with pytest.raises(InputError, match="its uid is"):
        read([line.encode()], b"/", "name")


WRONG_LISTING = [
    "mode=0644 uid=12abc", "mode=0644 gid=", "mode=0888", "mode=u+rwx", "mode=17777777", "mode=", "type=directory", "type=dir",
    "type=link", "type=char", "type=char device=native,1", "type=char device=native,4096,0", "type=char device=native,1,99999999",
    "device=native,1,3", "type=socket", "mode", "time=now",
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG_LISTING)
def test_a_listing_that_cannot_be_right(tmp_path: Path, words: str) -> None:
    """A value that is none, or that contradicts the disk, is an error that names the listing and the line: no other is taken."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").write_bytes(DATA)
    (tmp_path / "listing").write_text(f"#mtree\n. type=dir\n./x {words}\n")
    with pytest.raises(InputError, match="listing: line 3: ") as caught:
        read_directory(str(root), LayerSpec(rootfs=str(root)), read_listing(str(tmp_path / "listing")))
    assert words.rpartition(" ")[2].partition("=")[0] in str(caught.value) or "type=" in str(caught.value)


LISTING = """\
#mtree
/set type=file uid=1 gid=2
. type=dir mode=0755 uid=0 gid=0
x
    y mode=4711 \\
        size=14
    sp\\040c\\sd uid=7
d type=dir mode=1777
    null type=char mode=0666 device=native,1,3 time=5.0
    queue type=fifo mode=0600
    ..
/unset uid
z
./d/w gid=9
d/absent gid=9
"""


def test_a_listing_is_what_it_says(tmp_path: Path) -> None:
    """What a listing does not say stays as it is on disk; devices and fifos that are not there are made."""
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    for name in ("x", "y", "sp c d", "z", "d/w"):
        (root / name).write_bytes(DATA)
        (root / name).chmod(0o640)
    (tmp_path / "listing").write_text(LISTING)
    read = read_directory(str(root), LayerSpec(rootfs=str(root)), read_listing(str(tmp_path / "listing")))
    own = os.stat(root / "z").st_uid if os.geteuid() == 0 else 0
    found = {entry.path.decode(): (stat.S_IMODE(entry.mode), entry.uid, entry.gid) for entry in read}
    assert found == {
        "": (0o755, 0, 0), "x": (0o640, 1, 2), "y": (0o4711, 1, 2), "sp c d": (0o640, 7, 2), "d": (0o1777, 1, 2),
        "d/null": (0o666, 1, 2), "d/queue": (0o600, 1, 2), "z": (0o640, own, 2), "d/w": (0o640, own, 9),
    }  # fmt: skip
    nodes = {entry.path: (stat.S_IFMT(entry.mode), entry.rdev) for entry in read if not (entry.is_dir or entry.is_regular)}
    assert nodes == {b"d/null": (stat.S_IFCHR, os.makedev(1, 3)), b"d/queue": (stat.S_IFIFO, 0)}
