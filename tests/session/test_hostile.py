"""A source never changes, whatever a script does: not the store, not a tree, not the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import (
    CONFINED,
    PROGRAMS,
    assert_nothing_left,
    assert_said,
    make_tools,
    marked,
    members,
    names,
    owner,
)
from helpers.effort import EVERY
from helpers.place import PLACE, in_memory, make_folder, once, remove
from helpers.stores import Store, fingerprint, shared_store, store_of
from helpers.users import SOMEBODY, Result, User

pytestmark = pytest.mark.slow

VICTIM = "/nix/store/11111111111111111111111111111111-victim"
LINK = "/nix/store/22222222222222222222222222222222-link"
FILE = "/nix/store/33333333333333333333333333333333-file"
VIEWS = ("root", "directory")
END = "reached the end"
"""What an attacking script says last: nothing stopped it half-way."""


def make_victim(root: Path, *, optimised: bool) -> None:
    """Add three store paths to attack: a directory, a link and a file."""
    victim = root / VICTIM[1:]
    (victim / "folder").mkdir(parents=True)
    (victim / "data").write_text("the store's\n")
    (victim / "folder/inner").write_text("further within\n")
    (victim / "program").write_text("#!/bin/sh\n")
    (victim / "empty").write_text("")
    (victim / "link").symlink_to("data")
    if optimised:
        (victim / "twin").hardlink_to(victim / "data")
    else:
        shutil.copyfile(victim / "data", victim / "twin")
    (root / LINK[1:]).symlink_to(f"{VICTIM}/data")
    (root / FILE[1:]).write_text("a store path that is a file\n")
    for path in ("data", "folder/inner", "empty", "twin"):
        (victim / path).chmod(0o444)
    for path in ("program", "folder", "."):
        (victim / path).chmod(0o555)
    (root / FILE[1:]).chmod(0o444)
    with (root / "graph").open("a") as graph:
        graph.writelines(f"{path}\n\n0\n" for path in (VICTIM, LINK, FILE))


@attrs.frozen
class Stores:
    """The same closure by owner, with every file hard linked elsewhere or none; made when first attacked."""

    folder: Path
    like: Store
    made: dict[tuple[str, bool], Store] = attrs.field(factory=dict)

    def of(self, owner: str, *, optimised: bool) -> Store:
        """Give the store of root's or of somebody's."""
        if (owner, optimised) not in self.made:
            folder = self.folder if owner == "root" or os.geteuid() != 0 else in_memory(self.folder)  # where its owner's home is
            root = folder / f"{self.like.root.name}-{owner}-{optimised}"
            subprocess.run(["cp", "-a", self.like.root, root], check=True)
            make_victim(root, optimised=optimised)
            if owner != "root" and os.geteuid() == 0:
                subprocess.run(["chown", "-hR", f"{SOMEBODY}:{SOMEBODY}", root], check=True)
            if optimised:
                subprocess.run(["cp", "-al", root, f"{root}-twin"], check=True)
            self.made[owner, optimised] = store_of(root, root / "graph")
        return self.made[owner, optimised]


@pytest.fixture(scope="module")
def stores(shared: Path) -> Stores:
    """Give stores to attack, of this process's, with a shell, coreutils, setfattr and setcap."""
    return Stores(shared, shared_store("bash", "coreutils", "attr", "libcap2-bin"))


@pytest.fixture(scope="module")
def python_stores(shared: Path) -> Stores:
    """Give stores with Python, too."""
    return Stores(shared, shared_store("bash", "coreutils", "python3.11-minimal"))


@pytest.fixture(scope="module")
def tools(stores: Stores) -> Path:
    """Programs that libfakeroot does not see."""
    return once("hostile-tools", lambda folder: make_tools(folder, stores.like))


@attrs.frozen
class Field:
    """Everything that a script must not change, and the options that show it to the script."""

    user: User
    store: Store
    contents: Path
    rootfs: Path
    canary: Path

    def fingerprint(self) -> list[dict[str, tuple[object, ...]]]:
        """Say everything about every source, and about the machine's nodes that scripts see."""
        nodes: dict[str, tuple[object, ...]] = {
            name: (os.stat(f"/dev/{name}").st_mode, os.stat(f"/dev/{name}").st_uid) for name in ("null", "zero", "full", "random")
        }
        return [nodes, *(fingerprint(folder) for folder in (self.store.root, self.contents, self.rootfs, self.canary))]

    def options(self, tools: Path) -> list[str]:
        """Give the options of a build with all of them."""
        return [
            *self.store.options, "--copy-to-root", str(tools), "--copy-to-root", str(self.contents), "--rootfs", str(self.rootfs),
            "--copy-to-root", VICTIM, *marked(self.user),
            "--env", f"SOURCES={self.store.root}{VICTIM} {self.contents} {self.rootfs} {self.canary}",
        ]  # fmt: skip


@pytest.fixture
def field(user: User, request: pytest.FixtureRequest) -> Field:
    """Sources owned by who runs the build, hard linked (the worst case), or by another user."""
    owned, programs = getattr(request, "param", (True, "stores"))
    stores: Stores = request.getfixturevalue(programs)
    if not owned and os.geteuid() != 0:
        pytest.skip("only root can make sources that are another user's")
    name = user.name if owned else {"root": "somebody", "somebody": "root"}[user.name]
    for folder in ("contents", "rootfs", "canary"):
        (user.home / folder / "etc").mkdir(parents=True)
        (user.home / folder / "etc" / f"{folder}-file").write_text(f"the {folder}'s\n")
        (user.home / folder / f"{folder}-program").write_text("#!/bin/sh\n")
        (user.home / folder / f"{folder}-program").chmod(0o755)
        if os.geteuid() == 0:
            owning = SOMEBODY if name == "somebody" else 0
            subprocess.run(["chown", "-hR", f"{owning}:{owning}", user.home / folder], check=True)
    return Field(user, stores.of(name, optimised=owned), user.home / "contents", user.home / "rootfs", user.home / "canary")


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
    """Attack every source with bare system calls, seen by no library."""
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


def python_options(store: Store) -> list[str]:
    """Tell the closure's Python where its library is."""
    library = next((path for name, path in store.paths.items() if name.startswith("libpython3.11-minimal-")), None)
    return ["--env", f"PYTHONHOME={library}"] if library else []


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


def by_turns(number: int) -> tuple[str, ...]:
    """Give the ways to stage the store for the test of a number: both of them, else one or the other."""
    return ("bind", "copy") if EVERY else (("bind", "copy")[number % 2],)


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
    # Its wishes are on record, or its programs went around it: no such layer comes out.
    assert result.status in {76, 77}, result.err[-3000:]
    assert "Traceback" not in result.err, result.err[-3000:]
    assert not (field.user.home / "layer").exists()
    assert_nothing_left(field.user)


WISHES = {
    "chown": f"chown 33:33 $TOP{VICTIM}/data",
    "chgrp of a directory": f"chgrp 33 $TOP{VICTIM}/folder",
    "chown of a link": f"chown -h 33 $TOP{VICTIM}/link",
    "chown of the whole": f"chown -R 33:33 $TOP{VICTIM}",
    "chown of a file": f"chown 33 $TOP{FILE}",
    "chmod": f"chmod u+s $TOP{VICTIM}/program || :",
    "chmod of the top": f"chmod 0700 $TOP{VICTIM} || :",
    "setcap": f"setcap cap_net_raw+ep $TOP{VICTIM}/program",
    "setfattr": f"setfattr -n user.wish -v 1 $TOP{VICTIM}/data",
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_to_change_the_store_fails(field: Field, wish: str, view: str) -> None:
    """Fakeroot grants a wish on a store file; the build fails with 77 naming it, however the store is staged."""
    before = fingerprint(field.store.root)
    script = field.user.script(names(view) + WISHES[wish] + "\n")
    said = set()
    alike = " of " not in wish and not wish.startswith(("chown", "setfattr"))  # those have a second name in the store
    turns = by_turns([*WISHES].index(wish) + VIEWS.index(view))
    for stage in ("bind", "copy", "hardlink") if wish == "chown" else ("bind", "copy") if alike else turns:
        result = field.user.build(
            *field.store.options, *marked(field.user), "--script", script, "--view", view, "--stage", stage, "--blob", "derived"
        )
        assert_said(result, 77, FILE if FILE in WISHES[wish] else VICTIM, "--closure-writable")
        assert not (field.user.home / "layer").exists()
        said.add("\n".join(line for line in result.err.splitlines() if "store paths are" not in line))
    if alike:
        assert len(said) == 1, said
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


def test_a_wish_to_change_a_tool_fails(field: Field) -> None:
    """What scripts only see is as immutable as what is in the layer: 77 for every wish, and for a move, each path named."""
    user, before = field.user, fingerprint(field.store.root)
    options = ["--tools", field.store.graph, "--store-root", field.store.root, *marked(user)]
    granted = f"chown -R 0:0 {VICTIM}; chmod 0444 {VICTIM}/data || :; ln -s {VICTIM} /seen"
    assert user.build(*options, "--", "sh", "-c", granted).status == 0
    assert sorted(members(user)) == ["seen"]
    remove(user.home / "layer")
    wishes = {
        f"chown 33 /seen/data; chmod u+s {VICTIM}/program; chown -h 33 {LINK}; chgrp 5 {FILE}": (
            f"{VICTIM}/(data|twin)",
            f"{VICTIM}/program",
            LINK,
            FILE,
        ),
        f"setfattr -n user.wish -v 1 {VICTIM}/data; rm -f {LINK}": (f"{VICTIM}/(data|twin)", LINK),
        f"setcap cap_net_raw+ep {VICTIM}/program": (f"{VICTIM}/program",),
        "mv /nix/store /elsewhere": (VICTIM, FILE),
    }
    for text, named in wishes.items():
        result = user.build(*options, "--", "sh", "-c", f"ln -s {VICTIM} /seen; {text}; true", output="changed")
        assert_said(result, 77, *named)
        assert not (user.home / "changed").exists()
    assert fingerprint(field.store.root) == before
    assert_nothing_left(user)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("stage", ["bind", "copy"])
def test_a_wish_for_what_is_already_so_is_granted(field: Field, stage: str, view: str) -> None:
    """A script may give a store file the owner and the mode that it has: the layer is as without the script."""
    text = f"{names(view)}chown -R 0:0 $TOP{VICTIM}\nchmod 0444 $TOP{VICTIM}/data || :\nchmod 0555 $TOP{VICTIM}/folder || :\n"
    script = field.user.script(text)
    options = [*field.store.options, *marked(field.user)]
    plain = field.user.build(*options, output="plain").layer
    assert field.user.build(*options, "--script", script, "--view", view, "--stage", stage).layer["digest"] == plain["digest"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_writable_closure_takes_every_wish(field: Field, view: str) -> None:
    """With --closure-writable the layer has what the script made of the store paths, and the store stays as it was."""
    before = fingerprint(field.store.root)
    text = f"""{names(view)}set -e
at=$TOP{VICTIM}
chown 33:34 $at/data
chmod 4755 $at/program
setcap cap_net_raw+ep $at/folder/inner
chmod u+w $at/twin
echo changed >> $at/twin
chmod u+w $at $at/folder
echo new > $at/new
rm $at/empty
mv $at/folder/inner $at/inner
chown -h 5:6 $at/link
rm $TOP{LINK}
chown 7 $TOP{FILE}
"""
    script = field.user.script(text)
    options = [*field.store.options, *marked(field.user), "--closure-writable", "--script", str(script), "--view", view]
    digests = {field.user.build(*options, "--stage", stage).layer["digest"] for stage in ("auto", "bind", "copy", "hardlink")}
    assert len(digests) == 1
    found = members(field.user)
    at = VICTIM[1:]
    assert owner(found[f"{at}/data"]) == (33, 34, 0o444)
    assert owner(found[f"{at}/program"]) == (0, 0, 0o4755)
    assert "SCHILY.xattr.security.capability" in found[f"{at}/inner"].pax_headers
    assert found[f"{at}/twin"].size == len("the store's\nchanged\n")
    assert found[f"{at}/new"].size == 4
    assert owner(found[f"{at}/link"])[:2] == (5, 6)
    assert owner(found[FILE[1:]]) == (7, 0, 0o444)
    assert f"{at}/empty" not in found
    assert LINK[1:] not in found
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


REPLACED = {
    "a link removed": f"rm $TOP{LINK}",
    "a link replaced": f"ln -sfn /etc $TOP{LINK}",
    "a link made a file": f"rm $TOP{LINK}; echo > $TOP{LINK}",
    "a link touched": f"touch -h -d @5 $TOP{LINK}",
    "a file removed": f"rm -f $TOP{FILE} || mv $TOP{FILE} $TOP/away || :; chown 3 $TOP{FILE} || :",
    "the store moved": "mv $TOP/nix/store $TOP/nix/elsewhere || chown 3 $TOP" + FILE,
    "the store moved and remade": f"mv $TOP/nix $TOP/old && $B mkdir -p $TOP{VICTIM}",
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("what", REPLACED)
def test_a_store_path_stays_in_its_place(field: Field, tools: Path, what: str, view: str) -> None:
    """A store path, be it a link or a file, cannot be moved, removed or replaced: 77, and it is named."""
    before = fingerprint(field.store.root)
    script = field.user.script(names(view) + REPLACED[what] + "\n")
    for stage in by_turns([*REPLACED].index(what) + VIEWS.index(view)):
        options = [*field.store.options, "--copy-to-root", tools, *marked(field.user), "--view", view, "--stage", stage]
        result = field.user.build(*options, "--script", script, "--blob", "derived")
        assert_said(result, 77, "/nix/store/")
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


def test_the_roots_copy_of_a_store_file_is_the_scripts_own(field: Field) -> None:
    """What --copy-to-root puts in the root may be changed in every way; the store file, linked or not, keeps its own."""
    before = field.fingerprint()
    script = field.user.script(
        "chown 33:33 /data; chmod 4711 /program; setcap cap_net_raw+ep /folder/inner; echo more >> /twin; rm /empty; touch /link\n"
    )
    digests = set()
    for stage in ("bind", "copy", "hardlink"):
        options = [*field.store.options, "--copy-to-root", VICTIM, *marked(field.user), "--script", script, "--stage", stage]
        digests.add(field.user.build(*options).layer["digest"])
    assert len(digests) == 1
    found = members(field.user)
    assert owner(found["data"]) == (33, 33, 0o444)
    assert owner(found["program"]) == (0, 0, 0o4711)
    assert owner(found[VICTIM[1:] + "/data"]) == (0, 0, 0o444)
    assert owner(found[VICTIM[1:] + "/program"]) == (0, 0, 0o555)
    assert not found[VICTIM[1:] + "/folder/inner"].pax_headers
    assert field.fingerprint() == before


def test_the_machines_nodes_stay_as_they_are(user: User, store: Store) -> None:
    """A script that changes a device node of the root view changes its own tree, not the machine's node."""
    before = os.stat("/dev/full").st_mode, os.stat("/dev/full").st_mtime
    script = user.script("chmod 667 /dev/full || :\ntouch -d @5 /dev/full || :\nrm -f /dev/full || :\nchown 7 /dev/zero\n")
    try:
        result = user.build(*store.options, "--script", script)
        after = os.stat("/dev/full").st_mode, os.stat("/dev/full").st_mtime
    finally:
        if user.is_root:
            os.chmod("/dev/full", 0o666)
    assert after == before
    assert result.status == 0, result.err


def test_a_store_path_is_not_changed_by_its_place_on_the_machine(user: User) -> None:
    """In the directory view the sources of the closure and of the tools are seen; a wish to change one there is 77, however staged."""
    path = "/nix/store/00000000000000000000000000000001-a"
    root = user.home / "elsewhere"
    (root / path[1:]).mkdir(parents=True)
    (root / path[1:] / "x").touch()
    (user.home / "graph").write_text(path + "\n")
    given = ["--store-root", root, "--view", "directory"]
    for words in (["--closure", "graph", "--stage", "bind"], ["--closure", "graph", "--stage", "copy"], ["--tools", "graph"]):
        assert_said(user.build(*words, *given, "--", "chown", "5", root / path[1:] / "x"), 77, f"{path}/x: ")


def test_what_stands_for_the_view_only_stays_in_its_place(user: User, big_store: Store) -> None:
    """Nothing that is mounted for the scripts gets into the layer under another name; an attribute of a device does under its own."""
    script = user.script(
        "! mv /dev /d\n! mv /.rootless-layer /r\n! touch /.rootless-layer/x\n! mv /proc /p\n"
        "mkdir /dev/own\nmv /dev/own /own\nmknod /dev/other c 1 3\nmv /dev/other /dev/mine\n"
        "setfattr -n user.a -v b /dev/null\n"
    )
    result = user.build(*big_store.options, "--script", script)
    assert result.status == 0, result.err
    found = members(user)
    made = {path for path in found if not path.startswith("nix")}
    assert made == {"dev", "dev/mine", "dev/null", "own"}, made
    assert found["dev/null"].pax_headers == {"SCHILY.xattr.user.a": "b"}


@pytest.mark.parametrize("view", VIEWS)
def test_no_disk_of_the_machine_can_be_opened(user: User, python_stores: Stores, view: str) -> None:
    """No block device, nor the machine's memory, can be opened by a script: found in /dev, or made by mknod."""
    python = "python3" if view == "directory" else "python3.11"
    text = """
import os, stat
found = [os.path.join(here, name) for here, _, files in os.walk("/dev") for name in files]
number = os.stat("/").st_dev
for name, kind, device in (("block", stat.S_IFBLK, number), ("memory", stat.S_IFCHR, os.makedev(1, 1))):
    try:
        os.mknod(name, kind | 0o600, device)
        found.append(os.path.abspath(name))
    except OSError:
        pass
for path in found:
    status = os.stat(path)
    if os.path.abspath(path).startswith("/dev") and not stat.S_ISBLK(status.st_mode) and path not in ("/dev/mem", "/dev/port", "/dev/kmsg"):
        continue
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            descriptor = os.open(path, flags | os.O_NONBLOCK)
            # What fakeroot calls a device is an empty file; a real one has an entry in /sys/dev, or gives bytes.
            if path.startswith("/dev/") or os.read(descriptor, 1):
                print("REACHED", path, flags)
            os.close(descriptor)
        except OSError:
            pass
print("reached the end")
"""
    script = user.script(f"cat > probe.py <<'END'\n{text}\nEND\n{python} probe.py\nrm probe.py\n")
    python_home = python_options(python_stores.like) if view == "root" else []
    result = user.build(*python_stores.like.options, *python_home, "--script", script, "--view", view, "--blob", "derived")
    assert END in result.err
    assert "REACHED" not in result.err, result.err


@pytest.mark.parametrize("view", VIEWS)
def test_the_kernels_settings_cannot_be_opened_for_writing(user: User, python_stores: Stores, view: str) -> None:
    """Nothing below /proc/sys and /sys, and no /proc/sysrq-trigger, can be opened for writing."""
    python = "python3" if view == "directory" else "python3.11"
    text = """
import os
found = ["/proc/sysrq-trigger"]
for top in ("/proc/sys", "/sys/kernel", "/sys/fs"):
    found += [os.path.join(here, name) for here, _, files in os.walk(top) for name in files]
for path in found:
    try:
        os.close(os.open(path, os.O_WRONLY))
        print("REACHED", path)
    except OSError:
        pass
print("reached the end")
"""
    script = user.script(f"cat > probe.py <<'END'\n{text}\nEND\n{python} probe.py\nrm probe.py\n")
    python_home = python_options(python_stores.like) if view == "root" else []
    result = user.build(*python_stores.like.options, *python_home, "--script", script, "--view", view, "--blob", "derived")
    assert END in result.err
    assert "REACHED" not in result.err, result.err[:2000]


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_sees_no_process_of_the_machine(user: User, store: Store, view: str) -> None:
    """Only the session's own processes are in the script's /proc, and of those it can enter none but its own."""
    text = f"""#!{"/bin/sh" if view == "directory" else store.path("bash") + "/bin/bash"}
{names(view)}
for process in /proc/[0-9]*; do
    read -r name < $process/comm || continue
    case $name in sleep | sh | dash | bash | script*) continue ;; esac
    echo "SEEN $name"
    for door in root cwd fd/0 fd/1 fd/3 mem environ; do
        ( ls $process/$door/ > $TOP/listed && test -s $TOP/listed && echo "ENTERED $name $door" ) 2>/dev/null
        ( head -c 1 $process/$door > $TOP/listed && test -s $TOP/listed && echo "ENTERED $name $door" ) 2>/dev/null
    done
done
echo {END}
"""
    result = user.build(*store.options, "--script", user.script(text), "--view", view)
    assert END in result.err
    seen = {line.split()[1] for line in result.err.splitlines() if line.startswith("SEEN")}
    assert len(seen) <= 2, seen  # the session's init and faked
    assert "ENTERED" not in result.err, result.err


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
    assert [words for words in results if words[2] == "0"] == []
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


CHANGES = {
    "chown": "chown 5 $FILE",
    "chgrp": "chgrp 6 $FILE",
    "chmod": "chmod 751 $FILE || :",
    "setfattr": "setfattr -n user.a -v b $FILE",
    "setcap": "setcap cap_net_raw+ep $FILE",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_wish_to_change_this_machine_is_an_error(user: User, what: str) -> None:
    """The directory view shows this machine's files, and a change of one would be lost: 77, and it is named; each is as it was."""
    folder = make_folder(Path(os.environ[PLACE]), "machine-")
    file = folder / "a file"
    file.write_text("this machine's\n")
    if user.is_root:
        file.chmod(0o640)
    before = fingerprint(folder)
    for path in (file, Path("/etc/passwd")):
        result = user.build(
            "--view", "directory", "--", "sh", "-ec", f"FILE='{path}'; {CHANGES[what]}".replace("$FILE", '"$FILE"')
        )
        assert_said(result, 77, f"{path}: a script wished to change this machine's file")
    assert fingerprint(folder) == before
    assert_nothing_left(user)


def test_rows_that_change_nothing_of_this_machine_are_no_error(user: User) -> None:
    """A file of the view's own /tmp, one that is gone, and one that is given the owner and mode that it has, are nobody's loss."""
    folder = make_folder(Path(os.environ[PLACE]), "machine-")
    file = folder / "file"
    file.touch()
    busybox = shutil.which("busybox")
    script = f"touch /tmp/x gone; chown 5:6 /tmp/x gone; {busybox} rm gone; chown 0:0 {file} {folder}; chmod 644 {file} || :; touch left"
    result = user.build("--view", "directory", "--", "sh", "-ec", script)
    assert result.status == 0, result.err
    assert set(members(user)) == {"left"}
