"""What the recorder holds of its callers from one call to the next is theirs: descriptors of each process, and the root of each."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
from helpers.aftermath import members, owner
from helpers.running import Runner

from rootless_layer.session.inside import shared

pytestmark = pytest.mark.slow

CHANGED = """
mkdir -p in$TOP
cp $B in/busybox
echo x > in$TOP/file
echo x > file
$B chown 1:2 $TOP/file
mkfifo ready end
ln ready end in$TOP/
$B chroot in /busybox sh -c "/busybox chown 3:4 $TOP/file; echo > $TOP/ready; read line < $TOP/end; /busybox chown 5:6 $TOP/file" &
"""


def test_a_descriptor_is_the_callers(tmp_path: Path) -> None:
    """It is a copy: of the file that the process has by that number now; of one that is closed there is none."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    script = "exec 5<one; echo; read line; exec 5<two; echo; read line; exec 5<&-; echo; read line"
    with subprocess.Popen(["sh", "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("one", "two"):
            process.stdout.readline()
            copy = shared.share(process.pid, 5)
            assert copy is not None
            assert os.path.samestat(os.fstat(copy), os.stat(tmp_path / name))
            assert not os.get_inheritable(copy)
            os.close(copy)
            process.stdin.write(b"\n")
            process.stdin.flush()
        process.stdout.readline()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            shared.share(process.pid, 5)
        process.stdin.write(b"\n")
    assert shared.share(process.pid, 0) is None
    shared.end()


def test_a_threads_descriptors_have_names() -> None:
    """There may be no pidfd of a thread: its descriptors are had otherwise."""
    told: list[int] = []
    end = threading.Event()
    thread = threading.Thread(target=lambda: (told.append(threading.get_native_id()), end.wait()))
    thread.start()
    while not told:
        pass
    assert shared.share(told[0], 0) is None
    end.set()
    thread.join()
    shared.end()


def held() -> int:
    """Count the processes that this one holds; it has other descriptors for other reasons."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum("pidfd" in os.readlink(name) for name in names if os.path.lexists(name))


def test_no_more_processes_are_held_than_may_be() -> None:
    """However many processes make calls, a few are held; in the end none is."""
    before = held()
    for _ in range(200):
        with subprocess.Popen(["sleep", "60"]) as process:
            copy = shared.share(process.pid, 0)
            assert copy is not None
            os.close(copy)
            process.kill()
        assert before < held() < before + 100
    shared.end()
    assert held() == before


@pytest.mark.parametrize("first", [False, True])
def test_each_process_has_its_root(runner: Runner, first: bool) -> None:  # noqa: FBT001 - a parameter
    """A program that changes its root names files below that; whoever did not, and those that come after, name the others."""
    script = "read line < ready; $B chown 7:8 $TOP/file; echo > end; wait; echo x > last; $B chown 9:10 $TOP/last\n"
    again = "" if first else "$B chroot / /bin/busybox true 2>/dev/null || :\n"
    runner.run(again + CHANGED + script)
    found = members(runner.user)
    top = next(
        name.removesuffix("file").removeprefix("in/") for name in found if name.startswith("in/") and name.endswith("file")
    )
    assert owner(found[f"in/{top}file"])[:2] == (5, 6)
    assert owner(found["file"])[:2] == (7, 8)
    assert owner(found["last"])[:2] == (9, 10)
