"""The kinds of value of ``--copy`` and ``--copy-from``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import attrs

from rootless_layer.plan.copies import Copy
from rootless_layer.terminal import quoted

from .kinds import a_text, refuse
from .lists import TEXTS, Several

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANGES = r"(?P<changes>(?::(?:chown|chmod)=.*)?)"
_COPY = re.compile(rf"(?P<source>.+?):(?P<dest>[^:]+){_CHANGES}", re.DOTALL)
_COPY_FROM = re.compile(rf"(?P<image>.+?):(?P<source>/[^:]*):(?P<dest>[^:]+){_CHANGES}", re.DOTALL)
_CHANGE = re.compile(r":(chown|chmod)=(.*?)(?=:(?:chown|chmod)=|$)", re.DOTALL)
_KEYS = frozenset({"source", "dest", "chown", "chmod"})


@attrs.frozen(slots=True)
class CopyFrom:
    """A copy of an image's files, and what names the image."""

    image: str
    copy: Copy


class Copies(Several[Copy]):
    """Copies of this machine's files."""

    def of_text(self, text: str) -> Copy:
        """Read ``SRC:DEST``, with ``:chown=USER[:GROUP]`` and ``:chmod=MODE`` behind."""
        found = _COPY.fullmatch(text)
        return _copy(found.groupdict()) if found is not None else _unreadable(text, "SRC:DEST[:chown=USER[:GROUP]][:chmod=MODE]")

    def of_toml(self, value: object) -> tuple[Copy, ...]:
        """Take a text, a table, or a list of them."""
        return tuple(map(self._one, value if isinstance(value, list) else [value]))

    def _one(self, value: object) -> Copy:
        if isinstance(value, dict):
            return _of_table(value, _KEYS)
        return self.of_text(a_text(value))


class CopiesFrom(Several[CopyFrom]):
    """Copies of images' files."""

    def of_text(self, text: str) -> CopyFrom:
        """Read ``IMAGE:PATH:DEST``, with ``:chown=USER[:GROUP]`` and ``:chmod=MODE`` behind."""
        found = _COPY_FROM.fullmatch(text)
        if found is None:
            _unreadable(text, "IMAGE:/PATH:DEST[:chown=USER[:GROUP]][:chmod=MODE]")
        return CopyFrom(found["image"], _copy(found.groupdict()))

    def of_toml(self, value: object) -> tuple[CopyFrom, ...]:
        """Take a text, a table, or a list of them."""
        return tuple(map(self._one, value if isinstance(value, list) else [value]))

    def _one(self, value: object) -> CopyFrom:
        if isinstance(value, dict):
            copy = _of_table(value, _KEYS | {"from"})
            return CopyFrom(a_text(value.get("from")) or refuse("names no image in `from`"), copy)
        return self.of_text(a_text(value))


def _copy(given: Mapping[str, str | None]) -> Copy:
    """Make a copy of the parts of its text."""
    changes = dict(_CHANGE.findall(given["changes"] or ""))
    return Copy(given["source"] or "", given["dest"] or "", chown=changes.get("chown", ""), chmod=_mode(changes.get("chmod")))


def _of_table(value: Mapping[str, object], known: frozenset[str]) -> Copy:
    if not {"source", "dest"} <= value.keys() <= known:
        refuse(f"is a table of {', '.join(sorted(known))}, and has {', '.join(sorted(value)) or 'nothing'}")
    chmod = value.get("chmod")
    return Copy(
        TEXTS.of_toml(value["source"]), a_text(value["dest"]), chown=a_text(value.get("chown", "")),
        chmod=None if chmod is None else _mode(a_text(chmod)),
    )  # fmt: skip


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-7]{1,5}", text):
        refuse(f"chmod={text}: permissions are octal digits, as 0755")
    return int(text, 8)


def _unreadable(text: str, form: str) -> NoReturn:
    refuse(f"{quoted(text)}: write it as {form}")


COPIES, COPIES_FROM = Copies(), CopiesFrom()
