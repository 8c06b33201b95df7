"""An interpreter that has imported the package, and is forked for each run of the command that it is asked for.

It takes a socket's number, and what is to be room for the arguments of forks. A request is JSON, with four files:
stdin, stdout, stderr, and where the exit status is to be written. It ends with the socket's other end.
"""

import ctypes
import gc
import json
import os
import pkgutil
import runpy
import selectors
import socket
import sys
from pathlib import Path

import rootless_layer


def import_everything():
    """Import all modules of the package, and have no fork look at what they made."""
    for module in pkgutil.walk_packages(rootless_layer.__path__, "rootless_layer."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
    gc.collect()
    gc.freeze()


def show(fields, words):
    """Have /proc tell these words: it reads the memory that the arguments, or the variables, were given in."""
    start, end = (int(FACTS[field]) for field in fields)
    ctypes.memmove(start, b"".join(word + b"\0" for word in words).ljust(end - start, b"\0"), end - start)


def be_command(request, streams):
    """Be the command in a fork."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(COERCED | request["environment"])
    show((45, 46), [os.fsencode(word) for word in request["command"]])
    show((47, 48), [name + b"=" + value for name, value in os.environb.items()])
    if request["umask"] is not None:
        os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.path[0] = os.getcwd()
    sys.argv[1:] = request["command"][3:]
    runpy.run_module("rootless_layer", run_name="__main__", alter_sys=True)


def serve(requests):
    """Fork for each request, and answer when a fork has ended."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                text, files, _, _ = socket.recv_fds(requests, 1 << 20, 4)
                if not text:
                    return
                child = os.fork()
                if child == 0:
                    be_command(json.loads(text), files[:3])
                for file in files[:3]:
                    os.close(file)
                selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, files[3]))
            else:
                child, answer = key.data
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                selector.unregister(key.fd)
                os.close(key.fd)
                os.write(answer, b"%d" % status)
                os.close(answer)


FACTS = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
COERCED = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
"""What Python tells the programs that it starts, where no locale is given."""

if __name__ == "__main__":
    import_everything()
    serve(socket.socket(fileno=int(sys.argv[1])))
