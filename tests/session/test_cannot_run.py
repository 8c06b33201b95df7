"""Of a script that cannot be run the message names the cause: the interpreter, the loader, the program, the file."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import ABSENT, CLOSED, assert_said, marked
from helpers.running import VIEWS, script_of
from helpers.stores import Store
from helpers.users import User

from rootless_layer import LayerSpec, Script
from rootless_layer.errors import SourceError
from rootless_layer.session.environment import Environment
from rootless_layer.session.failure import failed
from rootless_layer.session.inside.interpreter import missing
from rootless_layer.session.inside.messages import NotStarted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_cannot_start(user: User, small: Store, view: str) -> None:
    """A missing interpreter, a command that is not there or that is no program: 127 or 126, and what is missing is named."""
    assert_said(script_of(user, small, "#!/no/such/interpreter\n", view=view), 127, "script: .*: /no/such/interpreter")
    assert_said(script_of(user, small, "#!/bin/sh\r\nexit 0\r\n", view=view), 127, "script: .*: /bin/sh", "CRLF")
    options = [*small.options, *marked(user), "--view", view]
    assert_said(user.build(*options, "--", "no-such-command"), 127, "no-such-command", "PATH")
    folder = "/nix" if view == "root" else "/etc"
    assert_said(user.build(*options, "--", folder), 126, folder)
    long = user.build(*options, "--env", f"PATH={'/some/where:' * 9000}", "--", "no-such-command")
    assert_said(long, 127, "no-such-command", "PATH", "--copy-to-root")
    assert len(long.err) < 1000
    assert not (user.home / "layer").exists()


LONG = """\
from rootless_layer import LayerSpec, RootlessLayerError, Script, build_layer
try:
    build_layer(LayerSpec(scripts=(Script.command(["/bin/true"]),), view="directory", environment={"A": "b", "LONG": "x" * (130 << 10)}), "layer")
except RootlessLayerError as error:
    print(error.status, error)
"""


def test_a_variable_that_is_too_long_is_named(user: User) -> None:
    """Linux takes 128 KiB for one variable: 126, and the variable is named, with its size."""
    result = user.run([sys.executable, "-c", LONG])
    assert_said(attrs.evolve(result, status=int(result.out[:3]), err=result.out), 126, "LONG", "133125 bytes")


def test_script_files_that_are_not_there(user: User, small: Store) -> None:
    """A script file that is missing, a directory or unreadable is named: 66, and nothing is started."""
    (user.home / "folder").mkdir()
    options = [*small.options, *marked(user)]
    assert_said(user.build(*options, "--script", user.home / "none"), 66, "none: ", ABSENT)
    assert_said(user.build(*options, "--script", user.home / "folder"), 66, "folder: ", "directory")
    if not user.is_root:
        path = user.script("true\n", "secret")
        path.chmod(0)
        assert_said(user.build(*options, "--script", path), 66, "secret: ", CLOSED)


def test_what_a_program_lacks_is_named(tmp_path: Path) -> None:
    """Of a script that is the interpreter, of an ELF file its loader, and of a script whose interpreter lacks one, that one's."""
    loader, absent = b"/lib64/ld-nowhere.so.2\0", tmp_path / "absent"
    row = struct.pack("<IIQQQQQQ", 3, 4, 64 + 56, 0, 0, len(loader), len(loader), 1)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    (tmp_path / "elf").write_bytes(head + row + loader)
    for name, text in (("script", f"#! {absent} -e\n"), ("over", f"#!{tmp_path}/elf\n"), ("dos", f"#!{absent}\r\n")):
        (tmp_path / name).write_text(text)
    assert missing(f"{tmp_path}/script") == (f"the interpreter that the first line names is not there: {absent}", False)
    assert missing(f"{tmp_path}/dos") == (f"the interpreter that the first line names is not there: {absent}", True)
    assert missing(f"{tmp_path}/elf") == ("the loader is not there: /lib64/ld-nowhere.so.2", False)
    assert missing(f"{tmp_path}/over") == (f"the loader of {tmp_path}/elf is not there: /lib64/ld-nowhere.so.2", False)
    (tmp_path / "none").write_bytes(b"\x7fELF\2\1")
    assert missing(f"{tmp_path}/none")[0] == "the loader is not there: it has none"


def test_a_command_in_one_word_is_said_to_be_one(tmp_path: Path) -> None:
    """A line for the shell that is given as a program, or as a script's path, is said to be no such thing."""
    spec = LayerSpec(scripts=(Script.command(["echo hi > /x"]),))
    error = failed(spec.scripts[0], NotStarted(127, "absent", "echo hi > /x"), spec, Environment.of(spec, mounted=True))
    assert error.status == 127
    assert "-- sh -c" in error.hint
    with pytest.raises(SourceError) as raised:
        Script.file(str(tmp_path / "echo hi"))
    assert "-- sh -c" in raised.value.hint
