"""Variables of a file: defaults there, values of the command line over them, and each name in the place that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.make import DIRECTORY, ends, events, make
from helpers.place import remove
from helpers.users import COMMAND, User
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.make.args import with_args
from rootless_layer.make.faults import Faults
from rootless_layer.make.file import load

FILE = """
[args]
version = "1"
uid = 7
sparse = false
[layer.a]
run = 'echo "${version} $${version} $version $$$$"'
uid = "${uid}"
allow-sparse = "${sparse}"
env = { ID = "${uid}", "${version}" = "kept" }
[image.i]
layers = ["a"]
tag = ["app:${version}", "app:latest"]
expose = ["${uid}"]
"""


def loaded(folder: Path, text: str, **args: str) -> dict[str, dict[str, object]]:
    """Read a file; give each node's options that it uses."""
    (folder / "make.toml").write_text(text)
    nodes = load(str(folder / "make.toml"), args).nodes
    return {name: {each: getattr(node.options, each) for each in node.options.__slots__ if each != "__weakref__"}
            for name, node in nodes.items()}  # fmt: skip


def problems(folder: Path, text: str, **args: str) -> list[str]:
    """Say what is wrong with a file."""
    with pytest.raises(InputError) as caught:
        loaded(folder, text, **args)
    return [problem.partition("make.toml: ")[2] for problem in caught.value.problems]


def test_names_are_replaced_in_values(tmp_path: Path) -> None:
    """A reference is replaced in texts, lists and tables; alone it has the type of its value; $$ is a dollar, and keys stay."""
    found = loaded(tmp_path, FILE)
    assert found["a"]["run"] == 'echo "1 ${version} $version $$"'
    assert (found["a"]["uid"], found["a"]["allow_sparse"]) == (7, False)
    assert found["a"]["env"] == {"ID": "7", "${version}": "kept"}
    assert (found["i"]["tag"], found["i"]["expose"]) == (("app:1", "app:latest"), ("7",))


def test_the_command_line_wins(tmp_path: Path) -> None:
    """A value of the command line takes the place of the file's, and has its type."""
    found = loaded(tmp_path, FILE, version="2.3", uid="8", sparse="true")
    assert (found["a"]["uid"], found["a"]["allow_sparse"], found["i"]["expose"]) == (8, True, ("8",))
    assert found["a"]["run"] == 'echo "2.3 ${version} $version $$"'


def test_a_file_without_args_is_as_it_is(tmp_path: Path) -> None:
    """Where there is no table of names, ${NAME} and $$ are a script's own."""
    assert loaded(tmp_path, "[layer.a]\nrun = 'echo ${HOME} $$'\n")["a"]["run"] == "echo ${HOME} $$"


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("[args]\na = 1\n[layer.x]\nrun = '${b} ${HOME:-/}'\nenv = { A = '${c}' }\n", {}, ["layer.x: run: ${b}", "layer.x: run: ${HOME:-/}", "layer.x: env.A: ${c}"]),
        ("[args]\n[layer.x]\nrun = '${b'\n", {}, ["layer.x: run: ${"]),
        ("[args]\na = [1]\nb-c = ''\n[layer.x]\nrun = ''\n", {}, ["args: a:", "args: 'b-c':"]),
        ("[args]\na = 1\nb = true\n[layer.x]\nuid = '${a}'\nallow-sparse = '${b}'\n", {"a": "x", "b": "1"}, ["args: a:", "args: b:"]),
        ("[args]\nname = 1\n[layer.x]\nrun = '$${name}'\n", {"name": "2"}, ["args: name: --arg"]),
        ("[args]\nname = 1\n[layer.x]\nuid = '${name}'\n", {"nmae": "2"}, ["--arg nmae: there is no name in [args] 'nmae'; did you mean 'name'?"]),
        ("[layer.x]\nrun = ''\n", {"name": "2"}, ["--arg name:"]),
        ("args = 1\n[layer.x]\nrun = ''\n", {}, ["args:"]),
        ("[args]\nid = 'x'\n[layer.x]\nuid = '${id}'\n", {}, ["layer.x: uid:"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(tmp_path: Path, text: str, args: dict[str, str], expected: list[str]) -> None:
    """An unknown name is said with its table and key, an --arg that nothing uses with its name: all faults at once."""
    found = problems(tmp_path, text, **args)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)


@given(st.text(), st.text())
def test_what_is_quoted_comes_back(text: str, value: str) -> None:
    """Any text goes through once its dollars are doubled, and any value stands where its name was."""
    faults = Faults("file")
    quoted = text.replace("$", "$$")
    said = {"args": {"name": value}, "layer": {"a": {"run": f"{quoted}${{name}}{quoted}", "script": [{"text": quoted}]}}}
    assert with_args(said, {}, faults) == {"layer": {"a": {"run": text + value + text, "script": [{"text": text}]}}}
    assert faults.problems == []


@pytest.mark.slow
def test_a_value_is_in_the_key_by_its_effect(users: list[User]) -> None:
    """A layer that no value changes is not built again; one that has another value is, and is what it would be without names."""
    for user in users:
        text = DIRECTORY + '[args]\nname = "one"\n[layer.a]\nrun = "echo ${name} > name"\noutput = "a"\n[layer.b]\nrun = "mkdir b"\n'  # fmt: skip
        assert ends(events(user, text)) == {"a": "built", "b": "built"}
        assert ends(events(user, text, "--arg", "name=two")) == {"a": "built", "b": "unchanged"}
        remove(user.home / "a")
        assert ends(events(user, text.replace('"one"', '"two"'))) == {"a": "placed", "b": "unchanged"}
        assert "two" not in user.run([*COMMAND, "cache", "ls"]).out
        faulty = make(user, text, "--arg", "nmae=1")
        assert (faulty.status, "--arg nmae" in faulty.err) == (65, True)
        assert make(user, text, "--arg", "name").status == 2


@pytest.mark.slow
def test_the_callers_secrets_stand_in_no_file(users: list[User]) -> None:
    """A target takes a secret from a variable of the caller's, and another from a file that --arg names; neither is in its key."""
    text = (
        DIRECTORY
        + """
[args]
key = "absent"
[layer.a]
mount = ["type=secret,id=TOKEN,env=TOKEN,required", "type=secret,id=key,source=${key},target=/tmp/key,required"]
run = 'test "$${TOKEN}" = "$$(cat /tmp/key)"; echo kept > a'
"""
    )
    for user in users:
        (user.home / "secret").write_text("word")
        assert ends(events(user, text, "--arg", "key=secret", env={"TOKEN": "word"})) == {"a": "built"}
        (user.home / "other").write_text("another")
        assert ends(events(user, text, "--arg", "key=other", env={"TOKEN": "another"})) == {"a": "unchanged"}
        assert ends(events(user, text, "--no-cache", "--arg", "key=other", env={"TOKEN": "word"}, status=1)) == {"a": "failed"}
