"""A root filesystem comes into the layer with its owners, devices and links, from an archive or a directory."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.effort import EVERY, todays
from helpers.inputs import write
from helpers.layers import CAPABILITY, Member, assert_no_layer, refused, unpacked
from helpers.roots import debian_root
from helpers.stores import fingerprint
from helpers.users import SOMEBODY, User

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def debian() -> Path:
    """A small Debian as a tar archive."""
    return debian_root("bookworm", "fakeroot", "passwd")


def test_a_root_filesystem_keeps_everything(users: list[User], debian: Path) -> None:
    """Each path of the archive is in the layer with its type, owner, mode, data, device, link and attributes."""
    for user in todays(users):
        assert_kept(debian, unpacked(user, user.build("--rootfs", debian)))


def assert_kept(debian: Path, found: Mapping[str, Member]) -> None:
    """Compare what is in a layer with the archive that it was made of."""
    with tarfile.open(debian) as archive:
        infos = {os.path.normpath(info.name): info for info in archive}
    assert set(found) - {"."} == set(infos) - {"."}
    names = {name: {name} for name, info in infos.items() if info.isreg()}
    for name, info in infos.items():
        if info.islnk():
            names[os.path.normpath(info.linkname)].add(name)
    kinds = set()
    for name, info in infos.items():
        made = found[name].info if name in found else None
        if made is None:
            assert (name, info.mode, info.uid, info.gid) == (".", 0o755, 0, 0)
            continue
        kinds.add(info.type)
        assert (made.uid, made.gid, made.mode if not made.issym() else 0) == (
            info.uid,
            info.gid,
            info.mode if not info.issym() else 0,
        ), name
        if info.islnk() or made.islnk():
            group = next(group for group in names.values() if name in group)
            assert not made.islnk() or os.path.normpath(made.linkname) in group
            continue
        assert made.type == info.type, name
        assert (made.size, made.devmajor, made.devminor) == (info.size, info.devmajor, info.devminor), name
        assert made.linkname == info.linkname, name
    assert kinds >= {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}
    assert found["etc/shadow"].owner == "0:42:640"
    assert found["usr/bin/passwd"].owner == "0:0:4755"


def test_a_root_filesystem_in_any_compression_is_one(users: list[User], debian: Path) -> None:
    """tar, tar.gz, tar.zst and tar.xz of one root filesystem give the same digest."""
    user = users[-1]
    whole = user.home / "part.tar"
    some = ["--include=./etc", "--include=./usr/bin/p*"]
    subprocess.run(["bsdtar", *some, "--format=paxr", "-cf", whole, f"@{debian}"], check=True)
    digests = {user.build("--rootfs", whole).layer["digest"]}
    for program in ("gzip -1", "zstd -1 -q", "xz -0", "bzip2 -1"):
        packed = user.home / f"packed {program}"
        subprocess.run(f"{program} -c <'{whole}' >'{packed}'", shell=True, check=True)
        digests.add(user.build("--rootfs", packed).layer["digest"])
    assert len(digests) == 1


def test_an_unpacked_root_filesystem_is_the_archive(shared: Path, debian: Path, users: list[User]) -> None:
    """Root reads the owners, modes, devices and links from the disk, and gets the archive's digest."""
    if not users[0].is_root:
        pytest.skip("only root can unpack a root filesystem's owners")
    user = users[0]
    folder = shared / "debian"
    folder.mkdir()
    subprocess.run(["tar", "--numeric-owner", "--xattrs", "-xpf", debian, "-C", folder], check=True)
    before = fingerprint(folder)
    assert user.build("--rootfs", folder).layer["digest"] == user.build("--rootfs", debian).layer["digest"]
    assert fingerprint(folder) == before


def test_a_listing_has_the_owners_of_a_directory(users: list[User], debian: Path) -> None:
    """What somebody has unpacked is root's, unless a listing says whose: with it, and its devices, the layer is the archive's."""
    user = users[-1]
    archive, listing, folder = user.home / "debian.tar", user.home / "debian.mtree", user.home / "debian"
    subprocess.run(["bsdtar", "--format=paxr", "-cf", archive, f"@{debian}"], check=True)
    subprocess.run(["bsdtar", "--format=mtree", "-cf", listing, f"@{debian}"], check=True)
    folder.mkdir()
    if os.geteuid() == 0:
        for path in (folder, archive, listing):
            os.chown(path, SOMEBODY, SOMEBODY)
    devices = ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"]
    without = [f"--exclude=./dev/{name}" for name in devices]
    assert user.run(["tar", "-xf", archive, "-C", folder, *without]).status == 0
    owned = unpacked(user, user.build("--rootfs", folder))
    assert {f"{member.info.uid}:{member.info.gid}" for member in owned.values()} == {"0:0"}
    listed = user.build("--rootfs", folder, "--rootfs-listing", listing).layer
    assert listed["digest"] == user.build("--rootfs", archive).layer["digest"]


def test_a_listing_makes_devices_of_files(user: User) -> None:
    """What the listing calls a device is one in the layer, as nobody but root could make it on disk."""
    folder = write(user.home / "root", {"dev/null": "", "etc/shadow": "root"})
    listing = user.home / "listing"
    listing.write_text(
        "#mtree\n. type=dir mode=0755 uid=0 gid=0\n./dev type=dir mode=0755 uid=0 gid=0\n"
        "./dev/null type=char mode=0666 uid=0 gid=0 device=native,1,3\n"
        "./etc type=dir mode=0700 uid=1 gid=2\n./etc/shadow type=file mode=4640 uid=0 gid=42 size=4\n"
    )
    found = unpacked(user, user.build("--rootfs", folder, "--rootfs-listing", listing))
    null = found["dev/null"].info
    assert (null.ischr(), null.devmajor, null.devminor, null.mode) == (True, 1, 3, 0o666)
    assert found["etc"].owner == "1:2:700"
    assert found["etc/shadow"].owner == "0:42:4640"


def test_a_listing_must_be_one_and_goes_with_a_directory(user: User) -> None:
    """An archive has its own owners, and a file that is no listing is named."""
    folder = write(user.home / "root", {"file": "text"})
    archive = user.home / "root.tar"
    subprocess.run(["tar", "-cf", archive, "-C", folder, "."], check=True)
    (user.home / "odd").write_text("\0\1nothing\n")
    refused(user.build("--rootfs", archive, "--rootfs-listing", user.home / "odd"), user.home / "odd", archive)
    for name, status in (("odd", 65), ("absent", 66)):
        refused(user.build("--rootfs", folder, "--rootfs-listing", user.home / name), user.home / name, status=status)
    assert_no_layer(user)


DEBIAN_SCRIPT = """\
stat -c %u:%g:%a /etc/shadow /usr/bin/passwd / >/found
useradd -m somebody
chown somebody:mail /etc/hostname
apt-get --version | head -n1 >>/found
id -u somebody >>/found
getent passwd somebody >>/found
rm /usr/bin/perl
mknod /dev/loop9 b 7 9
"""


def test_a_script_sees_the_root_filesystem_as_its_own(users: list[User], debian: Path) -> None:
    """Debian's own useradd, chown and apt work in Debian's root, and everybody's layer is the same."""
    digests = set()
    for user in users:
        result = user.build("--rootfs", debian, "--script", user.script(DEBIAN_SCRIPT))
        found = unpacked(user, result)
        said = found["found"].data.decode().splitlines()
        assert said[:3] == ["0:42:640", "0:0:4755", "0:0:755"]
        assert said[3].startswith("apt ")
        assert said[4] == "1000"
        assert said[5].startswith("somebody:x:1000:1000:")
        assert found["etc/hostname"].owner.startswith("1000:8:")
        assert found["home/somebody"].info.uid == 1000
        assert found["etc/shadow"].owner == "0:42:640"
        assert b"somebody:x:1000" in found["etc/passwd"].data
        assert "usr/bin/perl" not in found
        assert found["dev/loop9"].info.isblk()
        assert not any(member.info.islnk() and member.info.linkname not in found for member in found.values())
        assert user.leftovers() == []
        digests.add(result.layer["digest"])
    assert len(digests) == 1


def test_the_script_true_changes_nothing_of_a_root_filesystem(users: list[User], debian: Path) -> None:
    """With a script that does nothing, and without a script, a root filesystem gives the same digest."""
    ways: tuple[list[str], ...] = ([], ["--", "true"])
    turns = zip(users, ways, strict=False) if len(users) > 1 and not EVERY else itertools.product(users, ways)
    digests = [user.build("--rootfs", debian, *words).layer["digest"] for user, words in turns]
    assert len(digests) > 1
    assert len(set(digests)) == 1


def test_attributes_on_disk_are_kept(users: list[User]) -> None:
    """A directory's attributes are read from the disk, and not those that belong to the machine."""
    user = users[0]
    if not user.is_root:
        pytest.skip("only root may set a capability")
    tree = write(user.home / "root", {"file": "text"})
    os.setxattr(tree / "file", "user.name", b"value")
    os.setxattr(tree / "file", "trusted.own", b"value")
    os.setxattr(tree / "file", "security.capability", CAPABILITY)
    os.setxattr(tree, "user.top", b"value")
    found = unpacked(user, user.build("--rootfs", tree))
    headers = found["file"].info.pax_headers
    assert {key for key in headers if key.startswith("SCHILY")} == {"SCHILY.xattr.user.name", "SCHILY.xattr.security.capability"}
    assert found["."].info.pax_headers["SCHILY.xattr.user.top"] == "value"


def test_a_directory_keeps_its_links(user: User) -> None:
    """Hard links within a root filesystem's directory are hard links; one from outside does not show."""
    tree = write(user.home / "root", {"a": "text", "d/only": "text", "empty": ""})
    os.link(tree / "a", tree / "d/b")
    os.link(tree / "d/only", user.home / "outside")
    found = unpacked(user, user.build("--rootfs", tree))
    assert found["d/b"].info.islnk()
    assert found["d/b"].info.linkname == "a"
    assert found["d/only"].info.isreg()


def test_a_root_filesystems_own_mode_is_kept(user: User) -> None:
    """The root directory's own mode is in the layer where it is not 0755."""
    tree = write(user.home / "root", {"file": "text"})
    assert "." not in {name.rstrip("/") for name in unpacked(user, user.build("--rootfs", tree))}
    tree.chmod(0o1777)
    assert stat.S_IMODE(unpacked(user, user.build("--rootfs", tree))["."].info.mode) == 0o1777
