"""What the command says to a program: errors and results as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command import Ran
from helpers.users import COMMAND, User

from rootless_layer import errors


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (["build", "--json", "-o", "x", "--uid", "x"], "UsageError", 2),
        (["build", "-o", "x", "--absent", "--json"], "UsageError", 2),
        (["inspect", "--json", "none"], "SourceError", 66),
        (["make", "none", "--json"], "SourceError", 66),
        (["build", "--json", "-o", "x", "--closure", "none"], "MissingClosureError", 66),
    ],
)
def test_an_error_is_json_where_json_is_asked_for(ran: Ran, words: list[str], kind: str, status: int) -> None:
    """With --json stdout has one line that names the error's class, its status, all problems and the hint."""
    ended, said, told = ran(*words)
    assert ended == status
    assert said.count("\n") == 1
    error = json.loads(said)["error"]
    assert (error["kind"], error["status"]) == (kind, status)
    assert told == "".join(f"rootless-layer: {line}\n" for line in (*error["problems"], *filter(None, [error["hint"]])))


def test_a_command_of_the_scripts_is_not_asked_for_json(ran: Ran) -> None:
    """What stands behind -- is the script's own."""
    assert ran("build", "-o", "x", "--closure", "none", "--", "tool", "--json")[:2] == (66, "")


def test_a_scripts_own_status_is_told_apart(user: User) -> None:
    """A script that ends with 66 is a ScriptError, whose message says that the script failed."""
    (user.home / "tree").mkdir()
    command = ["/bin/sh", "-c", "exit 66"]
    done = user.run([*COMMAND, "build", "--json", "--view", "directory", "--copy-to-root", "tree", "-o", "x", "--", *command])
    error = json.loads(done.out)["error"]
    assert (done.status, error["kind"], error["status"]) == (66, "ScriptError", 66)
    assert "the script failed with exit status 66" in error["problems"][0]


def test_json_with_a_list_is_one_document(ran: Ran, tmp_path: Path) -> None:
    """`build --json --list` prints layer.json with a list of the entries, as inspect names them."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("/else")
    said = json.loads(ran("build", "--copy-to-root", "tree", "-o", "x", "--json", "--list")[1])
    [link] = [row for row in said.pop("list") if row["path"] == "/link"]
    assert link == {"path": "/link", "mode": "120777", "uid": 0, "gid": 0, "mtime": 1, "size": 0, "target": "/else"}
    assert said == json.loads((tmp_path / "x/layer.json").read_text())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("layers"), "it has no layers"), (RecursionError("maximum …"), "it is nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), "it is not UTF-8"), (FileNotFoundError(2, "No such file"), "No such file"),
        (TypeError("'int' object is not iterable"), "a value in it is not of the kind that it should be"),
    ],
)  # fmt: skip
def test_pythons_own_errors_are_put_in_words(error: Exception, said: str) -> None:
    """A document's fault is said in words, and not as Python writes its exceptions."""
    assert errors.reason(error) == said
