"""The language of .dockerignore, without an engine; tests/image/test_dockerfile.py compares it with one."""

from __future__ import annotations

import pytest

from rootless_layer.errors import InputError
from rootless_layer.tree.ignored import Ignored, compiled, is_pattern

HIDDEN = {
    "a": {"a", "a/b", "a/b/c"},
    "/a/": {"a", "a/b", "a/b/c"},
    "*": {"a", "a/b", "a/b/c", "b", ".c", "d.txt", "e/d.txt", "é"},
    "*/b": {"a/b", "a/b/c"},
    "**/b": {"a/b", "a/b/c", "b"},
    "**": {"a", "a/b", "a/b/c", "b", ".c", "d.txt", "e/d.txt", "é"},
    "a/**": {"a/b", "a/b/c"},
    "**/*.txt": {"d.txt", "e/d.txt"},
    "*.txt": {"d.txt"},
    "a**c": {"a/b/c"},
    "?": {"a", "a/b", "a/b/c", "b", "é", "e/d.txt"},
    "[^a]": {"b", "é", "e/d.txt"},
    "[a-b]": {"a", "a/b", "a/b/c", "b"},
    "[\\a]": {"a", "a/b", "a/b/c"},
    "\\*": set(),
    "*\n!a": {"b", ".c", "d.txt", "e/d.txt", "é"},
    "*\n!a/b": {"a", "b", ".c", "d.txt", "e/d.txt", "é"},
    "!a\na": {"a", "a/b", "a/b/c"},
    "\ufeffa": {"a", "a/b", "a/b/c"},
    "#a\n \n b \n./e//x/../": {"b", "e/d.txt"},
    " #a": set(),
    "..": set(),
    "/": set(),
    ".": set(),
}
PATHS = ("a", "a/b", "a/b/c", "b", ".c", "d.txt", "e/d.txt", "é")


@pytest.mark.parametrize("text", HIDDEN)
def test_what_is_hidden(text: str) -> None:
    """A path is left out where the last rule that it, or a directory above it, matches is no exception."""
    rules = Ignored.of_text(text)
    assert {path for path in PATHS if rules.hides(path)} == HIDDEN[text]


@pytest.mark.parametrize("text", ["[", "a/[b", "[]a]", "[a-]", "[-a]", "[b-a]", "a\\", "!", "! "])
def test_what_is_no_pattern(text: str) -> None:
    """The file and the line are named."""
    with pytest.raises(InputError, match="own:2: "):
        Ignored.of_text(f"fine\n{text}\n", "own")


def test_a_pattern_of_copy() -> None:
    """Two stars are one there; a class never is a slash."""
    assert compiled("a**", deep=False).fullmatch("abc")
    assert not compiled("a**", deep=False).fullmatch("a/b")
    assert not compiled("a[^x]b", deep=False).fullmatch("a/b")
    assert [is_pattern(text) for text in ("a", "a*", "a?", "[a", "a\\b")] == [False, True, True, True, False]


def test_nothing_is_hidden_by_nothing() -> None:
    """No rule hides nothing."""
    assert not any(map(Ignored().hides, PATHS))
    assert not Ignored().has_exceptions
