"""Runs inside a script: attacks every directory that it is given by every call that Python has."""

import contextlib
import os
import sys

try:
    import mmap
except ImportError:  # a minimal Python has none
    mmap = None

MINE = b"mine\n"


def attempts(folder, scratch):
    """Give things to try on a source, each a function that may fail."""
    files = [os.path.join(here, name) for here, _, names in os.walk(folder) for name in names]
    folders = [folder, *(os.path.join(here, name) for here, names, _ in os.walk(folder) for name in names)]
    for path in files + folders:
        yield lambda path=path: os.chmod(path, 0o777)
        yield lambda path=path: os.chmod(os.path.basename(path), 0o777, dir_fd=os.open(os.path.dirname(path), os.O_PATH))
        yield lambda path=path: os.fchmod(os.open(path, os.O_RDONLY), 0o777)
        yield lambda path=path: os.chmod(f"/proc/self/fd/{os.open(path, os.O_PATH)}", 0o777)
        yield lambda path=path: os.chown(path, 33, 33)
        yield lambda path=path: os.chown(path, 33, 33, follow_symlinks=False)
        yield lambda path=path: os.fchown(os.open(path, os.O_RDONLY), 33, 33)
        yield lambda path=path: os.utime(path, (5, 5))
        yield lambda path=path: os.utime(path, (5, 5), follow_symlinks=False)
        yield lambda path=path: os.setxattr(path, "user.changed", b"1")
        yield lambda path=path: os.setxattr(path, "security.capability", b"\1\0\0\2" + b"\0" * 16)
    for path in files:
        yield lambda path=path: os.truncate(path, 1)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_DIRECT):
            yield lambda path=path, flags=flags: os.write(os.open(path, flags), MINE)
            yield lambda path=path, flags=flags: os.write(os.open(f"/proc/self/fd/{os.open(path, os.O_RDONLY)}", flags), MINE)
        if mmap:
            yield lambda path=path: mmap.mmap(os.open(path, os.O_RDWR), 0).write_byte(0)
        yield lambda path=path: os.sendfile(os.open(path, os.O_WRONLY), os.open("/proc/self/exe", os.O_RDONLY), 0, 10)
        yield lambda path=path: os.posix_fallocate(os.open(path, os.O_RDWR), 0, 1 << 16)
        yield lambda path=path: through_a_link(path, scratch)
        yield lambda path=path: os.replace(mine(scratch), path)
        yield lambda path=path: os.rename(path, f"{scratch}/taken")
        yield lambda path=path: os.unlink(path)
    for path in folders:
        yield lambda path=path: os.mkdir(f"{path}/new")
        yield lambda path=path: os.mkfifo(f"{path}/pipe")
        yield lambda path=path: os.mknod(f"{path}/node", 0o020666, os.makedev(1, 3))
        yield lambda path=path: os.symlink("/", f"{path}/new-link")
        yield lambda path=path: os.open(f"{path}/new-file", os.O_CREAT | os.O_WRONLY)
        yield lambda path=path: nameless(path)
        yield lambda path=path: upwards(path)
        yield lambda path=path: os.rename(path, f"{scratch}/away")
        yield lambda path=path: os.rmdir(path)


def mine(scratch):
    """Make a file to put in another's place."""
    with open(f"{scratch}/mine", "wb") as file:
        file.write(MINE)
    return f"{scratch}/mine"


def through_a_link(path, scratch):
    """Write to a file through a second name of it, made elsewhere."""
    second = f"{scratch}/second"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(second)
    os.link(path, second, follow_symlinks=False)
    os.chmod(second, 0o777)
    with open(second, "ab") as file:
        file.write(MINE)


def nameless(folder):
    """Give a file that has no name one in a source, over another's."""
    descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR)
    os.write(descriptor, MINE)
    os.link(f"/proc/self/fd/{descriptor}", f"{folder}/nameless", follow_symlinks=True)


def upwards(folder):
    """Climb up from a source's directory, and down again by another way."""
    os.fchdir(os.open(folder, os.O_RDONLY))
    for _ in range(len(folder.split("/"))):
        os.chdir("..")
        with open(folder.lstrip("/") + "/climbed", "w") as file:
            file.write("x")


def doors():
    """Give the places by which other processes see the machine."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield from (f"/proc/{name}/root", f"/proc/{name}/cwd")
            with contextlib.suppress(OSError):
                yield from (f"/proc/{name}/fd/{number}" for number in os.listdir(f"/proc/{name}/fd"))


def escape(scratch):
    """Leave the root directory, as chroot alone would allow."""
    outside = os.open("/", os.O_RDONLY)
    os.makedirs(f"{scratch}/prison", exist_ok=True)
    os.chroot(f"{scratch}/prison")
    os.fchdir(outside)
    for _ in range(50):
        os.chdir("..")
    os.chroot(".")


def main():
    """Attack each directory named by the arguments, by its own name and through every process."""
    start = os.getcwd()
    scratch = f"{start}/scratch"
    os.makedirs(scratch, exist_ok=True)
    sources = sys.argv[1:]
    tried = 0
    for source in sources + [door + source for door in doors() for source in sources]:
        if not os.path.isdir(source):
            continue
        for attempt in attempts(source, scratch):
            tried += 1
            with contextlib.suppress(OSError, ValueError):
                attempt()
            os.chdir(start)
            os.closerange(3, 64)
    if os.fork() == 0:
        with contextlib.suppress(OSError):
            escape(scratch)
            for source in sources:
                for attempt in attempts(source, "/tmp"):
                    with contextlib.suppress(OSError, ValueError):
                        attempt()
                    os.closerange(4, 64)
        os._exit(0)
    os.wait()
    print(tried, "attempts")
    print("reached the end")


main()
