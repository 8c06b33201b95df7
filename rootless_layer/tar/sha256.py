"""SHA-256 that can be put down and taken up again, in another process as well.

libcrypto's own functions (FIPS 180-4; SHA256_Init(3)) leave the state where it can be read: eight words, the count of
bits, and what of the last block of 64 bytes is there. It is the library that Python's hashlib has loaded already. Where it
has no such functions (they are deprecated in OpenSSL 3, and may be left out), or gives another digest by them than hashlib
does, there is no such thing, and whoever asks does without.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 64
WORDS_BYTES = 32
_MAPPED = re.compile(r" (/\S*/libcrypto[^/\s]*)$", re.MULTILINE)
_TRIED = bytes(range(256)) * 3


class _Context(ctypes.Structure):
    """SHA256_CTX of openssl/sha.h."""

    _fields_ = (
        ("words", ctypes.c_uint32 * 8),
        ("low", ctypes.c_uint32),
        ("high", ctypes.c_uint32),
        ("data", ctypes.c_uint8 * BLOCK_BYTES),
        ("num", ctypes.c_uint),
        ("length", ctypes.c_uint),
        ("spare", ctypes.c_uint8 * 64),  # should a library's be longer
    )


@attrs.frozen(slots=True)
class State:
    """A digest behind ``size`` bytes: its eight words, the highest byte of each first, and what there is of the next block."""

    size: int = 0
    words: bytes = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
    rest: bytes = b""


@attrs.frozen(slots=True)
class _Library:
    init: Callable[[object], int]
    update: Callable[[object, object, int], int]
    final: Callable[[object, object], int]


class Sha256:
    """A digest over bytes, from a state on; raises :class:`OSError` where :func:`is_resumable` says that there is none."""

    def __init__(self, state: State | None = None) -> None:
        """Begin, or go on from a state."""
        library = _library()
        if library is None:
            message = "libcrypto has no SHA-256 that can be resumed"
            raise OSError(message)
        self._library, self._context = library, _Context()
        library.init(ctypes.byref(self._context))
        if state is not None:
            context = self._context
            for place in range(8):
                context.words[place] = int.from_bytes(state.words[4 * place : 4 * place + 4], "big")
            bits = 8 * state.size
            context.low, context.high = bits & 0xFFFFFFFF, bits >> 32 & 0xFFFFFFFF
            context.num = len(state.rest)
            ctypes.memmove(context.data, state.rest, len(state.rest))

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes."""
        if not len(data):
            return
        given: object = data
        if not isinstance(data, bytes):
            given = bytes(data) if memoryview(data).readonly else ctypes.byref(ctypes.c_char.from_buffer(data))
        self._library.update(ctypes.byref(self._context), given, len(data))

    def hexdigest(self) -> str:
        """Give the digest so far, in hexadecimal."""
        ended, digest = _Context.from_buffer_copy(self._context), ctypes.create_string_buffer(WORDS_BYTES)
        self._library.final(digest, ctypes.byref(ended))
        return digest.raw.hex()

    def state(self) -> State:
        """Give what another one goes on from."""
        context = self._context
        words = b"".join(word.to_bytes(4, "big") for word in context.words)
        return State((context.high << 32 | context.low) // 8, words, bytes(context.data[: context.num]))


@functools.cache
def _library() -> _Library | None:
    try:
        import _hashlib  # noqa: F401, PLC0415 - it has the library loaded

        path = _MAPPED.search(Path("/proc/self/maps").read_text())
        library = ctypes.CDLL(path[1] if path else None)
        found = _Library(library.SHA256_Init, library.SHA256_Update, library.SHA256_Final)
    except (OSError, AttributeError, ImportError):
        return None
    library.SHA256_Init.argtypes = (ctypes.c_void_p,)
    library.SHA256_Update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    library.SHA256_Final.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    return found


@functools.cache
def is_resumable() -> bool:
    """Say whether a digest that is put down and taken up again here is the one that hashlib gives."""
    if _library() is None:
        return False
    for cut in (0, 1, BLOCK_BYTES, 100, len(_TRIED)):
        first = Sha256()
        first.update(_TRIED[:cut])
        state = first.state()
        if state.size != cut or len(state.rest) != cut % BLOCK_BYTES:
            return False
        second = Sha256(state)
        second.update(_TRIED[cut:])
        if second.hexdigest() != hashlib.sha256(_TRIED).hexdigest():
            return False
    return True
