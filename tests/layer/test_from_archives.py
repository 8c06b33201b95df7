"""Odd archives come into the layer as tar programs understand them, and damaged ones are refused."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.inputs import write
from helpers.layers import CAPABILITY, assert_no_layer, refused, unpacked
from helpers.users import User

pytestmark = pytest.mark.slow


def member(
    name: str, text: str | None = None, *, kind: bytes = tarfile.REGTYPE, link: str = "", **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    """Make one member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755 if kind == tarfile.DIRTYPE else 0o644
    data = (text or "").encode()
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive_of(
    user: User, *given: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, name: str = "archive.tar"
) -> Path:
    """Write an archive."""
    path = user.home / name
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in given:
            archive.addfile(info, io.BytesIO(data))
    return path


def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make a member root's, whoever writes the archive."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def digests_of(user: User, archives: Iterable[Path]) -> set[str]:
    """Build a layer of each archive; give the digests."""
    return {user.build("--rootfs", archive).layer["digest"] for archive in archives}


def test_every_dialect_gives_the_same_layer(user: User) -> None:
    """v7, ustar, old GNU, GNU and pax archives of one tree give one digest, from GNU tar, bsdtar and Python."""
    tree = write(user.home / "tree", {"etc/file": "text", "etc/link": "-> file", "empty": None, "large": "x" * 100_000})
    os.link(tree / "etc/file", tree / "second")
    archives = []
    owner = ["--owner=0", "--group=0", "--numeric-owner"]
    for program, form, words in [
        *(("tar", form, ["--sort=name", *owner]) for form in ("v7", "oldgnu", "gnu", "ustar", "posix")),
        *(("bsdtar", form, ["--uid=0", "--gid=0"]) for form in ("v7", "gnutar", "ustar", "paxr", "pax")),
    ]:
        archives.append(user.home / f"{program}-{form}.tar")
        subprocess.run([program, f"--format={form}", *words, "-C", tree, "-cf", archives[-1], "."], check=True)
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        archives.append(user.home / f"python-{dialect}.tar")
        with tarfile.open(archives[-1], "w", format=dialect) as archive:
            archive.add(tree, ".", filter=owned_by_root)
    assert len(digests_of(user, archives)) == 1


def test_what_is_large_is_the_same_in_gnu_and_pax(user: User) -> None:
    """Long names and links, large ids and names in UTF-8 come out the same of both dialects that can hold them."""
    given = [
        member("d" * 90 + "/" + "f" * 200, "text", uid=3_000_000, gid=4_000_000_000),
        member("é/名", "text"),
        member("link", kind=tarfile.SYMTYPE, link="t" * 300),
        member("d" * 90 + "/hard", kind=tarfile.LNKTYPE, link="d" * 90 + "/" + "f" * 200),
    ]
    archives = [archive_of(user, *given, form=form, name=f"{form}.tar") for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    assert len(digests_of(user, archives)) == 1
    found = unpacked(user, user.build("--rootfs", archives[0]))
    assert found["d" * 90 + "/" + "f" * 200].info.gid == 4_000_000_000 or found["d" * 90 + "/hard"].info.gid == 4_000_000_000
    assert found["é/名"].data == b"text"
    assert found["link"].info.linkname == "t" * 300


def test_names_are_relative_to_the_root(user: User) -> None:
    """``./name``, ``/name``, ``name`` and ``.//name/.`` are the same path, as they are for tar."""
    archives = [
        archive_of(
            user, member(f"{prefix}etc", kind=tarfile.DIRTYPE), member(f"{prefix}etc/file", "text"),
            member(f"{prefix}second", kind=tarfile.LNKTYPE, link=f"{prefix}etc/file"), name=f"{number}.tar",
        )
        for number, prefix in enumerate(("", "./", "/", ".//", "././"))
    ]  # fmt: skip
    assert len(digests_of(user, archives)) == 1
    assert set(unpacked(user, user.build("--rootfs", archives[2]))) == {"etc", "etc/file", "second"}


def test_a_repeated_path_is_what_it_was_last(user: User) -> None:
    """A later member replaces an earlier one, with all that is below; a hard link keeps what it was made of."""
    archive = archive_of(
        user,
        member("file", "first"), member("link", kind=tarfile.LNKTYPE, link="file"), member("file", "second"),
        member("third", kind=tarfile.LNKTYPE, link="file"),
        member("folder", kind=tarfile.DIRTYPE), member("folder/below", "text"), member("folder", "no folder"),
        member("other", "text"), member("other", kind=tarfile.DIRTYPE), member("other/below", "text"),
        member("twice", kind=tarfile.DIRTYPE), member("twice/below", "text"), member("twice", kind=tarfile.DIRTYPE, mode=0o700),
    )  # fmt: skip
    found = unpacked(user, user.build("--rootfs", archive))
    assert found["link"].data == b"first"
    assert found["file"].data == b"second"
    assert found["third"].info.linkname == "file"
    assert found["folder"].data == b"no folder"
    assert "folder/below" not in found
    assert found["other/below"].data == b"text"
    assert found["twice"].info.mode == 0o700
    assert found["twice/below"].data == b"text"


def test_a_hard_link_to_a_link_is_one_to_its_file(user: User) -> None:
    """Chains of hard links, and hard links to a symbolic link, come out as readers understand them."""
    archive = archive_of(
        user, member("a", "text"), member("b", kind=tarfile.LNKTYPE, link="a"), member("c", kind=tarfile.LNKTYPE, link="b"),
        member("s", kind=tarfile.SYMTYPE, link="a"), member("t", kind=tarfile.LNKTYPE, link="s"),
    )  # fmt: skip
    found = unpacked(user, user.build("--rootfs", archive))
    assert {found[name].info.linkname for name in "bc"} == {"a"}
    assert found["t"].info.issym()
    assert found["t"].info.linkname == "a"


@pytest.mark.parametrize(
    "given",
    [
        [member("../outside", "text")],
        [member("etc/../../outside", "text")],
        [member("/../outside", "text")],
        [member("etc/../..", kind=tarfile.DIRTYPE)],
        [member("file", kind=tarfile.LNKTYPE, link="../outside")],
        [member("file", kind=tarfile.LNKTYPE, link="/etc/passwd")],
        [member("file", kind=tarfile.LNKTYPE, link="absent")],
        [member("file", kind=tarfile.LNKTYPE, link="file")],
        [member("etc", kind=tarfile.DIRTYPE), member("file", kind=tarfile.LNKTYPE, link="etc")],
        [member("etc", kind=tarfile.SYMTYPE, link="/etc"), member("etc/passwd", "text")],
        [member("etc", "text"), member("etc/passwd", "text")],
    ],
    ids=[
        "above", "above later", "absolute above", "up", "link above", "link outside", "link to nothing", "link to itself",
        "link to a directory", "through a link", "below a file",
    ],
)  # fmt: skip
def test_a_member_outside_of_the_root_is_refused(user: User, given: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """A name, or a hard link, that leaves the root or goes through what is no directory ends the build."""
    info = given[-1][0]
    archive = archive_of(user, *given)
    refused(user.build("--rootfs", archive), info.linkname if info.linkname.startswith("..") else info.name.rpartition("/")[2])
    assert_no_layer(user)


@pytest.mark.parametrize("ending", ["tar", "gz", "zst", "xz"])
@pytest.mark.parametrize("damage", ["header", "data", "flipped"])
def test_a_damaged_archive_is_refused(user: User, ending: str, damage: str) -> None:
    """An archive that ends early, or whose header or compressed data is wrong, makes no layer."""
    whole = archive_of(
        user, member("one", "1" * 5000), member("two", random.Random(1).randbytes(20_000).hex()), member("three", "3" * 5000)
    )
    if ending != "tar":
        program = {"gz": "gzip", "zst": "zstd -q --check", "xz": "xz"}[ending]
        subprocess.run(f"{program} -c <{whole} >{whole}.{ending}", shell=True, check=True)
        whole = whole.with_name(f"{whole.name}.{ending}")
    data = bytearray(whole.read_bytes())
    if damage == "header":
        del data[5632 + 300 if ending == "tar" else len(data) // 4 :]
    elif damage == "data":
        del data[5632 + 10_000 if ending == "tar" else len(data) // 2 :]
    else:
        data[5632 + 3 if ending == "tar" else len(data) // 2] ^= 0x40
    whole.write_bytes(data)
    refused(user.build("--rootfs", whole), whole)
    assert_no_layer(user)


@pytest.mark.parametrize("data", [b"", b"no archive\n", b"x" * 10_000, b"PK\3\4" + bytes(2000), b"\x7fELF" + bytes(2000)])
def test_what_is_no_archive_is_refused(user: User, data: bytes) -> None:
    """A file that is no tar archive is named in the error."""
    path = user.home / "odd"
    path.write_bytes(data)
    refused(user.build("--rootfs", path), path)
    refused(user.build("--rootfs", user.home / "absent"), user.home / "absent", status=66)
    assert_no_layer(user)


def test_an_empty_archive_is_an_empty_root(user: User) -> None:
    """An archive without members is a root filesystem without files."""
    assert unpacked(user, user.build("--rootfs", archive_of(user))) == {}


def test_devices_and_queues_are_kept(user: User) -> None:
    """Devices with their numbers, and named pipes, come through without anybody's privilege."""
    archive = archive_of(
        user, member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", kind=tarfile.BLKTYPE, devmajor=259, devminor=1_000, gid=6), member("queue", kind=tarfile.FIFOTYPE),
    )  # fmt: skip
    for words in ([], ["--view", "directory", "--", "true"]):
        found = unpacked(user, user.build("--rootfs", archive, *words))
        assert (found["null"].info.ischr(), found["null"].info.devmajor, found["null"].info.devminor) == (True, 1, 3)
        assert (found["disk"].info.isblk(), found["disk"].info.devmajor, found["disk"].info.devminor) == (True, 259, 1_000)
        assert found["disk"].owner == "0:6:644"
        assert found["null"].owner == "0:0:666"
        assert found["queue"].info.isfifo()


def test_owners_are_kept_or_refused_and_never_cut(user: User) -> None:
    """The largest id that Linux has is kept, with a script and without; a larger one is refused in both cases, by its path."""
    for words in ([], ["--view", "directory", "--", "true"]):
        found = unpacked(user, user.build("--rootfs", archive_of(user, member("f", uid=2**32 - 2, gid=2**31)), *words))
        assert found["f"].owner == f"{2**32 - 2}:{2**31}:644"
        refused = user.build("--rootfs", archive_of(user, member("f", uid=2**32 + 5)), *words)
        assert (refused.status, "/f: " in refused.err, str(2**32 + 5) in refused.err) == (65, True, True), refused.err


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_is_its_data(user: User, form: str) -> None:
    """Holes of GNU's sparse members come out as the zeros that they are: at the beginning, inside, at the end."""
    tree = user.home / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    with open(tree / "hole", "wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["tar", f"--format={form}", "-S", "-C", tree, "-cf", user.home / "sparse.tar", "."], check=True)
    assert (user.home / "sparse.tar").stat().st_size < 1 << 19
    found = unpacked(user, user.build("--rootfs", user.home / "sparse.tar"))
    assert found["sparse"].data == (tree / "sparse").read_bytes()
    assert found["hole"].data == bytes(1 << 20)
    assert not any(key.startswith("GNU.sparse") for key in found["sparse"].info.pax_headers)


@pytest.mark.parametrize("form", ["SCHILY", "LIBARCHIVE"])
def test_extended_attributes_are_kept(user: User, form: str) -> None:
    """A file's and a directory's attributes, capabilities among them, are read in both forms of pax headers."""
    archive = user.home / "attributes.tar"
    listing = user.home / "tree"
    write(listing, {"folder/file": "text"})
    if form == "SCHILY":
        headers = {"SCHILY.xattr.user.name": "välue", "SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
        headers["SCHILY.xattr.security.capability"] = CAPABILITY.decode("utf-8", "surrogateescape")
    else:
        headers = {
            "LIBARCHIVE.xattr.user.name": "dsOkbHVl",
            "LIBARCHIVE.xattr.security.capability": "AQAAAgAEAAAAAAAAAAAAAAAAAAA=",
        }
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in (member("folder", kind=tarfile.DIRTYPE), member("folder/file", "text")):
            info.pax_headers = headers
            tar.addfile(info, io.BytesIO(data))
    for words in ([], ["--view", "directory", "--", "true"]):
        found = unpacked(user, user.build("--rootfs", archive, *words))
        for name in ("folder", "folder/file"):
            kept = found[name].info.pax_headers
            assert kept["SCHILY.xattr.user.name"] == "välue"
            assert kept["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY


def test_attributes_that_fakeroot_does_not_carry_are_kept(user: User) -> None:
    """A value of 4000 bytes stays with its file, whatever a script does to that; who takes the file's place does not get it."""
    large = {"SCHILY.xattr.user.large": "v" * 4000, "SCHILY.xattr.user.small": "s"}
    given = [member(name, name) for name in ("left", "given", "moved", "replaced")]
    for info, _ in given:
        info.pax_headers = large
    archive = archive_of(user, *given)
    assert unpacked(user, user.build("--rootfs", archive))["left"].info.pax_headers == large
    upon = (user.home / "layer").rename(user.home / "base")
    change = "chown 5 given; mv moved away; rm replaced; echo new > replaced; chown 6 replaced; cp -a given copied; setfattr -n user.other -v o left"
    for words in (["--rootfs", archive], ["--base", upon]):
        found = unpacked(user, user.build(*words, "--view", "directory", "--", "sh", "-c", change))
        assert (found["given"].owner, found["given"].info.pax_headers) == ("5:0:644", large)
        assert found["away"].info.pax_headers == found["copied"].info.pax_headers == large
        assert (found["replaced"].owner, found["replaced"].info.pax_headers) == ("6:0:644", {})
        assert found["left"].info.pax_headers == large | {"SCHILY.xattr.user.other": "o"}


def test_overlayfs_own_attributes_are_left_out(user: User) -> None:
    """Such a mark of another mount would hide a base's files in whoever shows the layer by an overlay: a note names the path."""
    folder, kept = member("folder", kind=tarfile.DIRTYPE), member("folder/file", "text")
    folder[0].pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.origin": ""}
    folder[0].pax_headers["SCHILY.xattr.user.own"] = "o"
    archive = archive_of(user, folder, kept)
    mark = ["--view", "directory", "--", "setfattr", "-n", "user.overlay.opaque", "-v", "y", "folder"]
    for words in ([], mark):
        result = user.build("--rootfs", archive, *words)
        assert "/folder: " in result.err
        assert unpacked(user, result)["folder"].info.pax_headers == {"SCHILY.xattr.user.own": "o"}


def test_access_control_lists_are_kept(users: list[User]) -> None:
    """A list of the archive's is in the layer, and scripts see it: the same layer for everybody."""
    text = "user::rwx\nuser:app:rwx\ngroup::r-x\nmask::rwx\nother::---\n"
    digests = set()
    for user in users:
        passwd = member("etc/passwd", "app:x:4711:1::/:/bin/sh\n")
        listed = member("d", kind=tarfile.DIRTYPE, pax_headers={"SCHILY.acl.access": text})
        made = user.build("--rootfs", archive_of(user, passwd, listed), "--view", "directory", "--", "getfacl", "-cn", "d")
        assert "user:4711:rwx" in made.err
        found = unpacked(user, made)["d"].info
        assert "SCHILY.xattr.system.posix_acl_access" in found.pax_headers
        assert found.mode == 0o770
        digests.add(made.layer["digest"])
    assert len(digests) == 1
