"""The machine stays as it is: its nodes, disks, settings, processes and files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, assert_said, members, names
from helpers.hostile import END, Stores, python_options
from helpers.place import PLACE, make_folder
from helpers.running import VIEWS
from helpers.stores import Store, fingerprint
from helpers.users import User

pytestmark = pytest.mark.slow


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


def test_what_stands_for_the_view_only_stays_in_its_place(user: User, big_store: Store) -> None:
    """Nothing that is mounted for the scripts gets into the layer under another name; an attribute of a device does under its own."""
    script = user.script(
        "! mv /dev /d\n! mv /.rootless-layer /r\n! touch /.rootless-layer/x\n! mv /proc /p\n"
        "mkdir /dev/own\nmv /dev/own /own\nmknod /dev/other c 1 3\nmv /dev/other /dev/mine\n"
        "setfattr -n trusted.a -v b /dev/null\n"
    )
    result = user.build(*big_store.options, "--script", script)
    assert result.status == 0, result.err
    found = members(user)
    made = {path for path in found if not path.startswith("nix")}
    assert made == {"dev", "dev/mine", "dev/null", "own"}, made
    assert found["dev/null"].pax_headers == {"SCHILY.xattr.trusted.a": "b"}


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
