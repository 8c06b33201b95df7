"""The functions of libarchive that are used here, each checked, with typed errors.

libarchive-c finds and loads the library. Its own wrappers log warnings and go on, and
its writer passes names through the locale; so the few functions needed are bound here
once more, with every return code checked: a warning is an error, except where a caller
says otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
import threading
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import ArchiveError, MachineError, UnavailableError
from rootless_layer.system.machine import advice, shortage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SONAME = "libarchive.so.13"


def _import_ffi() -> Any:  # noqa: ANN401 - a module without types
    """Import libarchive-c, telling it the library's name.

    It would ask ldconfig and a compiler for it, which takes longer than a small build,
    and fails where there is no ``/etc/ld.so.cache``, as in a sandbox.
    """
    given = os.environ.get("LIBARCHIVE")
    os.environ["LIBARCHIVE"] = given or _SONAME
    try:
        return import_module("libarchive.ffi")
    except (OSError, AttributeError, MemoryError) as error:
        message = f"libarchive cannot be loaded: {error}"
        if number := shortage(error):
            raise MachineError(message, hint=advice(number)) from error
        raise UnavailableError(
            message, hint="Install it (Debian: apt install libarchive13), or set LIBARCHIVE to its path."
        ) from error
    finally:
        if given is None:
            del os.environ["LIBARCHIVE"]


OK, EOF, WARN, FATAL = 0, 1, -20, -30
MINIMUM_VERSION = 3_004_000
NO_REASON = "no reason given"
READER = ctypes.CFUNCTYPE(ctypes.c_ssize_t, c_void_p, c_void_p, ctypes.POINTER(c_void_p))
"""What gives libarchive the next bytes: the archive, nothing, where to put their address; how many there are, or less than 0."""

_P = c_void_p
_FAST: dict[str, tuple[Any, ...]] = {
    "error_string": (c_char_p, c_void_p),
    "errno": (c_int, c_void_p),
    "entry_new": (_P,),
    "entry_free": (None, _P),
    "entry_clear": (_P, _P),
    "entry_set_mode": (None, _P, c_int),
    "entry_set_size": (None, _P, c_int64),
    "entry_set_uid": (None, _P, c_int64),
    "entry_set_gid": (None, _P, c_int64),
    "entry_set_mtime": (None, _P, c_int64, ctypes.c_long),
    "entry_set_rdev": (None, _P, c_uint64),
    "entry_copy_pathname": (None, _P, c_char_p),
    "entry_copy_symlink": (None, _P, c_char_p),
    "entry_copy_hardlink": (None, _P, c_char_p),
    "entry_copy_uname": (None, _P, c_char_p),
    "entry_copy_gname": (None, _P, c_char_p),
    "entry_xattr_add_entry": (None, _P, c_char_p, c_char_p, c_size_t),
    "entry_pathname": (c_char_p, _P),
    "entry_hardlink": (c_char_p, _P),
    "entry_symlink": (c_char_p, _P),
    "entry_mode": (ctypes.c_uint, _P),
    "entry_size": (c_int64, _P),
    "entry_size_is_set": (c_int, _P),
    "entry_uid": (c_int64, _P),
    "entry_gid": (c_int64, _P),
    "entry_mtime": (c_int64, _P),
    "entry_rdev": (c_uint64, _P),
    "entry_sparse_count": (c_int, _P),
    "entry_xattr_reset": (c_int, _P),
    "entry_xattr_next": (c_int, _P, ctypes.POINTER(c_char_p), ctypes.POINTER(c_void_p), ctypes.POINTER(c_size_t)),
    "write_new": (_P,),
    "write_free": (c_int, _P),
    "write_fail": (c_int, _P),
    "write_close": (c_int, _P),
    "write_set_format_pax_restricted": (c_int, _P),
    "write_set_options": (c_int, _P, c_char_p),
    "write_set_bytes_per_block": (c_int, _P, c_int),
    "write_set_bytes_in_last_block": (c_int, _P, c_int),
    "write_open_memory": (c_int, _P, _P, c_size_t, _P),
    "write_header": (c_int, _P, _P),
    "write_data": (ctypes.c_ssize_t, _P, _P, c_size_t),
    "write_finish_entry": (c_int, _P),
    "read_new": (_P,),
    "read_free": (c_int, _P),
    "read_support_filter_all": (c_int, _P),
    "read_support_format_tar": (c_int, _P),
    "read_support_format_raw": (c_int, _P),
    "read_header_position": (c_int64, _P),
    "filter_bytes": (c_int64, _P, c_int),
}
"""By a function's name without its ``archive_``, what it gives and what it takes. Each is a call of a microsecond: to let go
of the interpreter's lock would cost more."""
_SLOW: dict[str, tuple[Any, ...]] = {
    "read_open_filename": (c_int, _P, c_char_p, c_size_t),
    "read_open": (c_int, _P, _P, _P, READER, _P),
    "read_next_header2": (c_int, _P, _P),
    "read_data_into_fd": (c_int, _P, c_int),
    "read_data_block": (c_int, _P, ctypes.POINTER(c_void_p), ctypes.POINTER(c_size_t), ctypes.POINTER(c_int64)),
}

_this: Any = sys.modules[__name__]
"""Whose attributes, unlike global names, are found when they are bound later."""


_loading = threading.Lock()


def load() -> None:
    """Load the library and bind its functions, once: to load it takes longer than ``--help``.

    Whoever forks calls it first, so that the children need not. Anybody else gets it with the first
    function that is named. Raises :class:`UnavailableError` and :class:`MachineError`.
    """
    if "version_number" in vars(_this):
        return
    with _loading:  # threads that read blobs may be the first, several at once
        if "version_number" not in vars(_this):
            _load()


def _load() -> None:
    ffi = _import_ffi()
    if (version := ffi.version_number()) < MINIMUM_VERSION:
        raise UnavailableError(
            f"libarchive {version} is too old: 3.4.0 or newer is needed",
            hint="Install a newer libarchive, or name one in the environment variable LIBARCHIVE.",
        )
    name, handle = ffi.libarchive._name, ffi.libarchive._handle  # noqa: SLF001 - CDLL has no public name for them
    bound = _bind(ctypes.CDLL(name, handle=handle), _SLOW) | _bind(ctypes.PyDLL(name, handle=handle), _FAST)
    vars(_this).update(bound, version_number=ffi.version_number)


def _bind(library: ctypes.CDLL, functions: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    bound: dict[str, Any] = {}
    for name, (result, *arguments) in functions.items():
        bound[name] = function = getattr(library, f"archive_{name}")
        function.restype, function.argtypes = result, arguments
    return bound


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a function of libarchive's
    """Give a function of libarchive's by its name without ``archive_``: with the first, all of them are bound."""
    if name not in _FAST and name not in _SLOW and name != "version_number":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    load()
    return vars(_this)[name]


def message(archive: int) -> str:
    """Give libarchive's own words for the last thing that went wrong with ``archive``."""
    text: bytes = _this.error_string(archive) or NO_REASON.encode()
    return text.decode("utf-8", "replace")


def check(archive: int, code: int, doing: str) -> int:
    """Return ``code`` where it is no complaint, else raise :class:`ArchiveError`."""
    if code < OK:
        error = f"libarchive: {doing}: {message(archive)} (status {code})"
        raise ArchiveError(error)
    return code


_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO})


def mode_of(record: int) -> int:
    """Give the mode of an entry that was read, with the bits of a type that a tar can hold.

    libarchive leaves those that stand in the header where it does not know the typeflag: such
    an entry is a regular file (pax, "ustar Header Block", typeflag).
    """
    mode = int(_this.entry_mode(record))
    kind = stat.S_IFMT(mode)
    if kind not in _TYPES or (kind == stat.S_IFLNK and _this.entry_symlink(record) is None):
        kind = stat.S_IFREG
    return kind | stat.S_IMODE(mode)


def xattrs_of(record: int) -> list[tuple[bytes, bytes]]:
    """Give the extended attributes of an entry that was read, a name as often as it stands there."""
    found = []
    name, value, size = c_char_p(), c_void_p(), c_size_t()
    for _ in range(_this.entry_xattr_reset(record)):
        if _this.entry_xattr_next(record, ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)) != OK:
            break
        found.append((name.value or b"", ctypes.string_at(value.value, size.value) if value.value else b""))
    return found


_libc = ctypes.CDLL(None, use_errno=True)
_libc.newlocale.restype = c_void_p
_libc.newlocale.argtypes = (c_int, c_char_p, c_void_p)
_libc.uselocale.restype = c_void_p
_libc.uselocale.argtypes = (c_void_p,)
_libc.freelocale.argtypes = (c_void_p,)
_LC_CTYPE_MASK = 1


@contextlib.contextmanager
def utf8_locale() -> Iterator[None]:
    """Make names UTF-8 for this thread, whatever the process's locale is.

    Under a C locale libarchive marks each non-ASCII name with a ``hdrcharset`` record,
    so that without this the digest would depend on who runs the build.
    """
    locale = _libc.newlocale(_LC_CTYPE_MASK, b"C.UTF-8", None)
    if not locale:
        raise UnavailableError("the C library has no locale C.UTF-8", hint="Install libc-bin (glibc 2.35 has it built in).")
    before = _libc.uselocale(locale)
    try:
        yield
    finally:
        _libc.uselocale(before)
        _libc.freelocale(locale)
