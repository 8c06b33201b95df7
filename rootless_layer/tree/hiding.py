"""What a layer hides of the tree below it, which its author may not have meant.

A layer that was built apart does not know the tree that it is put upon: its ``/bin`` may stand where
that has a link to ``usr/bin``, and its ``/tmp`` may be 0755 where that is 1777. Engines take such a
layer as it is (image-spec ``layer.md``, "Applying Changesets"), so that nobody else says so.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError

from .base import Delta
from .links import follow
from .tree import Entry, legible, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .base import Base
    from .links import Lookup
    from .tree import Tree

SHELL = "/bin/sh"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where engines look for a program, if the config has no ``PATH``."""
_STORE = b"nix/store/"
_LIBRARIES = (b"lib", b"lib32", b"lib64", b"libx32")
_LOADERS = (b"ld-linux", b"ld-musl-", b"ld64.", b"ld.so.")
_MOST_NOTES = 20


def resolve(path: bytes, there: Lookup) -> tuple[Entry | None, tuple[Entry, ...]]:
    """Follow a path through a tree's links; give what is there, and all on the way to it."""
    way = follow(path, there)
    return None if way.missing or way.endless else there(way.end), way.passed


def in_store(path: bytes) -> bool:
    """Say whether a path is in Nix's store: no layer changes one, so that nobody needs to know what is in there."""
    return path.startswith(_STORE)


def _found(path: bytes, there: Lookup) -> Sequence[Entry] | None:
    """Give the way to a file that can be run, ``None`` where there is none; what leads into the store is taken to be there."""
    entry, way = resolve(path, there)
    target = way[-1].target if entry is None and way else None
    if target is not None and in_store(target.lstrip(b"/")):
        return way
    return None if entry is None or not _is_program(entry) else way


def _is_program(entry: Entry) -> bool:
    """Say whether a file can be run: not even root runs one that has no bit for it (execve(2), EACCES)."""
    return entry.is_regular and entry.mode & 0o111 != 0


def programs(config: Mapping[str, object]) -> dict[str, tuple[bytes, ...]]:
    """Give what an image needs to start, a shell and what its config runs, by name: the paths at which it is looked for."""
    found: dict[str, tuple[bytes, ...]] = {SHELL: (SHELL.encode()[1:],)}
    pairs, folder = config.get("Env"), config.get("WorkingDir") or "/"
    variables = dict(str(pair).partition("=")[::2] for pair in pairs) if isinstance(pairs, list) else {}
    for name in ("Entrypoint", "Cmd"):
        words = config.get(name)
        word = words[0] if isinstance(words, list) and words else ""
        if not isinstance(word, str) or not word:
            continue
        places = (folder,) if "/" in word else (variables.get("PATH") or _PATH).split(":")
        paths = [word] if word.startswith("/") else [f"{place}/{word}" for place in places]
        found[word] = tuple(path.encode(errors="surrogatepass").lstrip(b"/") for path in paths)
    return found


@attrs.define(slots=True)
class Needed:
    """The files that an image needs to start, watched from layer to layer.

    ``wanted`` is of :func:`programs`; the loaders of dynamic programs join it as they are seen.
    ``lost`` says of each that is not there any more, although no layer removed it on purpose, why that is.
    """

    wanted: dict[str, tuple[bytes, ...]]
    lost: dict[str, str] = attrs.field(factory=dict)
    _there: dict[str, Sequence[Entry]] = attrs.field(factory=dict)

    def see(self, added: Iterable[bytes], there: Lookup, where: str, gone: Collection[bytes] = ()) -> None:
        """See what there is once the layer ``where``, which adds some paths and removes those ``gone``, is on top."""
        loaders = {last for path in added if (last := path.rpartition(b"/")[2]).startswith(_LOADERS)}
        for path in [folder + b"/" + name for name in sorted(loaders) for folder in _LIBRARIES]:
            self.wanted.setdefault(shown(path), (path,))
        for name, paths in self.wanted.items():
            way = next((way for path in paths if (way := _found(path, there)) is not None), None)
            before = self._there.pop(name, None)
            if way is not None:
                self._there[name] = way
                self.lost.pop(name, None)
            elif before is not None and not any(entry.path in gone for entry in before):
                self.lost[name] = f"{where}: {_lost(name, before, there)}"


def _lost(name: str, before: Iterable[Entry], there: Lookup) -> str:
    told = f"{name} is in the layers below, and cannot be found or run any more"
    for was in before:
        now = there(was.path)
        if now is None or (now.target, now.is_dir, _is_program(now)) != (was.target, was.is_dir, _is_program(was)):
            become = "is not there" if now is None else f"is {_kind(now)}"
            if now is not None and now.is_regular and not _is_program(now):
                become += f" that cannot be run ({stat.S_IMODE(now.mode):04o})"
            return f"{told}: {shown(was.path)} was {_kind(was)}, and {become}"
    return told


def unmeant(entries: Iterable[Entry], below: Lookup, above: Lookup, gone: Collection[bytes] = ()) -> Iterator[str]:
    """Say what a layer's entries do to directories and links below, one that may be an accident a line.

    ``below`` is the tree before, ``above`` the one with the layer; what is in ``gone`` the layer
    removes on purpose.
    """
    for entry in entries:
        path = entry.path
        before, now = (None, None) if in_store(path) else (below(path), above(path))
        if before is None or now is None or path in gone:
            continue
        if before.is_dir and now.is_dir:
            if _facts(before) != _facts(now):
                yield f"{shown(path)} is {_told(before)} in the layers below, and {_told(now)} from here on"
        elif before.target is not None and now.target is None:
            if (led := resolve(path, below)[0]) is not None and led.is_dir:
                yield (
                    f"{shown(path)} is a link to {legible(before.target)} in the layers below, and {_kind(now)} from here on:"
                    " what names found through the link is hidden"
                )
        elif before.is_dir:
            yield f"{shown(path)} is a directory in the layers below, and {_kind(now)} from here on: what was in it is gone"


def few(notes: Sequence[str]) -> list[str]:
    """Give as many notes of :func:`unmeant` as a person reads, and how many more there are."""
    more = len(notes) - _MOST_NOTES
    return [*notes[:_MOST_NOTES], *([f"{notes[-1].partition(': ')[0]}: {more} more of the kind"] if more > 0 else [])]


def _facts(entry: Entry) -> tuple[int, int, int]:
    return entry.mode, entry.uid, entry.gid


def _told(entry: Entry) -> str:
    return f"{stat.S_IMODE(entry.mode):04o} {entry.uid}:{entry.gid}"


def _kind(entry: Entry) -> str:
    if entry.target is not None:
        return f"a link to {legible(entry.target)}"
    return "a directory" if entry.is_dir else "a file" if entry.is_regular else "a special file"


def hidden_by_plan(base: Base, planned: Tree) -> list[str]:
    """Say what trees that are put upon a base do to it by accident; what scripts do afterwards they mean to do.

    Raises :class:`InputError` where a shell cannot be found or run any more.
    """
    delta = Delta(planned.entries)

    def there(path: bytes) -> Entry | None:
        return planned.entries.get(path) or (base.entries.get(path) if delta.leaves(path) else None)

    needed = Needed(programs({}))
    needed.see(base.entries, base.entries.get, "the base")
    needed.see((), there, "what is put upon the base")
    if needed.lost:
        hint = "Put the files where the base's links lead to, each with its mode, or remove them by a script."
        raise InputError(*needed.lost.values(), hint=hint)
    return few([f"what is put upon the base: {note}" for note in unmeant(planned, base.entries.get, there)])


_USUAL = {b"": 0o755, b"tmp": 0o1777, b"var/tmp": 0o1777}


def unusual(there: Lookup, where: str, *, is_tar: bool = False) -> Iterator[str]:
    """Say which directories of a root filesystem have a mode or an owner by which programs cannot use them."""
    for path, mode in _USUAL.items():
        entry = there(path)
        if entry is not None and entry.is_dir and (stat.S_IMODE(entry.mode), entry.uid, entry.gid) != (mode, 0, 0):
            own = f"{where.rstrip('/')}/{path.decode()}".rstrip("/")
            yield (
                f"{shown(path)} is {_told(entry)} in {where}, and {mode:04o} 0:0 everywhere else:"
                f" if that is not meant, {'mend it in the tar' if is_tar else f'chmod {mode:o} {own}'}, or have a script do it"
            )
