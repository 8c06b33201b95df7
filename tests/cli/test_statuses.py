"""The table of exit statuses: every row is documented, and is what each verb ends with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import VERBS, Ran

import rootless_layer
from rootless_layer import errors
from rootless_layer.cli import statuses

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"


def classes(root: type[errors.RootlessLayerError] = errors.RootlessLayerError) -> Iterator[type[errors.RootlessLayerError]]:
    """The tree of errors."""
    yield root
    for below in root.__subclasses__():
        yield from classes(below)


def test_every_error_has_a_row() -> None:
    """The status of each class of the tree is a row of the table; docs/troubleshooting.md has the whole table, sentence by sentence."""
    assert {each.exit_code for each in classes()} <= errors.FAULTS.keys()
    assert {str(status) for status in errors.FAULTS} <= statuses.STATUSES.keys()
    table = PAGE.read_text().partition("| exit status | |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| (\S+) \| (.*) \|$", table, re.MULTILINE)) == statuses.STATUSES


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_help_has_an_example_and_the_statuses(ran: Ran, words: tuple[str, ...]) -> None:
    """Each verb's --help ends with an example that begins as the verb does, and with every exit status."""
    status, said, _ = ran(*words, "-h")
    assert status == 0
    assert f"rootless-layer {' '.join(words)}" in said or words[0].startswith("nix-")
    assert re.search(r"^Examples?:\n  \S", said, re.MULTILINE)
    assert statuses.table() in said


GIVEN_BY = {
    "69": "session.test_a_machine_without_fakeroot",
    "70": "layer.test_a_write_that_is_cut_short_is_an_error",
    "71": "session.test_a_daemon_that_does_not_come_up",
    "76": "session.test_a_row_of_another_file_is_refused",
    "77": "session.test_a_store_path_stays_in_its_place",
    "124": "session.test_a_script_that_hangs_is_ended",
    "129": "session.test_a_signal_while_a_script_runs",
    "143": "session.test_a_signal_while_a_script_runs",
    "N": "session.test_a_scripts_status_is_the_commands",
}
"""Rows that need a session, a signal or a broken machine, and the tests of the command where they are seen, each by its folder and name."""
SEEN_HERE = {"0", "1", "2", "65", "66", "73", "74", "130", "141"}


def test_every_row_is_seen_to_happen() -> None:
    """Each row of the table is what some test of the command expects."""
    assert GIVEN_BY.keys() | SEEN_HERE == statuses.STATUSES.keys()
    for name in GIVEN_BY.values():
        package, function = name.split(".")
        assert any(f"def {function}(" in path.read_text() for path in (Path(__file__).parents[1] / package).glob("test_*.py"))


def test_statuses_of_this_process(ran: Ran, tmp_path: Path) -> None:
    """0 where all is right, 1 where two differ, 65 for what is no image, 73 for an output that is in the way."""
    (tmp_path / "tree").mkdir()
    assert ran("build", "--copy-to-root", "tree", "-o", "one")[0] == 0
    (tmp_path / "tree/file").write_text("text")
    assert ran("build", "--copy-to-root", "tree", "-o", "two")[0] == 0
    assert ran("diff", "one", "two")[0] == 1
    assert ran("validate", "tree")[0] == 65
    assert ran("build", "--copy-to-root", "one", "-o", "tree")[0] == 73


def test_74_is_what_this_machine_refuses(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system's that no other row has names the file, and is told apart from an input's."""

    def broken(_cache: object) -> None:
        raise OSError(5, "Input/output error", "/some/file")

    monkeypatch.setattr("rootless_layer.cli.cache.list_kept", broken)
    status, said, told = ran("cache", "ls", "--json")
    assert (status, told.startswith("rootless-layer: /some/file: ")) == (74, True), told
    assert json.loads(said)["error"]["kind"] == "MachineError"


MISSING = {
    "a script": ["build", "--script", "none", "-o", "x"],
    "a closure": ["build", "--closure", "none", "-o", "x"],
    "tools": ["build", "--tools", "none", "-o", "x"],
    "a store path": ["build", "--store-path", "/nix/store/00000000000000000000000000000000-none", "-o", "x"],
    "a tree": ["build", "--copy-to-root", "none", "-o", "x"],
    "a root": ["build", "--rootfs", "none", "-o", "x"],
    "a listing": ["build", "--rootfs", ".", "--rootfs-listing", "none", "-o", "x"],
    "a base": ["build", "--base", "none", "-o", "x"],
    "an image's base": ["image", "--base", "none", "-o", "x"],
    "a layer": ["image", "--layer", "none", "-o", "x"],
    "a config": ["image", "--config", "none", "-o", "x"],
    "an image's closure": ["image", "--closure", "none", "-o", "x"],
    "a layering": ["image", "--closure", "/dev/null", "--layering", "none", "-o", "x"],
    "an image to merge": ["merge", "none", "-o", "x"],
    "a file": ["make", "none"],
    "a script of a file": ["make", "images.toml"],
    "an image to check": ["validate", "none"],
    "an image to look at": ["inspect", "none"],
    "an image to compare": ["diff", "none", "none"],
    "an image to archive": ["nix-archive", "none", "-o", "x"],
    "an image to export": ["nix-export", "none", "-o", "x"],
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_66_in_every_verb(ran: Ran, tmp_path: Path, what: str) -> None:
    """An input that is not there is 66 and named, whichever verb and option names it, and nothing is written."""
    (tmp_path / "images.toml").write_text('[layer.a]\nscript = "none"\n')
    status, _, told = ran(*MISSING[what])
    assert status == 66, told
    assert "none" in told
    assert not (tmp_path / "x").exists()


WRITTEN = {
    "a verb": ["buidl"],
    "a verb of a group": ["cache", "lst"],
    "an option": ["build", "--absent", "-o", "x"],
    "a platform": ["build", "--base", "none", "--platform", "a/b/c/d", "-o", "x"],
    "an image's platform": ["image", "--platform", "a/b/c/d", "-o", "x"],
    "a platform to compare": ["diff", "a", "b", "--platform", "//"],
    "a name": ["image", "-t", ":", "-o", "x"],
    "an index": ["merge", "none", "--index", ":", "-o", "x"],
    "a size": ["cache", "gc", "--keep", "much"],
    "a compression": ["image", "--closure", "/dev/null", "--compression", "gzip:²", "-o", "x"],
    "an owner": ["build", "--uid", "-1", "-o", "x"],
    "a store path": ["build", "--store-path", "/etc", "-o", "x"],
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_wrong_as_written_is_2_in_every_verb(ran: Ran, tmp_path: Path, what: str) -> None:
    """A value that cannot be, whatever is on the disk, is a fault of the command line, which the message ends with."""
    status, said, told = ran(*WRITTEN[what])
    assert (status, said) == (2, ""), told
    assert told.splitlines()[-1].endswith("--help` says how it is written.")
    assert not (tmp_path / "x").exists()


def test_the_verb_that_is_meant_is_named(ran: Ran) -> None:
    """A verb with a slip in it is compared with those there are; one like none has them listed. Alone, the command is helped."""
    assert "did you mean build?" in ran("buidl")[2]
    assert "there are: build, cache, " in ran("zzz")[2]
    status, said, told = ran()
    assert (status, said) == (2, "")
    assert "validate" in told
    assert ran("--version")[1].startswith("rootless-layer")


def test_the_library_raises_its_own_errors_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the system refuses, unforeseen, is a MachineError of each public function, which keeps its name and its cause."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("rootless_layer.layer.build._Build.tree", broken)
    with pytest.raises(errors.MachineError, match=r"^/some/file: No space left on device") as caught:
        rootless_layer.build_layer(rootless_layer.LayerSpec(), tmp_path / "x")
    assert isinstance(caught.value.__cause__, OSError)
    assert rootless_layer.build_layer.__name__ == "build_layer"
    assert rootless_layer.build_layer is rootless_layer.build_layer
    assert not (tmp_path / "x").exists()
