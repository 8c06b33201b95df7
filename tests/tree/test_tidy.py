"""What a layer is without, because each build would have another."""

from __future__ import annotations

import stat

import pytest

from rootless_layer.tree.tidy import is_key, left_out, varies
from rootless_layer.tree.tree import Entry, Tree


def tree(*paths: bytes) -> Tree:
    """Make a tree of empty files."""
    return Tree.of(Entry(path=path, mode=stat.S_IFREG | 0o644, source=b"/dev/null") for path in paths)


PATHS = (
    b"etc/machine-id", b"etc/passwd", b"etc/passwd-", b"var/cache/ldconfig/aux-cache", b"var/lib/apt/lists/auxfiles/x",
    b"var/lib/apt/lists/deb_InRelease", b"var/lib/dpkg/status", b"var/lib/dpkg/status-old", b"var/log/apt/history.log",
    b"var/log/dpkg.log", b"var/log/dpkg.log.1", b"var/log/nginx/access.log", b"xvar/log/dpkg.log",
)  # fmt: skip
STAY = {b"etc/passwd", b"var/lib/dpkg/status", b"var/log/dpkg.log.1", b"var/log/nginx/access.log", b"xvar/log/dpkg.log"}


def test_a_tidy_layer_has_no_clock() -> None:
    """Logs, caches and copies of before go; files of other names, and all directories, stay."""
    whole = tree(*PATHS)
    tidy = whole.without(frozenset(left_out(whole, tidy=True)))
    assert {entry.path for entry in tidy if not entry.is_dir} == STAY
    assert {entry.path for entry in tidy if entry.is_dir} == {entry.path for entry in whole if entry.is_dir}
    assert {path for path in PATHS if not varies(path)} == STAY


def test_inode_numbers_are_in_no_layer() -> None:
    """Without being asked, that is all that is left out."""
    assert list(left_out(tree(*PATHS), tidy=False)) == [b"var/cache/ldconfig/aux-cache"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"etc/ssh/ssh_host_rsa_key", True), (b"etc/ssh/ssh_host_rsa_key.pub", True), (b"etc/ssh/sshd_config", False), (b"root/.ssh/id_rsa", False)],
)  # fmt: skip
def test_keys_are_told_from_other_files(path: bytes, expected: bool) -> None:  # noqa: FBT001
    """A key is never left out: a daemon does not start without it."""
    assert is_key(path) is expected
    assert not varies(path)


def test_a_files_other_names_stay_one_file() -> None:
    """Where the name that carries a file goes, the next one carries it."""
    mode = stat.S_IFREG | 0o644
    whole = Tree.of([
        Entry(path=b"a", mode=mode, source=b"/dev/null"), Entry(path=b"b", mode=mode, source=b"/dev/null", link=b"a"),
        Entry(path=b"c", mode=mode, source=b"/dev/null", link=b"a"),
    ])  # fmt: skip
    left = whole.without({b"a"})
    assert [(entry.path, entry.link) for entry in left] == [(b"", None), (b"b", None), (b"c", b"b")]
    assert whole.without(()) is whole
