"""Whether an image may be written: its config, its names, its layers and what they do to each other.

All that writes images asks :func:`admit` first, so that nothing is written which ``validate`` would call invalid.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.contents import ROOT, Contents, apply_layers, read_contents
from rootless_layer.layer.soundness import Soundness
from rootless_layer.oci.config import read_json
from rootless_layer.oci.descriptor import MEDIA_TYPES
from rootless_layer.oci.documents import Document, check_image_config
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.reference import is_ref_name
from rootless_layer.tar.read import Member
from rootless_layer.terminal import quoted
from rootless_layer.tree import mtree
from rootless_layer.tree.hiding import Needed, few, in_store, programs, unmeant
from rootless_layer.tree.tree import is_plain_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.contents import Merged
    from rootless_layer.tree.changes import Changes
    from rootless_layer.tree.tree import Entry

    from .image import Image
    from .read import NamedImage

MOST_FOR_DOCKER, _MOST = 125, 500
"""How many layers docker takes (127 of overlay2, less the two of a container), and overlayfs at all."""
_OF_CLOSURES = frozenset({b"", b"nix", b"nix/store"})


def admit(images: Sequence[NamedImage], tell: Callable[[str], object]) -> None:
    """Check images that are to be written; ``tell`` is told what a person should know, a line each.

    Raises :class:`InputError` with all that is wrong with configs, names and diff IDs, or where
    layers hide what the image needs to start; :class:`InputError` also for a layer whose bytes are not
    what is said of them.
    """
    problems = list(dict.fromkeys(problem for stored in images for problem in image_problems(stored.image, stored.names)))
    if problems:
        raise InputError(*problems, hint="Set what is wrong by the options or --config, or mend the base.")
    for image in {stored.image.manifest_digest: stored.image for stored in images}.values():
        count = len(image.layers)
        if count > MOST_FOR_DOCKER:
            tell(f"warning: the image has {count} layers, and docker takes {MOST_FOR_DOCKER} at most")
        for note in _looked_through(image):
            tell(f"warning: {note}")


def check_base(image: Image, where: str) -> Image:
    """Give an image that is to be built upon; raises :class:`InputError` for one whose documents ``validate`` calls invalid."""
    if problems := image_problems(image, ()):
        raise InputError(
            *(f"{where}: {problem}" for problem in problems),
            hint="`rootless-layer image --base` writes it again with what the options and --config set.",
        )
    return image


def image_problems(image: Image, names: Iterable[str]) -> list[str]:
    """Say all that is wrong with an image's documents and names; its layers' bytes are not looked at."""
    finder = Finder()
    check_image_config(Document(read_json(image.config), "the image's config", finder), len(image.layers))
    found = [str(problem) for problem in finder.problems]
    found += [f"{quoted(name)} is not the name of an image: name it NAME:TAG with -t" for name in names if not is_ref_name(name)]
    for layer in image.layers:
        if layer.descriptor.media_type == MEDIA_TYPES["none"] and layer.diff_id != layer.descriptor.digest:
            found.append(f"layer {layer.descriptor.digest}: is not compressed, so that its diff ID cannot be {layer.diff_id}")
    if len(image.layers) > _MOST:
        found.append(f"the image has {len(image.layers)} layers, and no engine takes more than {_MOST}")
    return found


def _looked_through(image: Image) -> list[str]:
    """Check layers that nobody has checked, and give what those on top hide by accident.

    Nothing is brought here for it: of an image that is pushed with layers that a registry has, nothing is said.
    """
    if _is_passed_on(image) or not all(layer.piece is None or layer.piece.is_here for layer in image.layers):
        return []
    own = len(image.layers) - max(image.below, 1)  # the lowest one hides nothing
    tops = [contents_of(layer) for layer in image.layers[len(image.layers) - own :]]
    if all(map(_is_of_closure, tops)) and not any(map(_is_foreign, image.layers)):
        return []
    seen, finder, tree, foreign = Accidents.of(image.described.get("config") or {}), Finder(), apply_layers(()), True
    for number, layer in enumerate(image.layers):
        contents = contents_of(layer)
        foreign = foreign and _is_foreign(layer)
        # What is put on top was made here, and is not known whole.
        checked = Soundness(called(layer), contents, tree, finder if foreign else Finder(), known=True)
        placed, changes = checked.check() if foreign else contents.placed(tree)
        apart = number >= len(image.layers) - own and layer.upon != image.chain_ids[number - 1]
        seen.see(called(layer), placed, tree, changes, own=apart)  # what is built upon the very tree is meant
        changes.apply(tree)
    if finder.problems:
        raise InputError(*map(str, finder.problems), hint="Such an image cannot be unpacked: get or build it again.")
    if seen.lost:
        raise InputError(*seen.lost, hint=_HINT)
    return few(seen.notes)


_HINT = (
    "Build the layer upon the base (`rootless-layer build --base`), which says where the two clash, or put its files, each with"
    " its mode, where the base's links lead to."
)


@attrs.define(slots=True)
class Accidents:
    """What layers, one put upon the other, do to those below that nobody may have meant: a line for each."""

    needed: Needed
    notes: list[str] = attrs.field(factory=list)

    @classmethod
    def of(cls, config: object) -> Self:
        """Begin without a layer; ``config`` has the properties of an image's config, by which it starts."""
        return cls(Needed(programs(config if isinstance(config, dict) else {})))

    def see(self, where: str, contents: Contents, below: Merged, changes: Changes[Member], *, own: bool) -> None:
        """See a layer, called ``where``, and what it changes of the tree below; of one not ``own`` nothing is said."""
        entries = [member.entry for member in contents.members if not member.is_whiteout]
        gone, above = changes.removed | changes.emptied, _lookup(below, changes)
        if own:
            self.notes += [f"{where}: {note}" for note in unmeant(entries, _lookup(below), above, gone)]
        self.needed.see([entry.path for entry in entries], above, where, gone)
        if not own:
            self.needed.lost.clear()

    @property
    def lost(self) -> list[str]:
        """Say what an image needs to start, was there, and cannot be found any more."""
        return list(self.needed.lost.values())


def _lookup(tree: Merged, changes: Changes[Member] | None = None) -> Callable[[bytes], Entry | None]:
    """Give what looks up a path of a tree, with a layer's changes where there are some."""
    added: Mapping[bytes, Member] = {} if changes is None else changes.added
    hidden = frozenset[bytes]() if changes is None else changes.hides(tree)

    def there(path: bytes) -> Entry | None:
        member = added.get(path) or (None if path in hidden else tree.get(path) if path else tree.get(path, ROOT))
        return None if member is None else member.entry

    return there


def called(layer: LayerBlob) -> str:
    """Say what messages call a layer: its directory where somebody named one, else its digest."""
    folder = os.path.dirname(layer.listing)
    return f"layer {layer.descriptor.digest}" if not folder or layer.trusted or layer.tree is not None else folder


def _is_foreign(layer: LayerBlob) -> bool:
    """Say whether a layer's bytes are from elsewhere: nobody here has compared them with the diff ID."""
    hashed = layer.trusted and (layer.piece is None or layer.piece.remote is None)
    return layer.piece is not None and not layer.listing and not hashed and layer.uncompressed_size is None


def _is_passed_on(image: Image) -> bool:
    """Say whether an image stays as a registry has it: its bytes were compared with its digests, and nothing is built upon it."""
    return image.pushed is image.kept and all(
        layer.piece is not None and layer.piece.remote is not None for layer in image.layers
    )


def _is_of_closure(contents: Contents) -> bool:
    """Say whether a layer has nothing but what is in Nix's store, so that it hides nothing."""
    return all(member.entry.path in _OF_CLOSURES and not member.is_whiteout for member in contents.members)


@functools.lru_cache(_MOST)
def contents_of(layer: LayerBlob) -> Contents:
    """Give what a layer holds: one of ours by its listing, without Nix's store; any other by its tar, which is checked.

    Raises :class:`InputError` and :class:`SourceError` for a damaged one.
    """
    if layer.tree is None and not os.path.isfile(layer.listing):
        try:
            return read_contents(layer)
        except InputError:
            layer.verify()  # bytes that are not what the digest says are the reason, where that is so
            raise
    if layer.tree is not None:
        entries = [layer.tree.entries[path] for path in layer.tree.entries if not in_store(path)]
        stands = layer.tree.root_stands
    else:
        with open(layer.listing, "rb") as file:
            stands = mtree.Head.of(file, layer.listing).root_stands
            entries = mtree.read(_outside_store(file), b"/", layer.listing)
    kept = (entry for entry in entries if not in_store(entry.path))
    return Contents.of(Member(name=entry.path, entry=entry) for entry in kept if stands or not is_plain_root(entry))


def _outside_store(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out of a listing what is in the store, with the lines that go before it."""
    before: list[bytes] = []
    for line in lines:
        if line.startswith(b"./nix/store/"):  # nearly all of them
            before = []
        elif line.startswith(b"#"):
            before.append(line)
        else:
            yield from before
            yield line
            before = []
