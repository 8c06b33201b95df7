"""A source never changes, whatever a script does: every attack known here, with namespaces and without."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers.aftermath import CONFINED, PROGRAMS, assert_nothing_left, assert_said, marked, names
from helpers.effort import EVERY
from helpers.hostile import END, VICTIM, Field, Stores, python_options
from helpers.running import VIEWS
from helpers.stores import Store, fingerprint
from helpers.users import Result, User

pytestmark = pytest.mark.slow


def quietly(text: str) -> str:
    """Make every line of a script an attempt that may fail."""
    return "".join(f"{line} || :\n" for line in text.strip().splitlines())


SHELL_ATTACK = quietly("""
$P chmod 0777 $at/data $at/folder $at
$P chmod -R u+w,g+s $at
$P chown -R 33:33 $at
$P chown -h 33:33 $at/link
$P touch -d @86400 $at/data $at/folder $at
$P touch -h -d @86400 $at/link
$P truncate -s 3 $at/data
$P dd if=/dev/zero of=$at/data bs=1 count=2 conv=notrunc
sh -c "echo changed > $at/data"
sh -c "echo changed >> $at/twin"
sh -c "echo new > $at/new"
$P ln $at/data $TOP/out && echo changed >> $TOP/out && $P chmod 0777 $TOP/out
$P ln -f $TOP/mine $at/data
$P ln -sf /etc/passwd $at/link
$P cp $TOP/mine $at/data
$P cp -f $TOP/mine $at/data
$P install -m 0777 $TOP/mine $at/program
$P mv -f $TOP/mine $at/data
$P mv $at/folder/inner $TOP/taken
$P mkdir $at/folder/new
$P mknod $at/node c 1 3
$P mknod $at/pipe p
$P rm -f $at/empty
$P rmdir $at/folder
$P rm -rf $at
$P mv $at $TOP/away
""")

MOUNT_ATTACK = quietly("""
$B mount -o remount,rw $at
$B mount -o remount,bind,rw $at
$B mount -o remount,rw /
$B mount --bind $TOP $at
$B umount $at
$B umount -l $at
$B unshare -Ur chmod 0777 $at/data
$B unshare -Urm sh -c "mount -o remount,bind,rw $at; chmod 0777 $at/data; echo changed > $at/data"
$B unshare -Urm sh -c "umount -l $at; chmod 0777 $at/data; echo changed > $at/data"
$B unshare -Urm sh -c "mount --bind $at /mnt; mount -o remount,bind,rw /mnt; echo changed > /mnt/data"
$B unshare -Urm sh -c "mount --rbind / $TOP/mine; umount -l $TOP/mine$at; rm -rf $TOP/mine$at"
$B chroot /proc/1/root /bin/sh -c "echo changed > $at/data"
$B nsenter -t 1 -m -- sh -c "echo changed > $at/data"
setfattr -n user.changed -v 1 $at/data
setfattr -x user.changed $at/data
setcap cap_net_raw+ep $at/program
""")


def shell_attack(view: str, prefix: str) -> str:
    """Attack every source by every name that a shell has for it."""
    return f"""{names(view)}
P={prefix}
for base in $TOP{VICTIM} $SOURCES /proc/self/root{VICTIM} /proc/1/root{VICTIM} /proc/1/cwd$SOURCES; do
    for at in $base $base/etc; do
        test -d $at || continue
        mkdir -p $TOP/mine && rmdir $TOP/mine; echo mine > $TOP/mine
        for file in $at/etc/* $at/*; do
            test -d $file || {{
                $P chmod 0777 $file; $P chown 33:33 $file; $P touch -d @5 $file; sh -c "echo x >> $file"
            }} || :
        done
{SHELL_ATTACK}{MOUNT_ATTACK}
    done
done 2>/dev/null
$P chmod -R 0777 $TOP/etc || :
$P chown -R 33 $TOP/etc || :
sh -c "echo changed > $TOP/etc/contents-file" || :
echo {END}
"""


RAW_CALLS = ("chmod", "fchmod", "fchmodat2", "i386-chmod", "truncate", "open-write", "chown", "fchown", "setxattr", "unlink", "i386-unlink",
             "rename-over", "renameat2-over", "renameat2-exchange", "mknod-char", "mknod-fifo", "handle")  # fmt: skip


def raw_attack(view: str) -> str:
    """Attack every source with bare system calls."""
    calls = " ".join(f"{name} $file" for name in RAW_CALLS)
    return f"""{names(view)}
for program in $RAW $STATIC; do
    for base in $TOP{VICTIM} $SOURCES; do
        for file in $base/data $base/folder $base/link $base/program $base/etc/* $base/*-program; do
            $program {calls} | while read -r _ call result; do
                test "$call $result" != "handle: 0" || echo "ESCAPED by $call"
            done
        done
    done
    test "$TOP" || for source in $SOURCES; do
        $program chroot-twice $source | while read -r _ call result; do
            test $result != 0 || echo "ESCAPED by $call"
        done
    done
    $program attach 1 kill 1 stop 1
done
echo {END}
"""


def attack(kind: str, view: str) -> str:
    """Give one of the attacking scripts."""
    if kind == "raw":
        return raw_attack(view)
    if kind == "python":
        python = "python3" if view == "directory" else "python3.11"
        return f"{names(view)}cat > $TOP/attack.py <<'END'\n{(PROGRAMS / 'attack.py').read_text()}\nEND\n{python} -B $TOP/attack.py $TOP{VICTIM} $SOURCES\n"
    return shell_attack(view, "$B" if kind == "busybox" else "")


# The kernel lets nobody link files that are not theirs (fs.protected_hardlinks).
FIELDS = ((True, "bind"), (True, "copy"), (True, "hardlink"), (False, "bind"), (False, "copy"))
ATTACKS = [
    pytest.param((owned, "python_stores" if (kind, view) == ("python", "root") else "stores"), kind, view, stage,
                 id=f"{kind}-{view}-{stage}-{'owned' if owned else 'foreign'}")
    for turn, kind in enumerate(("coreutils", "busybox", "python", "raw"))
    for number, (owned, stage) in enumerate(FIELDS)
    for view in (VIEWS if EVERY or number == 0 else (VIEWS[(turn + number) % 2],))
]  # fmt: skip


@pytest.mark.parametrize(("field", "kind", "view", "stage"), ATTACKS, indirect=["field"])
def test_no_source_changes(field: Field, tools: Path, kind: str, stage: str, view: str) -> None:
    """After every attack known here the sources are what they were: to the byte, the inode and the nanosecond."""
    before = field.fingerprint()
    script = field.user.script(attack(kind, view))
    options = [*field.options(tools), *python_options(field.store), "--view", view, "--stage", stage, "--blob", "derived"]
    result = field.user.build(*options, "--script", script)
    for was, now in zip(before, field.fingerprint(), strict=True):
        assert {path: (was.get(path), now.get(path)) for path in was.keys() | now.keys() if was.get(path) != now.get(path)} == {}
    assert END in result.err, result.err[-3000:]
    assert "ESCAPED" not in result.err, result.err[-3000:]
    # Its wishes are on record: no such layer comes out.
    assert result.status == 77, result.err[-3000:]
    assert "Traceback" not in result.err, result.err[-3000:]
    assert not (field.user.home / "layer").exists()
    assert_nothing_left(field.user)


@pytest.fixture
def machine_without_namespaces(users: list[User]) -> list[tuple[User, list[str]]]:
    """Everybody, with the words before a command that take the namespaces away."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a machine on which root has no namespaces")
    return [(one, [sys.executable, str(CONFINED), "root" if one.is_root else "user"]) for one in users]


def build_without_namespaces(user: User, confined: list[str], store: Store, *words: str | Path) -> Result:
    """Build where nothing can be mounted."""
    return user.run([
        *confined, sys.executable, "-m", "rootless_layer", "build", "-o", user.home / "layer", *store.options, *marked(user), *words,
    ])  # fmt: skip


def with_view(everybody: list[tuple[User, list[str]]], view: str) -> list[tuple[User, list[str]]]:
    """Leave out those who have no root view at all without namespaces."""
    return [(user, confined) for user, confined in everybody if view == "directory" or user.is_root]


def test_a_chroot_is_not_left(machine_without_namespaces: list[tuple[User, list[str]]], store: Store, tools: Path) -> None:
    """Where root has no namespaces the root view is a chroot, and the known ways out of one are closed."""
    user, confined = machine_without_namespaces[0]
    canary = user.home / "canary"
    canary.write_text("untouched\n")
    text = f"""{names("root")}
for program in $RAW $STATIC; do
    $program chroot-twice {canary} handle . attach 1 mknod-block disk
done
python3 -c '' 2>/dev/null || :
echo {END}
"""
    result = build_without_namespaces(user, confined, store, "--copy-to-root", tools, "--script", user.script(text))
    assert END in result.err, result.err
    results = [line.split() for line in result.err.splitlines() if line.startswith("raw ")]
    assert len(results) == 8, result.err
    assert {words[1] for words in results if words[2] == "0"} <= {"mknod-block:"}  # which is recorded, and no device
    assert "left:" not in result.err, result.err
    assert canary.read_text() == "untouched\n"
    assert_nothing_left(user)


@pytest.mark.parametrize("view", VIEWS)
def test_without_namespaces_a_source_is_checked(
    machine_without_namespaces: list[tuple[User, list[str]]], stores: Stores, view: str
) -> None:
    """Where nothing can be mounted, --stage hardlink lets a script reach the store: the build fails and says so."""
    for user, confined in with_view(machine_without_namespaces, view):
        store = stores.of(user.name, optimised=False)
        text = f"{names(view)}chmod u+w $TOP{VICTIM}/data\ntouch -d @5 $TOP{VICTIM}/data\n"
        script = user.script(text)
        before = os.stat(f"{store.root}{VICTIM}/data")
        result = build_without_namespaces(user, confined, store, "--stage", "hardlink", "--view", view, "--script", script)
        os.chmod(f"{store.root}{VICTIM}/data", before.st_mode)
        os.utime(f"{store.root}{VICTIM}/data", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert result.status in {66, 77}, result.err
        assert f"{VICTIM}/data" in result.err
        assert "left:" not in result.err, result.err
        assert not (user.home / "layer").exists()
        assert_nothing_left(user)


@pytest.mark.parametrize("view", VIEWS)
def test_without_namespaces_copies_protect_the_sources(
    machine_without_namespaces: list[tuple[User, list[str]]], stores: Stores, view: str
) -> None:
    """Where nothing can be mounted the store is copied: a wish on it is an error as elsewhere, and the store is as it was."""
    for user, confined in with_view(machine_without_namespaces, view):
        store = stores.of(user.name, optimised=True)
        before = fingerprint(store.root)
        for text in (
            f"chown 33 $TOP{VICTIM}/data",
            f"chmod u+w $TOP{VICTIM}/data; echo x > $TOP{VICTIM}/data",
            f"rm -rf $TOP{VICTIM}",
        ):
            script = user.script(f"{names(view)}{text}\n")
            result = build_without_namespaces(user, confined, store, "--view", view, "--script", script)
            assert_said(result, 77, VICTIM)
            assert "left:" not in result.err, result.err
        assert fingerprint(store.root) == before
        assert_nothing_left(user)
