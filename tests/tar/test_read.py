"""Members of a layer's tar: what each is, what whiteouts hide, and how the tar ended."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile

import pytest

from rootless_layer.tar.read import Ending, Member, leaves_root, read_members, relative
from rootless_layer.tree.tree import Entry

DATA = b"some bytes\n" * 100
KINDS = {
    "directory": (tarfile.DIRTYPE, stat.S_IFDIR), "file": (tarfile.REGTYPE, stat.S_IFREG), "fifo": (tarfile.FIFOTYPE, stat.S_IFIFO),
    "character": (tarfile.CHRTYPE, stat.S_IFCHR), "block": (tarfile.BLKTYPE, stat.S_IFBLK),
}  # fmt: skip


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """Describe a member that is not root's and has a mode of its own."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    made.mode, made.uid, made.gid, made.mtime = 0o640, 12, 34, 99
    made.devmajor, made.devminor = 5, 6
    return made


def tar(*members: tarfile.TarInfo) -> bytes:
    """Make a tar; a file of some size holds the first bytes of ``DATA``."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(DATA[: member.size]))
    return file.getvalue()


def read(data: bytes) -> tuple[list[Member], Ending]:
    """Read a tar that comes in parts of odd sizes."""
    found: list[Member] = []
    parts = [data[begin : begin + 777] for begin in range(0, len(data), 777)]
    ending = read_members(lambda consume: [consume(memoryview(part)) for part in parts], "there", found.append)
    return found, ending


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file(kind: str) -> None:
    """The type, the mode, the owner and the time of the header; devices have numbers, and files a digest."""
    letter, bits = KINDS[kind]
    size = len(DATA) if kind == "file" else 0
    [found], ending = read(tar(info("./a/b", letter, size=size)))
    entry = found.entry
    assert (entry.path, entry.mode, entry.uid, entry.gid, entry.mtime) == (b"a/b", bits | 0o640, 12, 34, 99)
    assert (entry.size, entry.link, entry.target) == (size, None, None)
    assert bool(entry.rdev) is (kind in {"character", "block"})
    assert found.digest == (f"sha256:{hashlib.sha256(DATA).hexdigest()}" if size else "")
    assert (found.fault, found.warning, ending.damage, ending.behind) == ("", "", "", 0)


def test_links() -> None:
    """A symbolic link keeps its target as it is written, a hard link the path in the tree as well."""
    symbolic, hard = read(tar(info("s", tarfile.SYMTYPE, "../x"), info("h", tarfile.LNKTYPE, "./d/../x")))[0]
    assert (symbolic.entry.target, symbolic.entry.link, symbolic.entry.mode) == (b"../x", None, stat.S_IFLNK | 0o777)
    assert (hard.target, hard.entry.link, hard.entry.target, hard.digest) == (b"./d/../x", b"x", None, "")


@pytest.mark.parametrize(
    ("path", "hides", "empties"),
    [
        (b".wh.a", b"a", None),
        (b"d/.wh.a", b"d/a", None),
        (b"d/.wh..wh..opq", None, b"d"),
        (b".wh..wh..opq", None, b""),
        (b"d/.wh.", None, None),
        (b"d/.wh...", None, None),
        (b"d/.wh..", None, None),
        (b".wh..wh.aufs", None, None),
        (b"d/.wha", None, None),
        (b".wh.d/a", None, None),
    ],
)
def test_whiteouts(path: bytes, hides: bytes | None, empties: bytes | None) -> None:
    """One name hides one path; the opaque one hides all in its directory; what names nothing hides nothing."""
    member = Member(name=path, entry=Entry(path=path, mode=stat.S_IFREG | 0o644))
    assert (member.hides, member.empties) == (hides, empties)
    assert member.is_whiteout is path.rpartition(b"/")[2].startswith(b".wh.")


@pytest.mark.parametrize(
    ("name", "path", "leaves"),
    [
        (b"./", b"", False),
        (b"./a//b/", b"a/b", False),
        (b"/a", b"a", False),
        (b"/../a", b"a", True),
        (b"../a", b"a", True),
        (b"a/../../b", b"b", True),
        (b"a/..", b"", False),
        (b"a/../b", b"b", False),
        (b"..a/b..", b"..a/b..", False),
    ],
)
def test_names(name: bytes, path: bytes, leaves: bool) -> None:  # noqa: FBT001 - a case
    """A path never leaves the root; a name that would is known."""
    assert (relative(name), leaves_root(name)) == (path, leaves)


def test_how_a_tar_ends() -> None:
    """The end marker and what stands behind it are measured; a tar that is cut is damaged, whatever was read before."""
    whole = tar(info("a", size=700), info("b"))
    end = whole.rstrip(b"\0")
    end += bytes(-len(end) % 512)
    assert read(whole)[1] == Ending(marker=1024)
    assert read(whole + b"more")[1].behind > 0
    assert read(end)[1] == Ending()
    members, ending = read(whole[:1000])
    assert ending.damage
    assert [member.entry.path for member in members] == [b"a"]


def test_what_is_no_tar() -> None:
    """It is damage, and no member comes of it."""
    members, ending = read(b"no tar at all" * 100)
    assert (members, bool(ending.damage)) == ([], True)


def test_what_gives_the_bytes_may_fail() -> None:
    """Its error counts, and not what was made of a stream that was cut."""

    def give(consume: object) -> None:
        assert callable(consume)
        consume(memoryview(tar(info("a"))[:512]))
        message = "the blob is not what its digest says"
        raise ValueError(message)

    with pytest.raises(ValueError, match="digest"):
        read_members(give, "there", print)
