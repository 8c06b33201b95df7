"""An image or a layer on a terminal: a table of its layers, and the waste in a line; a pipe gets what it has always got."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.images import FILE, Made, put, tar
from helpers.person import on_a_terminal
from helpers.users import COMMAND, User, good

from rootless_layer.check.inspect import inspect
from rootless_layer.check.overview import overview
from rootless_layer.terminal import sized

DATA = b"x" * 5000
LOWER = tar(("a", FILE, DATA), ("b", FILE, DATA), ("c", FILE, b"c"))
UPPER = tar(("d", FILE, DATA), (".wh.c", FILE))


@pytest.fixture
def made(folder: Path) -> Path:
    """An image of two layers, of which the history tells the first alone."""
    history = put("history", to=[{"created_by": "/bin/sh -c make\n\x1b[2J all"}, {"created_by": "CMD x", "empty_layer": True}])
    return Made(folder / "layout", [LOWER, UPPER], {"config": history}).write().folder


def test_sizes_as_a_person_reads_them() -> None:
    """A number of bytes has a unit of 1024s, and one digit behind the point."""
    expected = {
        0: "0 bytes",
        1: "1 byte",
        1023: "1023 bytes",
        1024: "1.0 KiB",
        1 << 20: "1.0 MiB",
        (1 << 20) - 1: "1.0 MiB",
        1536 << 20: "1.5 GiB",
    }
    assert {number: sized(number) for number in expected} == expected
    assert sized(1 << 54) == "16384.0 TiB"


def test_a_table_of_layers(made: Path) -> None:
    """Each layer has a row of as many columns as the terminal has at the most; the waste is a line, or all of it."""
    [found] = inspect(str(made), str)
    lines = list(overview(found, 100))
    at = lines.index("")
    assert lines[:at] == list(found.about())
    head, first, second, wasted = lines[at + 1 :]
    digests = [str(layer.described["digest"])[7:19] for layer in found.layers]
    assert head.split() == ["layer", "digest", "size", "unpacked", "entries", "changes", "created", "by"]
    assert first.split()[:2] == ["0", digests[0]]
    assert second.split()[:2] == ["1", digests[1]]
    assert "+3 " in first
    assert first.endswith(r"/bin/sh -c make\n\x1b[2J all")
    assert "+1 -1" in second
    assert wasted == "data twice: 4.9 KiB within a layer, 4.9 KiB across layers; --waste lists it"
    assert max(map(len, overview(found, 40))) > 40  # digests are whole
    assert all(len(line) <= 40 for line in list(overview(found, 40))[at + 1 : -1])
    everything = list(overview(found, 100, listed=True, waste=True))
    assert [line.strip() for line in everything if line.startswith("    layer")] == ["layer 0  /a", "layer 0  /b", "layer 1  /d"]
    assert "  - /c" in everything


def test_a_pipe_and_a_terminal(user: User, made: Path) -> None:
    """stdout of a terminal has the table, a pipe whole digests and bytes; JSON names the command that made a layer."""
    command = [*COMMAND, "inspect", made]
    with on_a_terminal(user, command) as person:
        assert person.ends() == 0
    assert "created by" in person.shown
    assert "--waste lists it" in person.shown
    assert "\x1b[2J" not in person.shown
    piped = good(user.run(command)).out
    assert "data twice   5000 bytes within a layer, 5000 bytes across layers\n" in piped
    assert "created by" not in piped
    [said] = json.loads(good(user.run([*command, "--json"])).out)
    assert [layer["createdBy"] for layer in said["layers"]] == ["/bin/sh -c make\n\x1b[2J all", ""]
    [layer] = said["layers"][:1]
    assert layer["digest"] in piped


def test_all_of_the_waste(folder: Path) -> None:
    """Of many files that stand twice a pipe gets ten, and with ``waste`` all of them."""
    members = [(f"{name}{number}", FILE, b"y" * (number + 1)) for number in range(20) for name in "ab"]
    [found] = inspect(str(Made(folder / "layout", [tar(*members)]).write().folder), str)
    assert "  and 10 more files" in list(found.lines())
    everything = list(found.lines(waste=True))
    assert not any("more" in line for line in everything)
    assert sum("stand 2 times" in line for line in everything) == 20
    assert sum("stand 2 times" in line for line in overview(found, 80, waste=True)) == 20
