"""A digest that is put down and taken up again is the whole one."""

from __future__ import annotations

import hashlib
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.tar import sha256
from rootless_layer.tar.sha256 import Sha256, State, is_resumable


def test_it_is_there() -> None:
    """On the machines that tests run on, libcrypto has the functions."""
    assert is_resumable()


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_it_is_the_whole_one(data: bytes, cuts: list[int]) -> None:
    """Wherever the bytes are cut, another one that goes on from the state gives hashlib's digest."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    state = State()
    for begin, end in pairwise(places):
        digest = Sha256(state)
        digest.update(memoryview(bytearray(data[begin:end])) if begin % 2 else data[begin:end])
        state = digest.state()
        assert digest.hexdigest() == hashlib.sha256(data[:end]).hexdigest()
        assert digest.state() == state
    assert (state.size, len(state.rest)) == (len(data), len(data) % 64)


def test_more_than_the_low_word_counts() -> None:
    """Behind half a gigabyte the count of bits takes a second word."""
    block = bytes(1 << 20)
    digest, whole = Sha256(), hashlib.sha256()
    for _ in range(513):
        whole.update(block)
        digest.update(block)
    state = digest.state()
    assert state.size == 513 << 20
    assert Sha256(state).hexdigest() == whole.hexdigest()


def test_without_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library has none, whoever asks is told so."""
    monkeypatch.setattr(sha256, "_library", lambda: None)
    is_resumable.cache_clear()
    assert not is_resumable()
    with pytest.raises(OSError, match="libcrypto"):
        Sha256()
    is_resumable.cache_clear()


def test_a_python_without_openssl_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hashlib has no libcrypto, there is none to ask, and nothing fails."""
    monkeypatch.setitem(sys.modules, "_hashlib", None)
    assert sha256._library.__wrapped__() is None
