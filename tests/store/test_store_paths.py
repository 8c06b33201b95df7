"""Store paths are told from other paths, and are values."""

from __future__ import annotations

import pickle

import attrs
import pytest
from helpers.closure_forms import A, B
from helpers.effort import patient
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError
from rootless_layer.store.closure import StorePath


@pytest.mark.parametrize(
    ("path", "store_dir", "digest", "name"),
    [
        (A, "/nix/store", "7l2a4vd7ggk7mk80ya2zdh940m1lf9h0", "a"),
        (f"/s/{'0' * 32}-{'x' * 211}", "/s", "0" * 32, "x" * 211),
        (f"/home/me/.s/{'z' * 32}-.a+b_c?d=e-", "/home/me/.s", "z" * 32, ".a+b_c?d=e-"),
    ],
)
def test_parts(path: str, store_dir: str, digest: str, name: str) -> None:
    """A store path is its store's directory, and a base of digest, dash and name."""
    parsed = StorePath.parse(path)
    assert (parsed.store_dir, parsed.digest, parsed.name) == (store_dir, digest, name)
    assert parsed.base == f"{digest}-{name}"
    assert parsed.path == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "relative",
        A[1:],
        f"{A}/",
        f"{A}\n",
        f" {A}",
        f"/{A}",
        f"{A}\0",
        "/nix/store/",
        "/nix/store/short-name",
        f"/{'0' * 32}-no-store-directory",
        f"/nix/store/{'0' * 32}",
        f"/nix/store/{'0' * 32}-",
        f"/nix/store/{'0' * 31}-x",
        f"/nix/store/{'0' * 33}-x",
        f"/nix/store/{'E' * 32}-x",
        f"/nix/store/{'0' * 32}-{'x' * 212}",
        f"/nix/store/{'0' * 32}-\u00e9",
        f"/nix/../store/{'0' * 32}-x",
        f"/nix/./store/{'0' * 32}-x",
        f"/nix//store/{'0' * 32}-x",
        f"/nix\n/store/{'0' * 32}-x",
        f"/nix\ud800/store/{'0' * 32}-x",
        *(f"/nix/store/{letter * 32}-x" for letter in "eotu"),
    ],
)
def test_malformed_paths(text: str) -> None:
    """What is not exactly one store path is refused, and quoted in the message."""
    with pytest.raises(ClosureError, match="is not a store path") as caught:
        StorePath.parse(text)
    assert str(caught.value).startswith(repr(text)[:50])


@pytest.mark.parametrize("inside", [f"{A}/bin/sh", f"{A}/", f"{A}{B}", f"{A}/\n\0"])
def test_path_inside(inside: str) -> None:
    """A path inside a store path is no store path; the message names the outer one."""
    with pytest.raises(ClosureError, match=f"give {A}$"):
        StorePath.parse(inside)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (A, A),
        (f"{A}/", A),
        (f"{A}/bin/sh", A),
        (f"{A}/new\nline\0", A),
        (f"{A}/lib/../bin", A),
        (f"{A}/../{B.rpartition('/')[2]}/bin", B),
        (f"/{A}//x", A),
        (f"/nix/./store/../store{A.removeprefix('/nix/store')}", A),
        (f"{A}{B}", A),
        (f"/chroot{A}/bin", f"/chroot{A}"),
        ("/nix/store", None),
        ("/nix/store/.links/abc", None),
        (f"{A}/../x", None),
        (f"{A}\u00e9", None),
        (f"{A}{'x' * 211}", None),
        (A[1:], None),
        ("", None),
    ],
)
def test_containing(path: str, found: str | None) -> None:
    """The store path around a path is found by the text, ``..`` resolved."""
    store_path = StorePath.containing(path)
    assert (store_path.path if store_path else None) == found


def test_path_is_a_frozen_ordered_value() -> None:
    """Store paths are ordered by path, hashable, and cannot be changed."""
    assert sorted([StorePath(B), StorePath(A)]) == [StorePath(A), StorePath(B)]
    assert len({StorePath(A), StorePath(A)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        StorePath(A).path = B  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(StorePath(A))) == StorePath(A)


@patient
@given(st.text() | st.just(A).flatmap(lambda path: st.text().map(lambda more: path + more)))
def test_any_text_is_a_path_or_a_closure_error(text: str) -> None:
    """A text is a store path exactly if the store path that contains it is the text."""
    found = StorePath.containing(text)
    try:
        parsed = StorePath.parse(text)
    except ClosureError:
        assert found is None or found.path != text
    else:
        assert parsed == found
