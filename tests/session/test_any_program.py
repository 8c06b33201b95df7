"""Whatever a program is, how it is linked and how it makes its calls: they are recorded as real root's."""

from __future__ import annotations

import platform
from errno import EACCES, ENOSYS, ENOTDIR, EPERM

import pytest
from helpers.aftermath import assert_nothing_left, members, names, owner
from helpers.running import Runner
from helpers.users import COMMAND, User

pytestmark = pytest.mark.slow

GIVEN = {
    # The file that is meant, and the command that gives it to 33:34.
    "chown": "$B chown 33:34 chown",
    "link": "ln -sf x link; $B chown -h 33:34 link",
    "group": "$B chown 33 group; $B chgrp 34 group",
    "character": "rm character; $B mknod character c 1 3; $B chown 33:34 character",
    "block": "rm block; $B mknod block b 7 0; $B chown 33:34 block",
    "kept": "$B chown 33:34 kept; $B cp -p kept kept-2; $B mv -f kept-2 kept",
    "no-environment": "env -i $(command -v chown) 33:34 no-environment",
    "no-preload": "env -u LD_PRELOAD chown 33:34 no-preload",
    "empty-preload": "LD_PRELOAD= chown 33:34 empty-preload",
    "other-preload": "LD_PRELOAD=/nowhere/lib.so chown 33:34 other-preload",
    "no-library-path": "LD_LIBRARY_PATH=/nowhere chown 33:34 no-library-path",
    "unset": "(unset LD_PRELOAD PATH; /bin/busybox true; $B chown 33:34 unset)",
    "copy": "cp $(command -v chown) mine; chmod 4755 mine; ./mine 33:34 copy; rm mine",
    "symbol": "$RAW symbol-chown symbol",
}


def test_each_program_gives_what_it_wants(runner: Runner) -> None:
    """Static programs, empty environments, other preloads, a library's own symbols: the owner is the one that was given."""
    runner.run("".join(f"echo x > {name}\n{{ {command}; }} >/dev/null 2>&1 || true\n" for name, command in GIVEN.items()))
    found = members(runner.user)
    assert {name: owner(found[name])[:2] for name in GIVEN} == dict.fromkeys(GIVEN, (33, 34))
    assert found["character"].ischr()
    assert (found["character"].devmajor, found["character"].devminor) == (1, 3)
    assert found["block"].isblk()
    assert (found["block"].devmajor, found["block"].devminor) == (7, 0)


OWNERS = ("chown", "lchown", "fchown", "fchownat", "fchownat-empty")
ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr")
NODES = {"mknod-char": (1, 3), "mknod-block": (7, 0)}
I386_OWNERS, I386_ATTRIBUTES, I386_NODES = (
    ("i386-chown", "i386-lchown16", "i386-fchownat"),
    ("i386-setxattr",),
    {"i386-mknod": (1, 3)},
)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_each_bare_system_call_is_recorded(runner: Runner, kind: str) -> None:
    """Every call of the chown, setxattr and device-mknod families counts, whoever makes it by whichever door."""
    program = "$RAW" if kind == "dynamic" else "$STATIC"
    here = platform.machine() == "x86_64"
    owners, attributes = OWNERS + I386_OWNERS * here, ATTRIBUTES + I386_ATTRIBUTES * here
    nodes = NODES | (I386_NODES if here else {})
    calls = (*owners, *attributes, *nodes)
    text = "".join(f"echo x > {kind}-{call}\n" for call in calls if call not in nodes)
    said = runner.run(text + "umask 0\n" + "".join(f"{program} {call} $PWD/{kind}-{call}\n" for call in calls))
    done = dict(line.removeprefix("raw ").split(": ") for line in said.splitlines() if line.startswith("raw "))
    assert done == dict.fromkeys(calls, "0"), said
    found = {call: members(runner.user)[f"{kind}-{call}"] for call in calls}
    assert {call: owner(found[call]) for call in owners} == dict.fromkeys(owners, (33, 33, 0o644))
    assert {call: found[call].pax_headers.get("SCHILY.xattr.user.x") for call in attributes} == dict.fromkeys(attributes, "1")
    assert {call: (found[call].devmajor, found[call].devminor) for call in nodes} == nodes
    assert {found[call].mode for call in nodes} == {0o666, 0o600}


def test_an_attribute_goes_by_a_bare_call(runner: Runner) -> None:
    """A bare removexattr takes an attribute away, and fails where there is none; setxattrat is not there."""
    said = runner.run("echo > f; $RAW removexattr f setxattr f removexattr f setxattrat f")
    assert [line.rpartition(" ")[2] for line in said.splitlines() if line.startswith("raw ")] == ["61", "0", "0", "38"]
    assert not any("xattr" in name for name in members(runner.user)["f"].pax_headers)


def test_doors_without_a_recorder_are_closed(runner: Runner) -> None:
    """io_uring and the x32 calls, which no filter reads, are not there: ENOSYS, and no error by itself."""
    said = runner.run("$RAW io_uring x x32-getpid x\n$STATIC io_uring x x32-getpid x")
    assert [line for line in said.splitlines() if line.startswith("raw")] == ["raw io_uring: 38", "raw x32-getpid: 38"] * 2


ON_X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no other ABI")
REFUSED = {
    **dict.fromkeys(("open", "openat", "truncate", "truncate64"), EACCES),
    **dict.fromkeys(("utime", "utimes", "futimesat", "utimensat", "utimensat-64"), EACCES),
    **dict.fromkeys(("utimensat-times", "link", "linkat"), EPERM),
    **dict.fromkeys(("chdir", "chroot"), ENOTDIR),
}
"""What another user may not do to a file of root's, in i386's ABI, and the error."""


@ON_X86_64
def test_what_another_user_may_not_do_in_the_32_bit_abi(runner: Runner) -> None:
    """The calls of i386 that no other ABI has are refused to another user as the others are."""
    calls = " ".join(f"i386-{name} $PWD/file" for name in REFUSED)
    said = runner.run(f"""
echo > file; mkdir -m 700 closed; mkdir -m 777 free
chroot --userspec=33:34 / $STATIC {calls} i386-chdir $PWD/closed i386-chroot $PWD/free
""")
    found = [line.removeprefix("raw i386-") for line in said.splitlines() if line.startswith("raw ")]
    assert found == [f"{name}: {error}" for name, error in REFUSED.items()] + [f"chdir: {EACCES}", f"chroot: {EPERM}"]


@ON_X86_64
def test_ids_and_sockets_in_the_32_bit_abi(runner: Runner) -> None:
    """Ids of 16 bits, socketcall and the first stats: who somebody is, whom a socket belongs to, who is at its other end."""
    said = runner.run("""
mkdir -m 777 free
chroot --userspec=33:34 / $STATIC i386-bind $PWD/free/socket i386-peer x peer x
chroot --userspec=33:34 --groups=7,8 / $STATIC i386-peer x peer x
$STATIC i386-oldstat free i386-oldlstat free i386-oldfstat x peer x i386-ids x
stat -c 'seen %u:%g' free/socket >&2
""")
    found = [line.removeprefix("raw ") for line in said.splitlines() if line.startswith(("raw ", "seen "))]
    absent = [f"i386-old{kind}: {ENOSYS}" for kind in ("stat", "lstat", "fstat")]
    whole = ["i386-bind: 0", *["i386-peer: 0", "peer: 0"] * 2, *absent, "peer: 0", "i386-ids: 0", "seen 33:34"]
    assert found == whole


def test_a_filter_of_a_programs_own(runner: Runner) -> None:
    """A program that has its chown answered with success by a filter of its own changes nothing, as with real root."""
    runner.run("echo > f; chown 5:6 f; $RAW filtered-chown f; $STATIC filtered-chown f")
    assert owner(members(runner.user)["f"]) == (5, 6, 0o644)


def test_static_programs_make_all_kinds(runner: Runner) -> None:
    """A static program may make, write, link, rename and remove files, directories and fifos: all of it is on disk."""
    runner.run("""
$B mkdir -p d/e
$B mkdir -m 0700 private
$B touch d/f
$B echo text > d/g
$B cp d/g d/h
$B ln d/g d/hard
$B ln -s g d/soft
$B mknod d/p p
$B mkfifo d/q
$B mv d/h d/moved
$B touch gone; $B rm gone
$B chmod 0751 d/moved
$B chmod 4755 d/f
""")
    found = members(runner.user)
    assert owner(found["d/e"]) == (0, 0, 0o755)
    assert owner(found["private"]) == (0, 0, 0o700)
    assert owner(found["d/f"]) == (0, 0, 0o4755)
    assert owner(found["d/g"]) == owner(found["d/hard"]) == (0, 0, 0o644)
    assert owner(found["d/moved"]) == (0, 0, 0o751)
    assert found["d/soft"].linkname == "g"
    assert found["d/p"].isfifo()
    assert found["d/q"].isfifo()
    assert "gone" not in found


def test_all_programs_see_the_same(runner: Runner) -> None:
    """Static programs and dynamic ones see the owners, modes and devices that the others gave."""
    said = runner.run("""
echo > a; chown 33:34 a; chmod 4711 a
echo > b; $B chown 35:36 b; $B chmod 2755 b
mknod c c 5 1; $B mknod d b 7 3
stat -c 'seen %n %u:%g %a %F %t,%T' a b c d >&2
$B stat -c 'seen %n %u:%g %a %F %t,%T' a b c d >&2
find . -maxdepth 1 -user 33 2>/dev/null || true
""")
    seen = [line.removeprefix("seen ") for line in said.splitlines() if line.startswith("seen ")]
    assert len(seen) == 8
    assert seen[:4] == seen[4:] == [
        "a 33:34 4711 regular file 0,0",
        "b 35:36 2755 regular file 0,0",
        "c 0:0 644 character special file 5,1",
        "d 0:0 644 block special file 7,3",
    ]  # fmt: skip


def test_what_is_everybodys_in_proc_is_roots(runner: Runner) -> None:
    """/proc and its files that no process has for itself are root's for every builder; a process's own are as they are."""
    said = runner.run("""
for program in stat "$B stat"; do $program -c 'seen %u:%g %n' /proc /proc/cpuinfo /proc/version /proc/self/stat /proc/thread-self/comm >&2; done
cd /proc; for program in stat "$B stat"; do $program -c 'seen %u:%g %n' . cpuinfo self/stat >&2; done
""")
    seen = [line.split()[1] for line in said.splitlines() if line.startswith("seen ")]
    assert seen == ["0:0"] * 16, said


FREED = {
    "a static rm": "$B rm a",
    "a static rename over it": "echo y > a-2; $B mv -f a-2 a",
    "a static program's removal of its directory": "mkdir dir; mv a dir/a; $B rm -r dir",
    "a bare unlink": "$RAW unlink a",
    "a bare unlinkat": "$STATIC unlinkat a",
    "the C library's own symbol": "$RAW symbol-unlink a",
    "unlink in the 32-bit ABI": "$RAW i386-unlink a",
    "the C library's renameat2": "echo y > a-2; $RAW renameat2-over a",
    "a bare renameat2": "echo y > a-2; $RAW renameat2-raw a",
    "a bare rename": "echo y > a-2; $RAW rename-over a",
    "rm": "rm a",
    "mv": "echo y > a-2; mv -f a-2 a",
}
TIMES = 15


def test_a_freed_inode_hands_on_no_owner(runner: Runner) -> None:
    """The row of a file that went never becomes that of a new file, which the file system may give its inode."""
    attempts = "".join(
        f"""mkdir {number}; cd {number}; i=0
while [ $i -lt {TIMES} ]; do
    echo x > a; chown 33:33 a; chmod 4711 a
    {{ {freeing}; }} > /dev/null
    echo secret > b$i; test $((i%2)) = 0 || chmod 0640 b$i  # a mode that would not give it away
    i=$((i+1))
done; cd ..
"""
        for number, freeing in enumerate(FREED.values())
    )
    runner.run(attempts)
    found = members(runner.user)
    right = [(0, 0, 0o640 if i % 2 else 0o644) for i in range(TIMES)]
    made = {what: [owner(found[f"{number}/b{i}"]) for i in range(TIMES)] for number, what in enumerate(FREED)}
    assert made == dict.fromkeys(FREED, right)


def test_a_freed_directory_hands_on_no_owner(runner: Runner) -> None:
    """The same holds for directories and for devices."""
    runner.run(f"""
i=0
while [ $i -lt {TIMES} ]; do
    mkdir d; chown 33:33 d; chmod 2711 d; $B rmdir d
    $B mkdir e$i
    mknod n c 5 1; chown 33:33 n; $B rm n
    $B touch f$i
    i=$((i+1))
done""")
    found = members(runner.user)
    assert {owner(found[f"e{i}"]) for i in range(TIMES)} == {(0, 0, 0o755)}
    assert {owner(found[f"f{i}"]) for i in range(TIMES)} == {(0, 0, 0o644)}
    assert all(found[f"f{i}"].isreg() for i in range(TIMES))


@pytest.mark.parametrize("nameless", ["open-unlink-fchown a", "tmpfile-fchown ."])
@pytest.mark.parametrize("disguise", ["", "chmod 0640 b", "chgrp 0 b; chmod 0640 b"])
def test_a_nameless_file_hands_on_no_owner(runner: Runner, nameless: str, disguise: str) -> None:
    """What fchown gives a file without a name is not taken for the owner of the next file with that inode."""
    text = f"""
i=0
while [ $i -lt {TIMES} ]; do
    rm -f b
    $RAW {nameless} > /dev/null
    echo secret > b; {disguise}
    i=$((i+1))
done"""
    runner.leaves(text, {"b": (0, 0, 0o640 if disguise else 0o644)})


def test_nameless_files_that_are_closed_do_not_count(runner: Runner) -> None:
    """A program that makes one after the other, and closes them, makes as many as it likes; one that is open keeps its owner."""
    runner.leaves("$RAW tmpfiles . > /dev/null; echo > done", {"done": (0, 0, 0o644)})


def test_a_file_that_gets_its_name_last(runner: Runner) -> None:
    """A file made without a name, chown'ed and then linked into the tree has that owner."""
    runner.leaves("$RAW tmpfile-link whole > /dev/null", {"whole": (33, 33, 0o644)})


MODES = {
    # Modes that different programs give to one file, and what real root would have.
    "file": ("echo > f; chown 1 f; chmod 0640 f; $B chmod 0755 f", "f", (1, 0, 0o755)),
    "back again": ("echo > f; chown 1 f; chmod 0640 f; $B chmod 0755 f; chmod 0640 f", "f", (1, 0, 0o640)),
    "owner's bits only": ("echo > f; chown 1 f; chmod 0644 f; $B chmod 0044 f", "f", (1, 0, 0o44)),
    "none": ("echo > f; chmod 0600 f; $STATIC chmod f; $B chmod 0 f", "f", (0, 0, 0)),
    "directory": ("mkdir d; $B chmod 0700 d", "d", (0, 0, 0o700)),
    "directory, owner's bits": ("mkdir d; chmod 0755 d; $B chmod 0455 d", "d", (0, 0, 0o455)),
    "set-user-ID": ("echo > f; chown 1 f; chmod 0755 f; $B chmod 4755 f", "f", (1, 0, 0o4755)),
    "no set-user-ID": ("echo > f; chown 1 f; chmod 4755 f; $B chmod 0755 f", "f", (1, 0, 0o755)),
    "through a link": ("echo > f; chown 1 f; chmod 0640 f; ln -s f g; $B chmod 0755 g", "f", (1, 0, 0o755)),
    "by descriptor": ("echo > f; chown 1 f; chmod 0640 f; $RAW fchmod f", "f", (1, 0, 0o700)),
    "by fchmodat2": ("echo > f; chown 1 f; chmod 0640 f; $RAW fchmodat2 f", "f", (1, 0, 0o700)),
    "by the library's own symbol": ("echo > f; chown 1 f; chmod 4640 f; $RAW symbol-chmod f", "f", (1, 0, 0o700)),
    "in the 32-bit ABI": ("echo > f; chown 1 f; chmod 0640 f; $RAW i386-chmod f", "f", (1, 0, 0o700)),
    "before the row": ("echo > f; $B chmod 0711 f; chown 1 f", "f", (1, 0, 0o711)),
}


@pytest.mark.parametrize("case", MODES)
def test_each_mode_is_the_last_one(runner: Runner, case: str) -> None:
    """The mode in the layer is the last one that any program gave."""
    text, path, right = MODES[case]
    runner.leaves(text, {path: right})


@pytest.mark.parametrize("removal", ["$B rm -r t", "rm -r t"])
def test_many_removals(runner: Runner, removal: str) -> None:
    """A script may remove more files than the recorder may open."""
    text = f"mkdir t; i=0; while [ $i -lt 600 ]; do echo > t/$i; i=$((i+1)); done; chown -R 5 t; {removal}"
    script = runner.user.script(f"{names(runner.view)}cd ${{TOP:-/}}; {text}\n")
    command = [*COMMAND, "build", "-o", str(runner.user.home / "layer"), *runner.options, "--view", runner.view]
    result = runner.user.run(["sh", "-c", 'ulimit -n 300; exec "$@"', "sh", *command, "--script", str(script)])
    assert result.status == 0, result.err[:2000]
    assert_nothing_left(runner.user)


def test_a_regular_file_by_mknod(user: User) -> None:
    """mknod of a regular file makes one, with its mode."""
    words = ["python3", "-c", "import os, stat; os.mknod('made', stat.S_IFREG | 0o600)"]
    assert user.build("--view", "directory", "--", *words).status == 0
    assert owner(members(user)["made"]) == (0, 0, 0o600)
