"""The manual pages: those of the checkout are made of today's verbs and options, and every reader takes them as they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers.command import VERBS
from helpers.place import HERE

from rootless_layer.check.machine import _READ
from rootless_layer.cli import man
from rootless_layer.cli.variables import VARIABLES

PAGES = dict(man.pages())


def test_the_pages_are_those_of_the_options() -> None:
    """`python -m rootless_layer.cli.man man` was run when an option changed: each page stands in the checkout as it is made."""
    there = {path.name: path.read_text() for path in (HERE.parent / "man").iterdir()}
    assert there == PAGES


def test_each_verb_has_a_page_with_all_its_options() -> None:
    """`man rootless-layer build` finds rootless-layer-build(1), in which each option, example and exit status stands."""
    assert set(PAGES) == {f"{'-'.join(['rootless-layer', *words])}.1" for words in [(), *VERBS]}
    for words, verb in VERBS.items():
        page = PAGES[f"rootless-layer-{'-'.join(words)}.1"].replace(r"\-", "-")
        for option in verb.params:
            if isinstance(option, click.Option):
                assert all(f"\\fB{name}\\fR" in page for name in (*option.opts, *option.secondary_opts)), (words, option.opts)
        assert ".SH EXIT STATUS" in page


def test_the_first_page_names_the_variables() -> None:
    """Those that builds read are among them."""
    named = {name for names in VARIABLES for name in re.split(r", |=", names)}
    assert _READ | {"LIBARCHIVE", "SOURCE_DATE_EPOCH", "TMPDIR", "NO_COLOR"} <= named
    page = PAGES["rootless-layer.1"].replace(r"\-", "-")
    assert all(f"\\fB{names}\\fR" in page for names in VARIABLES)


def test_the_wheel_has_them() -> None:
    """Where the package was installed by pip, man finds them below its prefix."""
    folder = Path(sys.prefix) / "share/man/man1"
    if not folder.is_dir():
        pytest.skip("the package was not installed from a wheel")
    assert set(PAGES) <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("reader", ["man", "mandoc"])
def test_a_reader_warns_of_nothing(reader: str, tmp_path: Path) -> None:
    """groff's and mandoc's readers show each page without a warning; that a page has no date is meant: the version is there."""
    if shutil.which(reader) is None:
        pytest.skip(f"{reader} is not installed")
    man.write(str(tmp_path))
    options = ["--warnings=w", "-l"] if reader == "man" else ["-T", "lint", "-W", "warning"]
    for page in sorted(tmp_path.iterdir()):
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "TERM": "dumb"}
        done = subprocess.run([reader, *options, page], env=environment, capture_output=True, text=True, check=False)
        said = done.stdout if reader == "mandoc" else done.stderr
        assert [line for line in said.splitlines() if "missing date" not in line] == []
        assert "missing date" in said or reader == "man"
        if reader == "man":
            shown = " ".join(done.stdout.split())
            assert "EXIT STATUS" in shown
            assert "\\f" not in shown
