"""What the record means, in the layers of scripts and in faked's save file alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from helpers.aftermath import members, names, owner
from helpers.running import Runner
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import RecordError
from rootless_layer.session.ownership import OwnershipRecord, Row, save_file

pytestmark = pytest.mark.slow

_AFTER_CHOWN = {"4755": 0o755, "2755": 0o755, "6711": 0o711, "2644": 0o2644, "6644": 0o2644, "0755": 0o755}
"""What is left of a regular file's mode after a chown (chown(2)), by what it was."""


def test_the_row_is_the_inodes(runner: Runner) -> None:
    """Rename and hard links keep an owner; one name's owner is every name's; a link's own owner is not its target's."""
    runner.run("""
echo > a; chown 1:2 a; mv a b; ln b c; chown 3:4 c
echo > target; ln -s target link; chown -h 5:6 link; chown 7:8 link
echo > old; chown 9 old; echo > new; mv new old
echo > x; chown 10 x; echo > y; chown 11 y; $RAW renameat2-exchange x > /dev/null || :
echo > p; chown 12 p; echo > p-2; chown 13 p-2; $RAW renameat2-exchange p > /dev/null
""")
    found = members(runner.user)
    assert owner(found["b"])[:2] == owner(found["c"])[:2] == (3, 4)
    assert owner(found["link"])[:2] == (5, 6)
    assert owner(found["target"])[:2] == (7, 8)
    assert owner(found["old"])[:2] == (0, 0)
    assert (found["p"].uid, found["p-2"].uid) == (13, 12)


def test_the_mode_is_what_the_script_said(runner: Runner) -> None:
    """Modes that would shut the builder out, set-ID bits after chown, sticky bits and umasks are kept as the script gave them."""
    runner.run("""
for mode in 0 44 111 200 4711 2711 1777 6755; do
    echo > f$mode; chmod $mode f$mode
    mkdir d$mode; chmod $mode d$mode
done
echo > chowned; chmod 4755 chowned; chown 33 chowned
umask 077; echo > quiet; mkdir silent
umask 000; echo > loud; mkdir shouting
mkdir -m 0500 own; echo > own/file; chmod 0 own
""")
    found = members(runner.user)
    for mode in ("0", "44", "111", "200", "4711", "2711", "1777", "6755"):
        assert owner(found[f"f{mode}"]) == owner(found[f"d{mode}"]) == (0, 0, int(mode, 8))
    assert owner(found["chowned"]) == (33, 0, 0o755)  # the kernel clears the bit
    assert (found["quiet"].mode, found["silent"].mode, found["loud"].mode, found["shouting"].mode) == (0o600, 0o700, 0o666, 0o777)
    assert owner(found["own"]) == (0, 0, 0)
    assert "own/file" in found


def test_a_failed_chmod_is_no_wish(runner: Runner) -> None:
    """A chmod of what is not there leaves nothing; one refused within the tree is as on disk, or refused."""
    runner.run("chmod 0777 nothing || :\nchown 1 nothing || :\necho > f\nchmod 0600 f/x || :\n")
    assert owner(members(runner.user)["f"]) == (0, 0, 0o644)


def test_what_a_set_group_directory_hands_on(runner: Runner) -> None:
    """In a directory with set-group-ID all that is made gets its group, and directories get the bit."""
    runner.leaves(
        """
mkdir d; chgrp 50 d; chmod 2775 d; mkdir d/sub; echo > d/file; echo > d/sub/deep; ln -s x d/link; mknod d/node c 1 3; mkfifo d/pipe
$B mkdir d/static; $B touch d/static/file
mkdir e; chmod 2775 e; mkdir e/sub e/sub/deep; echo > e/sub/file
mkdir f; chmod 2775 f; mkdir f/sub; chmod 755 f/sub; mkdir f/own; chmod 00755 f/own; echo > moved; chgrp 3 moved; mv moved d/moved
""",
        {
            "d": (0, 50, 0o2775), "d/sub": (0, 50, 0o2755), "d/file": (0, 50, 0o644), "d/sub/deep": (0, 50, 0o644),
            "d/link": (0, 50, 0o777), "d/node": (0, 50, 0o644), "d/pipe": (0, 50, 0o644), "d/static": (0, 50, 0o2755),
            "d/static/file": (0, 50, 0o644), "d/moved": (0, 3, 0o644),
            "e": (0, 0, 0o2775), "e/sub": (0, 0, 0o2755), "e/sub/deep": (0, 0, 0o2755), "e/sub/file": (0, 0, 0o644),
            "f/sub": (0, 0, 0o2755), "f/own": (0, 0, 0o755),
        },
    )  # fmt: skip


def test_a_chown_takes_set_id_bits_away(runner: Runner) -> None:
    """A file that is given away loses its set-ID bits and capabilities, but for set-group-ID without execution; directories lose none."""
    runner.leaves(
        """
for mode in 4755 2755 6711 2644 6644 0755; do
    echo > f$mode; chmod $mode f$mode; chown 0:0 f$mode
    echo > g$mode; chmod $mode g$mode; $B chown 3 g$mode
    mkdir d$mode; chmod $mode d$mode; chown 3:4 d$mode
done
""",
        {f"f{mode}": (0, 0, kept) for mode, kept in _AFTER_CHOWN.items()}
        | {f"g{mode}": (3, 0, kept) for mode, kept in _AFTER_CHOWN.items()}
        | {f"d{mode}": (3, 4, int(mode, 8)) for mode in _AFTER_CHOWN},
    )


def test_an_attribute_alone_makes_root_the_owner(runner: Runner) -> None:
    """setcap or setfattr on a file that nobody chown'ed leaves it root's, and the attribute is in the layer."""
    runner.run("""
echo > a; setcap cap_net_raw+ep a
echo > b; setfattr -n user.x -v y b
echo > c; setfattr -n user.x -v y c; setfattr -x user.x c
mkdir d; setfattr -n trusted.t -v v d
echo > e; setcap cap_net_raw+ep e; rm e; echo > e
echo > f; setcap cap_net_raw+ep f; chown 3:4 f; chmod 0750 f; mv f g
echo > h; chown 3:4 h; setcap cap_net_raw+ep h; mv h i
echo > j; setcap cap_net_raw+ep j; ln j k; rm j
""")
    found = members(runner.user)
    assert {owner(found[name])[:2] for name in "abcde"} == {(0, 0)}
    assert "SCHILY.xattr.security.capability" in found["a"].pax_headers
    assert found["b"].pax_headers["SCHILY.xattr.user.x"] == "y"
    assert not [name for name in "ce" if any("xattr" in header for header in found[name].pax_headers)]
    assert found["d"].pax_headers["SCHILY.xattr.trusted.t"] == "v"
    assert owner(found["g"]) == (3, 4, 0o750)
    assert "SCHILY.xattr.security.capability" not in found["g"].pax_headers
    assert owner(found["i"]) == (3, 4, 0o644)
    assert "SCHILY.xattr.security.capability" in found["i"].pax_headers
    assert "SCHILY.xattr.security.capability" in found["k"].pax_headers


@pytest.mark.parametrize("size", [1000, 1900, 2000, 2048, 4000, 60000])
def test_a_long_attribute_is_whole(runner: Runner, size: int) -> None:
    """A value is kept as it was given, whatever its length."""
    runner.run(f"echo > f; setfattr -n user.long -v $(printf %{size}s | tr ' ' x) f")
    assert members(runner.user)["f"].pax_headers["SCHILY.xattr.user.long"] == "x" * size


def test_attributes_that_the_kernel_refuses(runner: Runner) -> None:
    """Names, files and values that Linux refuses are refused, and leave nothing (xattr(7))."""
    said = runner.run("""
echo > f; ln -s f l; mkfifo p
try() { "$@" 2>/dev/null && echo "may $*" >&2 || echo "may not $*" >&2; }
try setfattr -n user.x -v y p
try setfattr -h -n user.x -v y l
try setfattr -n other.x -v y f
try setfattr -n user. -v y f
try setfattr -x user.x f
try setfattr -n user.$(printf %300s | tr ' ' n) -v y f
try setfattr -n security.capability -v y f
try setfattr -n trusted.x -v y p
""")
    refused = [line.startswith("may not ") for line in said.splitlines() if line.startswith("may ")]
    assert refused == [True] * 7 + [False], said
    found = members(runner.user)
    assert {name for name in ("f", "l", "p") if any("xattr" in header for header in found[name].pax_headers)} == {"p"}


def test_devices_and_their_kin(runner: Runner) -> None:
    """mknod makes a node with its numbers, owner and mode; fifos are fifos; a socket is left out, and said to be."""
    runner.run("""
mknod c c 5 1; chown 1:2 c; chmod 0620 c
mknod b b 300 70000
mknod -m 0666 n c 1 3; mv n moved
mknod p p; chown 3 p
mkfifo q
mknod gone c 1 5; rm gone; echo > gone
""")
    found = members(runner.user)
    assert found["c"].ischr()
    assert (found["c"].devmajor, found["c"].devminor, *owner(found["c"])) == (5, 1, 1, 2, 0o620)
    assert found["b"].isblk()
    assert (found["b"].devmajor, found["b"].devminor) == (300, 70000)
    assert (found["moved"].devmajor, found["moved"].devminor, found["moved"].mode) == (1, 3, 0o666)
    assert found["p"].isfifo()
    assert found["p"].uid == 3
    assert found["q"].isfifo()
    assert found["gone"].isreg()


def test_mknod_takes_no_files_place(runner: Runner) -> None:
    """mknod over a file is refused, as for real root, and leaves the file as it was."""
    said = runner.run("echo data > f; mknod f c 1 3 || echo refused >&2; mkdir d; $B mknod d b 1 3 || echo refused >&2")
    assert said.count("refused") == 2, said
    found = members(runner.user)
    assert found["f"].isreg()
    assert found["f"].size == 5
    assert found["d"].isdir()


def test_a_record_is_carried_from_script_to_script(runner: Runner) -> None:
    """The second script sees what the first one gave, and may change it."""
    text = f"{names(runner.view)}cd ${{TOP:-/}}; echo > f; chown 33:34 f; chmod 4711 f; setfattr -n user.x -v y f\n"
    first = runner.user.script(text, "first")
    second = runner.user.script(
        f"{names(runner.view)}cd ${{TOP:-/}}; test $(stat -c %u:%g:%a f) = 33:34:4711; chgrp 35 f; chmod u+s f\n", "second"
    )
    result = runner.user.build(*runner.options, "--view", runner.view, "--script", first, "--script", second)
    assert result.status == 0, result.err
    found = members(runner.user)["f"]
    assert owner(found) == (33, 35, 0o4711)
    assert found.pax_headers["SCHILY.xattr.user.x"] == "y"


IDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])


@st.composite
def a_row(draw: st.DrawFn) -> Row:
    """Draw any row."""
    return Row(draw(KINDS) | draw(st.integers(0, 0o7777)), draw(IDS), draw(IDS), draw(IDS))


ROWS = st.dictionaries(st.tuples(IDS, st.integers(1, 2**63)), a_row(), max_size=20)


@given(ROWS)
def test_a_save_file_says_what_was_written(rows: dict[tuple[int, int], Row]) -> None:
    """Writing rows and reading them gives the same rows."""
    assert dict(OwnershipRecord.parse(save_file(rows.items())).rows) == rows


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_an_error(data: bytes) -> None:
    """Whatever a save file holds, reading it gives rows or a RecordError, nothing else."""
    try:
        OwnershipRecord.parse(data)
    except RecordError as error:
        assert all("line" in problem for problem in error.problems)


def test_every_wrong_line_is_told() -> None:
    """A save file with faults names each of them by its line."""
    good = b"dev=fe00,ino=5,mode=100644,uid=0,gid=0,nlink=1,rdev=0\n"
    with pytest.raises(RecordError) as raised:
        OwnershipRecord.parse(
            good + b"nonsense\n" + good + b"dev=fe00,ino=6,mode=100644,uid=-1,gid=0,nlink=1,rdev=0\n" + good[:-20]
        )
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "save file, line 2",
        "save file, line 4",
        "save file, line 5",
    ]


def test_no_row_means_root(tmp_path: Path) -> None:
    """A file without a row is root's, with the mode on disk, whoever owns it there."""
    (tmp_path / "f").write_text("")
    (tmp_path / "f").chmod(0o640)
    status = os.lstat(tmp_path / "f")
    assert OwnershipRecord({}).owner("/f", (status.st_dev, status.st_ino), status) == Row(status.st_mode, 0, 0, 0)


@pytest.mark.parametrize("recorded", [0o040755, 0o120777, 0o010644, 0o140644])
def test_a_row_of_another_file_is_refused(tmp_path: Path, recorded: int) -> None:
    """A row whose type cannot be the file's is refused, and the file is named."""
    (tmp_path / "f").write_text("")
    status = os.lstat(tmp_path / "f")
    record = OwnershipRecord.parse(save_file({(status.st_dev, status.st_ino): Row(recorded, 33, 33, 0)}.items()))
    with pytest.raises(RecordError, match="/f: "):
        record.owner("/f", (status.st_dev, status.st_ino), status)


@pytest.mark.parametrize("recorded", [0o100000, 0o100044, 0o104755, 0o106711, 0o020666, 0o060600])
@pytest.mark.parametrize("on_disk", [0o600, 0o755])
def test_a_row_has_the_last_word(tmp_path: Path, recorded: int, on_disk: int) -> None:
    """The mode on disk lets the session in, and a device is a file there: the row says what they are."""
    (tmp_path / "f").write_text("")
    (tmp_path / "f").chmod(on_disk)
    status = os.lstat(tmp_path / "f")
    record = OwnershipRecord.parse(save_file({(status.st_dev, status.st_ino): Row(recorded, 33, 34, 0)}.items()))
    row = record.owner("/f", (status.st_dev, status.st_ino), status)
    assert (row.mode, row.uid, row.gid) == (recorded, 33, 34)
