"""Directories that other processes read are read as one process reads them, and its errors come as they are."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rootless_layer.errors import MachineError, SourceError
from rootless_layer.system import fork
from rootless_layer.tree import ahead
from rootless_layer.tree.ahead import read_ahead
from rootless_layer.tree.walk import Listing, listings

PARENT = os.getpid()


@pytest.fixture(autouse=True)
def three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have others help from the first name on, however many processors there are."""
    monkeypatch.setattr(ahead, "ENOUGH", 1)
    monkeypatch.setattr(ahead, "cores", lambda: 3)
    monkeypatch.setattr(ahead, "may_fork", lambda: True)  # the tests' own threads do nothing meanwhile


def unit(number: int) -> Iterator[Listing]:
    """Give a part that says which process read it."""
    yield Listing([b"%d" % number, b"%d" % os.getpid()])


def living() -> set[int]:
    """Give the children of this process that a command's end would kill."""
    return set(fork._living)


def drain(unit_of: Callable[[int], Iterator[Listing]], seen: list[Listing]) -> None:
    """Take the parts of some units."""
    for parts in read_ahead([partial(unit_of, number) for number in range(10)]):
        seen += parts


def test_units_come_in_their_order() -> None:
    """Each is read once, by one of three processes."""
    before = living()
    found: list[Listing] = []
    drain(unit, found)
    assert [listing.names[0] for listing in found] == [b"%d" % number for number in range(10)]
    assert len({listing.names[1] for listing in found}) == 3
    assert living() == before


def rows(found: Iterator[Listing]) -> list[tuple[bytes, int, int, int, int, int, int, os.stat_result | None]]:
    """Give all that is known of each path, in order."""
    return [
        (*row, listing.odd.get(number))
        for listing in found
        for number, row in enumerate(
            zip(
                listing.names, listing.modes, listing.sizes, listing.devices, listing.inodes, listing.times, listing.changes,
                strict=True,
            )
        )
    ]  # fmt: skip


def test_a_tree_is_read_as_by_one_process(tmp_path: Path) -> None:
    """Files, links and directories in directories, between whose names and what is in them others stand."""
    for folder in ("a", "a/b", "a-", "a-/c", "d", "d.e", "d.e/f/g", "h"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text(folder)
        (tmp_path / folder / "link").symlink_to("file")
        (tmp_path / f"{folder}.txt").touch()

    whole, by_several = (rows(listings(os.fsencode(tmp_path), alone=alone)) for alone in (True, False))
    assert by_several == whole
    paths = [path for path, *_ in whole]
    assert paths == sorted(paths)
    assert {path for path, *_, odd in whole if odd is not None} == {path for path in paths if path.endswith(b"link")}
    assert len(paths) == 8 * 4 + 1


def test_without_processes_one_reads_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no more of them, or there may be none, the units are read here."""

    def refuse(_work: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    for name, value in (("Child", refuse), ("may_fork", lambda: False)):
        monkeypatch.setattr(ahead, name, value)
        found: list[Listing] = []
        drain(unit, found)
        assert [listing.names[1] for listing in found] == [b"%d" % os.getpid()] * 10


def failing(number: int) -> Iterator[Listing]:
    """Fail in one unit."""
    if number == 2:
        message = "/somewhere: cannot be read"
        raise SourceError(message, hint="Do something.")
    yield from unit(number)


def test_an_error_is_the_one_that_was_raised() -> None:
    """It comes where its unit's parts would."""
    before, seen = living(), list[Listing]()
    with pytest.raises(SourceError, match="/somewhere: cannot be read") as caught:
        drain(failing, seen)
    assert (len(seen), caught.value.hint) == (2, "Do something.")
    assert living() == before


def ending(number: int) -> Iterator[Listing]:
    """Be killed in one unit."""
    if number == 2 and os.getpid() != PARENT:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from unit(number)


def test_a_process_that_is_killed() -> None:
    """It is told, and nothing is waited for."""
    with pytest.raises(MachineError, match="SIGKILL"):
        drain(ending, [])


def test_nobody_reads_on_when_nobody_asks() -> None:
    """Whoever has had enough leaves no process behind."""
    before = living()
    units = read_ahead([partial(unit, number) for number in range(5)])
    for _ in range(2):
        list(next(units))
    assert len(living()) == len(before) + 2
    units.close()
    assert living() == before
