"""Python programs that run as scripts in either view: the closure's Python in the root view, this machine's in the other."""

from __future__ import annotations

from pathlib import Path

from helpers.aftermath import marked
from helpers.stores import Store, shared_store
from helpers.users import Result, User

HEAD = """
import ctypes, os, platform, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
ON_X86 = platform.machine() == "x86_64"

def call(*numbers):
    return libc.syscall(*(number if isinstance(number, bytes) else ctypes.c_long(number) for number in numbers))

def door(name, reaches):
    try:
        if reaches():
            print("REACHED", name)
    except (OSError, ImportError) as error:
        print(name, "is closed:", error)
"""


def python_store() -> Store:
    """A closure with a shell, coreutils and all of Python."""
    return shared_store("bash", "coreutils", "python3.11")


def options(store: Store, view: str) -> list[str]:
    """Give the options of a view that has Python, and no more than what is built."""
    if view == "directory":
        return ["--view", view]
    home = store.path("libpython3.11-minimal")
    stdlib = f"{store.path('libpython3.11-stdlib')}/lib/python3.11"
    variables = (f"PYTHONHOME={home}", f"PYTHONPATH={stdlib}:{stdlib}/lib-dynload", "PYTHONDONTWRITEBYTECODE=1")
    return [*store.options, *(word for variable in variables for word in ("--env", variable))]


def program(store: Store, user: User, view: str, text: str) -> Path:
    """Write a program that its view's Python runs."""
    python = "/usr/bin/python3" if view == "directory" else f"{store.path('python3.11-minimal')}/bin/python3.11"
    return user.script(f"#!{python}\n{HEAD}{text}\nprint('the end')\n", "probe")


def probe(user: User, view: str, text: str, *more: str | Path) -> Result:
    """Build a layer by such a program, which has to come to its end."""
    store = python_store()
    result = user.build(*options(store, view), *marked(user), "--script", program(store, user, view, text), *more)
    assert "the end" in result.err, result.err
    return result
