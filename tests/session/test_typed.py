"""Nonsense that is typed is refused in few words, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.aftermath import assert_said, marked
from helpers.users import COMMAND, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

NONSENSE: dict[str, tuple[list[str], set[int], str]] = {
    "no output": ([], {2}, "--output"),
    "an unknown option": (["--no-such-option"], {2}, "no-such-option"),
    "a view": (["--view", "sideways"], {2}, "sideways"),
    "a stage": (["--stage", "magic"], {2}, "magic"),
    "a blob": (["--blob", "none"], {2}, "none"),
    "a link": (["--link", "soft"], {2}, "soft"),
    "a kind of compression": (["--compression", "lzma"], {2}, "lzma"),
    "a level": (["--compression", "zstd:99"], {2}, "99"),
    "a level of none": (["--compression", "gzip:fast"], {2}, "gzip:fast"),
    "a level below": (["--compression", "zstd:-3"], {2}, "zstd:-3"),
    "nothing to compress with": (["--compression", ""], {2}, "compression"),
    "an epoch": (["--source-date-epoch", "yesterday"], {2}, "yesterday"),
    "an epoch before all": (["--source-date-epoch", "-5"], {2}, "-5"),
    "an epoch beyond": (["--source-date-epoch", "99999999999999999999"], {2}, "99999999999999999999"),
    "a user": (["--uid", "root"], {2}, "root"),
    "a user below": (["--uid", "-1"], {2}, "-1"),
    "a user beyond": (["--uid", "4294967296"], {2}, "4294967296"),
    "a group": (["--gid", "1.5"], {2}, "1.5"),
    "a time": (["--timeout", "soon"], {2}, "soon"),
    "no time": (["--timeout", "0"], {2}, "timeout"),
    "less than no time": (["--timeout", "-1"], {2}, "timeout"),
    "not a time": (["--timeout", "nan"], {2}, "nan"),
    "for ever": (["--timeout", "inf"], {2}, "inf"),
    "a variable": (["--env", "NOTHING"], {2}, "NOTHING"),
    "a variable without a name": (["--env", "=x"], {2}, "env"),
    "a closure": (["--closure", "/no/such/graph"], {66}, "/no/such/graph"),
    "a closure that never ends": (["--closure", "/"], {2}, "/"),
    "a store path": (["--store-path", "/etc"], {2}, "/etc"),
    "a store path that is not there": (["--store-path", "/nix/store/00000000000000000000000000000000-none"], {66}, "none"),
    "a store": (
        ["--store-root", "/no/such", "--store-path", "/nix/store/00000000000000000000000000000000-none"],
        {66},
        "none",
    ),
    "a tree": (["--copy-to-root", "/no/such/tree"], {66}, "/no/such/tree"),
    "a tree that is a file": (["--copy-to-root", "/etc/passwd"], {65}, "/etc/passwd"),
    "a root": (["--rootfs", "/no/such/root"], {66}, "/no/such/root"),
    "a root that is no archive": (["--rootfs", "/etc/passwd"], {65}, "/etc/passwd"),
    "a root that is a device": (["--rootfs", "/dev/null"], {65}, "/dev/null"),
    "a listing": (["--rootfs", "/etc/default", "--rootfs-listing", "/no/such/list"], {66}, "/no/such/list"),
    "a listing of nothing": (["--rootfs-listing", "/etc/passwd"], {2, 65, 66}, "listing|/etc/passwd"),
    "a script": (["--script", "/no/such/script"], {66}, "/no/such/script"),
    "no command": (["--", ""], {2}, "command|argument"),
    "an empty tree": (["--copy-to-root", ""], {2, 65, 66}, ".+"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_in_few_words(users: list[User], case: str) -> None:
    """A value that cannot be is 2, a file of no use 65, one that is missing 66: the message has it, and nothing is written."""
    user = users[-1]
    words, statuses, said = NONSENSE[case]
    output = [] if case == "no output" else ["-o", str(user.home / "layer")]
    result = user.run([*COMMAND, "build", *output, *marked(user), *words])
    assert result.status in statuses, f"{result.status}\n{result.err}"
    assert_said(result, result.status, said)
    assert result.out == ""
    assert len(result.err.splitlines()) <= 4, result.err
    assert not (user.home / "layer").exists()


def test_nonsense_in_the_environment(users: list[User], content: Path) -> None:
    """A SOURCE_DATE_EPOCH that is no number is refused by its name; odd locales and terminals change nothing."""
    user = users[-1]
    for value in ("now", "-1", "1e3", " 5", "٣", "99999999999999999999"):
        result = user.build("--copy-to-root", content, *marked(user), env={"SOURCE_DATE_EPOCH": value})
        assert result.status == 2, (value, result.err)
        assert_said(result, 2, "SOURCE_DATE_EPOCH|epoch")
    digests = {
        user.build("--copy-to-root", content, *marked(user), env=environment).layer["digest"]
        for environment in ({}, {"LC_ALL": "C"}, {"LC_ALL": "no_SUCH.locale"}, {"TERM": ""}, {"COLUMNS": "x"}, {"HOME": "/no/such"}, {"PYTHONWARNINGS": "error"})
    }  # fmt: skip
    assert len(digests) == 1
