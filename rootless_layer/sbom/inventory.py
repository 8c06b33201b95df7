"""What is in an image: its databases of packages and its store paths, layer by layer."""

from __future__ import annotations

import os
import re
import stat
from itertools import product
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.contents import Contents, read_contents
from rootless_layer.oci.descriptor import sha256
from rootless_layer.oci.time import parse_time, rfc3339
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.nar_hash import nar_hash_digits
from rootless_layer.system.machine import unreadable
from rootless_layer.tar.read import Member

from .component import Bill, Component, Distribution, Layer, Package
from .databases import kind_of, may_be_database, read_database, why_unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rootless_layer.image.image import Image
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.contents import Merged
    from rootless_layer.tree.tree import Entry

    Consume = Callable[[memoryview], object]

_MOST_BYTES = 512 << 20
"""A database of so many bytes is no database of packages."""
_RELEASES = (b"etc/os-release", b"usr/lib/os-release")
_VERSION = re.compile(r"(.+?)-([0-9].*)", re.DOTALL)
_NO_CLOSURE = Closure()
_ANY = "*"
"""The architecture of a package that stands for those of all."""


def take_stock(image: Image, name: str = "", closure: Closure = _NO_CLOSURE) -> Bill:
    """Say what is in an image, of whichever base, by reading its layers.

    :param image: the image; a derived layer's sources have to be there.
    :param name: what the bill calls it.
    :param closure: knows which store paths refer to which, and the hashes of their NARs.
    :returns: the bill, the same for the same image and closure.
    :raises InputError: for a layer or a database of packages that is damaged. :class:`SourceError` is raised for what is
        not there.
    """
    stock = _Stock(closure.store_dir)
    for number, layer in enumerate(image.layers):
        stock.add(number, layer)
    found = sorted(stock.packages(), key=lambda pair: pair[0].identity)
    packages = [_known(package, closure) for package, _ in found]
    needs = _dependencies(packages, closure)
    release = next((stock.data[member.digest] for path in _RELEASES if (member := stock.find(path)) is not None), b"")
    distribution = Distribution.parse(release)
    created = image.described.get("created")
    return Bill(
        name=name or "image",
        digest=image.manifest_digest,
        architecture=image.platform.architecture,
        created=rfc3339(parse_time(created if isinstance(created, str) and created else "1")),
        layers=tuple(Layer(layer.descriptor.digest, layer.diff_id) for layer in image.layers),
        components=tuple(
            Component(package, package.url(distribution), layer, needs.get(number, ()))
            for number, (package, (_, layer)) in enumerate(zip(packages, found, strict=True))
        ),
        distribution=distribution,
        unread=stock.unread(),
    )


class _Stock:
    """The tree so far, the data of what may be a database, and the layer that each package came with."""

    def __init__(self, store_dir: str) -> None:
        self.store_dir = store_dir
        self.store = os.fsencode(store_dir).lstrip(b"/") + b"/"
        self.tree: Merged = {}
        self.data: dict[str, bytes] = {}
        self.parsed: dict[tuple[str, str], list[Package]] = {}
        self.layers: dict[Package, int] = {}

    def add(self, number: int, layer: LayerBlob) -> None:
        """Put a layer upon those before it."""
        contents = self._contents(layer)
        _, changes = contents.placed(self.tree)
        changes.apply(self.tree)
        there = [*self._store_paths(), *self._of_databases()]
        self.layers = {package: self.layers.get(package, number) for package in there}

    def packages(self) -> Iterable[tuple[Package, int]]:
        """Give each package that is there, and the number of its layer."""
        return {package.identity: (package, layer) for package, layer in self.layers.items()}.values()

    def unread(self) -> dict[str, str]:
        """Give the databases that are not read, and why."""
        return {os.fsdecode(path): why for path in sorted(self.tree) if self._is_file(path) and (why := self._why_unread(path))}

    def _why_unread(self, path: bytes) -> str:
        size = self.tree[path].entry.size
        return (
            f"has {size} bytes, too many for a database of packages" if kind_of(path) and size > _MOST_BYTES else why_unread(path)
        )

    def find(self, path: bytes) -> Member | None:
        """Find a file whose data was kept, through the link that it may be."""
        member = self.tree.get(path)
        return member if member is not None and member.digest in self.data else None

    def _is_file(self, path: bytes) -> bool:
        return stat.S_ISREG(self.tree[path].entry.mode)

    def _contents(self, layer: LayerBlob) -> Contents:
        """Read a layer: of one with a listing that, where it has no database."""
        if layer.tree is not None or os.path.isfile(layer.listing):
            entries = list(layer.read_tree().archived())
            wanted = [entry for entry in entries if entry.is_regular and may_be_database(entry.path)]
            if layer.piece is None or not wanted:
                return Contents.of(self._member(entry) for entry in entries)
        kept: list[tuple[Entry, bytearray]] = []

        def keep(entry: Entry) -> Consume | None:
            if not may_be_database(entry.path) or entry.size > _MOST_BYTES:
                return None
            kept.append((entry, bytearray()))
            return kept[-1][1].extend

        contents = read_contents(layer, keep)
        self.data |= {sha256(data): data for data in (bytes(each) for _, each in kept)}
        return contents

    def _member(self, entry: Entry) -> Member:
        """Give a member of a derived layer, whose data is read where it may be a database."""
        member = Member(name=entry.path, entry=entry)
        if entry.source is None or not may_be_database(entry.path) or entry.size > _MOST_BYTES:
            return member
        try:
            with open(entry.source, "rb") as file:
                data = file.read()
        except OSError as error:
            raise unreadable(error, os.fsdecode(entry.source)) from error
        digest = sha256(data)
        self.data[digest] = data
        return attrs.evolve(member, digest=digest)

    def _store_paths(self) -> Iterable[Package]:
        names = {path[len(self.store) :].partition(b"/")[0] for path in self.tree if path.startswith(self.store)}
        for name in sorted(names):
            found = StorePath.containing(f"{self.store_dir}/{os.fsdecode(name)}")
            if found is not None:
                yield _of_store(found)

    def _of_databases(self) -> Iterable[Package]:
        for path in sorted(self.tree):
            kind = kind_of(path)
            if kind and (member := self.find(path)) is not None:
                yield from self._read(path, kind, member.digest)

    def _read(self, path: bytes, kind: str, digest: str) -> list[Package]:
        if (kind, digest) not in self.parsed:
            try:
                self.parsed[kind, digest] = read_database(kind, self.data[digest])
            except InputError as error:
                raise InputError(*(f"{os.fsdecode(path)}: {problem}" for problem in error.problems)) from error
        return self.parsed[kind, digest]


def _of_store(path: StorePath) -> Package:
    """Give a store path as a package: the version begins at the first dash before a digit (``parseDrvName`` in Nix)."""
    named = _VERSION.fullmatch(path.name)
    name, version = (named[1], named[2]) if named else (path.name, "")
    return Package(kind="nix", name=name, version=version, path=path.path, qualifiers=(("hash", path.digest),))


def _known(package: Package, closure: Closure) -> Package:
    """Add what a closure knows of a store path."""
    if package.kind != "nix" or not closure.hashes:
        return package
    digits = nar_hash_digits(closure.hashes.get(StorePath(package.path), ""))
    return attrs.evolve(package, hashes=(("SHA256", digits),)) if digits else package


def _dependencies(packages: Sequence[Package], closure: Closure) -> Mapping[int, tuple[int, ...]]:
    """Say which packages each depends on, by their numbers: of alternatives, those that are there.

    A name leads to one package, however many have it, so that a bill grows with what the packages say and no faster: to the
    package itself, else to one that is called so, of its own architecture where there is one.
    """
    providers: dict[tuple[str, str, str], int] = {}
    for names_of in (_own_names, _further_names):
        for number, package in enumerate(packages):
            for name, architecture in product(names_of(package), (package.architecture, _ANY)):
                providers.setdefault((package.kind, name, architecture), number)
    found: dict[int, tuple[int, ...]] = {}
    for number, package in enumerate(packages):
        if package.kind == "nix":
            references = closure.references.get(StorePath(package.path), frozenset())
            wanted: Iterable[str] = [other.path for other in references]
        else:
            own = {*_own_names(package), *_further_names(package)}
            wanted = [name for names in package.needs if own.isdisjoint(names) for name in names]
        keys = (((package.kind, name, architecture) for architecture in (package.architecture, _ANY)) for name in wanted)
        those = {next((providers[key] for key in each if key in providers), number) for each in keys}
        found[number] = tuple(sorted(those - {number}))
    return found


def _own_names(package: Package) -> tuple[str, ...]:
    return (package.path or package.name,)


def _further_names(package: Package) -> tuple[str, ...]:
    return package.provides
