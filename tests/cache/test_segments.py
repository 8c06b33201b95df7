"""What is known of a layer's segments: the layer is the one that is built without, whatever changed and whatever is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.closures import chain, graph_of, put
from helpers.damage import empty, flip, grow
from helpers.effort import examples
from helpers.users import COMMAND, Result, User, good
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, build_layer
from rootless_layer.cache import segments as kept
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import LayerCache
from rootless_layer.cache.segments import SEGMENTS, CachedSegments, Records
from rootless_layer.cache.upkeep import verify
from rootless_layer.layer import segments as layer_segments
from rootless_layer.layer.description import LISTING
from rootless_layer.layer.layer import in_order
from rootless_layer.layer.segments import Outset, from_outset
from rootless_layer.plan.plan import plan
from rootless_layer.plan.spec import Blob, Script
from rootless_layer.progress import Progress
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.tar.compression import Compression
from rootless_layer.tree.archive import Archive

pytestmark = pytest.mark.slow
KINDS = ["none", "gzip", "zstd"]


def blob_at(folder: Path) -> bytes:
    """Read the blob of a stored layer; of a derived one there is none."""
    return b"".join(path.read_bytes() for path in sorted((folder / "blobs").rglob("*")) if path.is_file())


def same(spec: LayerSpec, cache: LayerCache, work: Path, blob: Blob = "stored") -> None:
    """Build a layer with what is known and without: the digests are the same, and each byte."""
    key = layer_key(spec, blob=blob)
    found = cache.find(key)
    entry = cache.build(key, spec, blob=blob) if found is None else found
    shutil.rmtree(work, ignore_errors=True)
    plain = build_layer(spec, work, blob=blob)
    layer = entry.open()
    assert (layer.descriptor, layer.diff_id, layer.uncompressed_size) == (
        plain.descriptor,
        plain.diff_id,
        plain.uncompressed_size,
    )
    assert blob_at(entry.folder) == blob_at(work)
    assert (entry.folder / LISTING).read_bytes() == (work / LISTING).read_bytes()
    entry.lease.release()


def known(spec: LayerSpec, cache: LayerCache, *, stored: bool = True) -> tuple[int, int]:
    """Count what is known of a layer: the segments before it begins, and the compressed ones behind."""

    def count(outset: Outset | None) -> tuple[int, int]:
        assert outset is not None
        tree = in_order(plan(spec, sealed=outset.sealed).tree, spec)
        with outset.begun(spec, tree, Archive.of(tree), stored=stored) as beginning:
            return (-1, -1) if beginning is None else (beginning.count, len(beginning.known.frames))

    return from_outset(CachedSegments(cache.place), spec, "stored" if stored else "derived", count)


def sealed(spec: LayerSpec, cache: LayerCache, blob: Blob = "stored") -> list[str]:
    """Name the store paths that are not read when a layer is built."""
    found = from_outset(CachedSegments(cache.place), spec, blob, lambda outset: {} if outset is None else outset.sealed)
    return [os.fsdecode(path).rpartition("-")[2] for path in found]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(25), deadline=None)
@given(
    st.sampled_from(KINDS), st.sampled_from(["stored", "derived"]),
    st.lists(st.tuples(
        st.dictionaries(st.integers(0, 4), st.sampled_from([b"", b"a", b"b" * 513, b"c" * 70_000, b"d" * 3_000_000])),
        st.sampled_from([{}, {"uid": 1}, {"uname": "me"}, {"link_identical": True}, {"link": "symbolic"}, {"own": "etc"},
                         {"own": "nix/store/a"},
                         {"own": "nix/store/more"}, {"own": "0"}, {"own": "1"}, {"content": 0}]),
    ), max_size=4),
)  # fmt: skip
def test_whatever_changes(
    tmp_path: Path, kind: str, blob: Blob, changes: list[tuple[Mapping[int, bytes], dict[str, object]]]
) -> None:
    """Paths that change, come and go, in any order, and options and trees beside: each layer is the one that is built without the cache."""
    cache, versions = LayerCache(tmp_path / "cache/layers"), {0: b"a", 1: b"b" * 513, 2: b"c" * 70_000}
    for number, (change, more) in enumerate([({}, {}), *changes]):
        versions |= change
        closure = chain(tmp_path / "root", list(versions.values()))
        places = [path.path for path in sorted(closure.paths, key=lambda path: path.name)]
        options = {**more}
        if (own := options.pop("own", None)) is not None:
            tree = tmp_path / f"tree-{number}"
            folder = tree / (places[int(str(own))][1:] if str(own).isdigit() else str(own))  # which may be a store path
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "mine").write_text(str(own))
            options["copy_to_root"] = (str(tree),)
        if options.pop("content", None) is not None:
            options["copy_to_root"] = (places[0],)
        spec = LayerSpec(closure=closure, compression=Compression.parse(kind), **options)  # type: ignore[arg-type]
        same(spec, cache, tmp_path / "work", blob)


@pytest.mark.parametrize("kind", KINDS)
def test_what_did_not_change_is_known(tmp_path: Path, kind: str) -> None:
    """Of a layer whose last path changed all others are known; of one whose first did, their compressed bytes."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b", b"c" * 5_000_000, b"d"]), compression=Compression.parse(kind))
    assert known(spec, cache) == (0, 0)
    same(spec, cache, tmp_path / "work")
    last = attrs.evolve(spec, closure=chain(root, [b"a", b"b", b"c" * 5_000_000, b"D"]))
    first = attrs.evolve(spec, closure=chain(root, [b"A", b"b", b"c" * 5_000_000, b"d"]))
    assert known(last, cache) == (4, 0)  # the directories above, and three paths
    assert known(first, cache) == (1, 0 if kind == "none" else 3)
    for other in (last, first):
        same(other, cache, tmp_path / "work")
    assert verify(tmp_path)[1] == []
    assert known(attrs.evolve(last, uid=1), cache) == (1, 0)  # the directories above are root's
    assert known(attrs.evolve(last, uname="a"), cache) == (0, 0)  # so they have the name, too
    assert known(attrs.evolve(last, compression=Compression("zstd", 7)), cache) == (0, 0)
    scripted = attrs.evolve(last, scripts=(Script.text("true"),), closure_writable=True)
    assert known(scripted, cache) == (-1, -1)


@pytest.mark.parametrize("blob", ["stored", "derived"])
def test_a_path_that_stands_where_it_stood_is_not_read(tmp_path: Path, blob: Blob) -> None:
    """Of a path that is known nothing but its top is looked at; what a tree has below it, or links to it, has it read."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]))
    assert sealed(spec, cache, blob) == []
    same(spec, cache, tmp_path / "work", blob)
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"B"]))
    assert sealed(other, cache, blob) == ["p0"]
    assert sealed(other, cache, "stored" if blob == "derived" else "derived") == []  # whose lines are others
    for change in ({"uid": 1}, {"source_date_epoch": 2}, {"link_identical": True}, {"scripts": (Script.text("true"),)}):
        assert sealed(attrs.evolve(other, **change), cache, blob) == []  # type: ignore[arg-type]
    plain = build_layer(other, tmp_path / "plain", blob=blob)
    assert other.closure is not None
    first, second = (Path(other.closure.location(path)) for path in sorted(other.closure.paths, key=lambda path: path.name))
    for path, there in ((second, ["p0"]), (first, ["p1"])):  # without the one into which files of the root are links
        linked = attrs.evolve(other, copy_to_root=(f"/{os.path.relpath(path, root)}",), link="hard")
        same(linked, cache, tmp_path / "work", blob)
        again = attrs.evolve(linked, comment="again")
        assert (sealed(again, cache, blob), known(again, cache, stored=blob == "stored")) == (there, (3, 0))
    (first / "bin/p0").write_bytes(b"!")  # its top is as it was
    built = cache.build(layer_key(other, blob=blob), other, blob=blob)
    assert built.open().descriptor == plain.descriptor
    built.lease.release()
    tree = tmp_path / "tree" / str(first)[len(str(root)) + 1 :]
    tree.mkdir(parents=True)
    (tree / "mine").touch()
    same(attrs.evolve(other, copy_to_root=(str(tmp_path / "tree"),)), cache, tmp_path / "work", blob)
    first.rename(second.with_name("gone"))
    put(root, "p0", b"a")
    assert sealed(other, cache, blob) == []


def test_the_data_of_a_sealed_file_counts_once(tmp_path: Path) -> None:
    """The total that progress tells is that of the data, whether a store path is a directory or one file, and known or read."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    file = StorePath(f"/nix/store/{'0' * 32}-file")
    (root / "nix/store").mkdir(parents=True)
    (root / file.path[1:]).write_bytes(b"f" * 5000)
    os.utime(root / file.path[1:], (1, 1))
    totals: list[set[int]] = []
    for number in range(2):
        references = {file: (), put(root, "p0", b"a" * 700): (file,), put(root, "p1", b"%d" % number): (file,)}
        spec = LayerSpec(closure=Closure(references, str(root)))
        assert sealed(spec, cache) == [[], ["file", "p0"]][number]
        steps: list[Progress] = []
        cache.build(layer_key(spec), spec, progress=steps.append).lease.release()
        totals.append({step.total for step in steps if step.stage == "write"})
    assert totals == [{5701}, {5701}]


@pytest.mark.parametrize("blob", ["stored", "derived"])
@pytest.mark.parametrize("change", [b"!", b"longer"])
def test_verify_reads_what_would_not_be_read(tmp_path: Path, blob: Blob, change: bytes) -> None:
    """A store path that was damaged below its top is found, by its size or by its bytes; its layer goes."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]), uname="me", gname="we")
    same(spec, cache, tmp_path / "work", blob)
    assert verify(tmp_path)[1] == []
    assert spec.closure is not None
    first = Path(spec.closure.location(next(path for path in spec.closure.paths if path.name == "p0")))
    (first / "bin/p0").write_bytes(change)
    os.utime(first / "bin/p0", (1, 1))
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"B"]))
    (wrong,) = verify(tmp_path)[1]
    assert blob == "derived" or "p0" in wrong[1]  # which is made of what the store has
    assert sealed(other, cache, blob) == []
    same(other, cache, tmp_path / "work", blob)
    assert verify(tmp_path)[1] == []


def test_a_listing_that_was_damaged(tmp_path: Path) -> None:
    """Lines that do not have their digest are not believed, where their file has its size and time."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b", b"c"]))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    begin, end = Records.read(entry).each[2].run
    before, lines = (entry / LISTING).stat(), bytearray((entry / LISTING).read_bytes())
    assert lines[begin:end].count(b"-p1") == 5  # the top, and what is in it
    lines[(begin + end) // 2] ^= 1
    (entry / LISTING).write_bytes(lines)
    os.utime(entry / LISTING, ns=(before.st_atime_ns, before.st_mtime_ns))
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"b", b"C"]))
    assert sealed(other, cache) == ["p0"]
    same(other, cache, tmp_path / "work")
    assert [(kept.path, problem) for kept, problem in verify(tmp_path)[1]] == [(entry, "its listing is damaged")]


def test_a_path_that_was_built_again(tmp_path: Path) -> None:
    """A store path with other bytes of the same size, in the same inode and of the same time is another one."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]))
    same(spec, cache, tmp_path / "work")
    closure = spec.closure
    assert closure is not None
    place = Path(closure.location(next(path for path in closure.paths if path.name == "p0")))
    (place / "bin/p0").write_bytes(b"A")
    os.utime(place / "bin/p0", (1, 1))
    place.chmod(0o700)
    place.chmod(0o755)
    other = attrs.evolve(spec, comment="another", closure=chain(root, [b"a", b"b", b"c"]))
    assert known(other, cache)[0] == 1
    same(other, cache, tmp_path / "work")


def test_a_file_system_that_keeps_no_time_of_change(tmp_path: Path) -> None:
    """Where a store path's time of change is that of its data, as in a squashfs, another may have the same: each time it is read."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]))
    assert spec.closure is not None
    first = Path(spec.closure.location(next(path for path in spec.closure.paths if path.name == "p0")))
    (first / "more").touch()  # so that both are the times of this
    same(spec, cache, tmp_path / "work")
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"B"]))
    assert (sealed(other, cache), known(other, cache)) == ([], (1, 0))  # the directories above
    (first / "bin/p0").write_bytes(b"!")
    os.utime(first / "bin/p0", (1, 1))
    same(other, cache, tmp_path / "work")
    assert verify(tmp_path)[1] == []


@pytest.mark.parametrize("damage", [grow, flip, empty, Path.unlink])
@pytest.mark.parametrize("dated", [True, False])
def test_damage_is_not_believed(tmp_path: Path, damage: object, dated: bool) -> None:  # noqa: FBT001
    """What is kept of segments and is damaged counts for nothing, also where its time does not tell; verify drops the layer."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    before = (entry / SEGMENTS).stat()
    damage(entry / SEGMENTS)  # type: ignore[operator]
    if dated and (entry / SEGMENTS).exists():
        os.utime(entry / SEGMENTS, ns=(before.st_atime_ns, before.st_mtime_ns))
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"B"]))
    assert known(other, cache) == (0, 0)
    same(other, cache, tmp_path / "work")
    assert [kept.path for kept, _ in verify(tmp_path)[1]] == [entry]
    assert verify(tmp_path)[1] == []


@pytest.mark.parametrize(
    "origin", ["[]", "{}", "1", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", '["/", 0, 0, 1, false, false, "", ""]', "", "[" * 100_000]
)
@pytest.mark.parametrize("rows", [b"", bytes(7)])
def test_segments_of_another_version(tmp_path: Path, origin: str, rows: bytes) -> None:
    """A file of another form that has its digest counts for nothing, or has nothing."""
    body = bytes(32) + origin.encode() + b"\n" + rows
    (tmp_path / SEGMENTS).write_bytes(b"rootless-layer segments 2\n" + hashlib.sha256(body).digest() + body)
    assert Records.read(tmp_path).each == ()


def test_a_blob_that_changed_is_not_copied(tmp_path: Path) -> None:
    """Where the blob does not have its time any more, its bytes are made anew."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", b"b"]))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    flip(next((entry / "blobs/sha256").iterdir()))
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"B"]))
    assert known(other, cache) == (0, 0)
    same(other, cache, tmp_path / "work")


@pytest.mark.parametrize("number", range(2))
def test_a_damaged_layer_hides_no_other(tmp_path: Path, number: int) -> None:
    """Of two layers that begin alike either may be damaged: what the other one has is known."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    for version in (b"b", b"B"):
        same(LayerSpec(closure=chain(root, [b"a", version])), cache, tmp_path / "work")
    flip(next((sorted(cache.place.iterdir())[number] / "blobs/sha256").iterdir()))
    other = LayerSpec(closure=chain(root, [b"a", b"other"]))
    assert (sealed(other, cache), known(other, cache)) == (["p0"], (2, 0))
    same(other, cache, tmp_path / "work")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_compressed_segment_that_changed_is_not_copied(tmp_path: Path, kind: str) -> None:
    """A blob that is damaged and has its size and time gives no layer its bytes under another digest."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    spec = LayerSpec(closure=chain(root, [b"a", os.urandom(70_000), b"c"]), compression=Compression.parse(kind))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    blob = next((entry / "blobs/sha256").iterdir())
    before = blob.stat()
    flip(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert spec.closure is not None
    other = attrs.evolve(spec, closure=Closure(dict.fromkeys(spec.closure.paths[1:], ()), str(root)))
    assert known(other, cache) == (1, 1)  # the directories above, and of the two the one that is whole
    same(other, cache, tmp_path / "work")


def test_an_entry_that_took_the_place_of_one_that_was_read(tmp_path: Path) -> None:
    """A blob is taken with what is kept beside it, not with what was read there before."""
    cache = LayerCache(tmp_path / "layers")
    spec = LayerSpec(closure=chain(tmp_path / "root", [b"a", b"b"]))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    early, before = CachedSegments(cache.place), (entry / SEGMENTS).stat()
    early.read()
    found = Records.read(entry)
    attrs.evolve(found, each=tuple(attrs.evolve(record, chain=bytes(32)) for record in found.each)).write(entry)
    os.utime(entry / SEGMENTS, ns=(before.st_atime_ns, before.st_mtime_ns))

    def count(outset: Outset | None) -> int:
        assert outset is not None
        tree = in_order(plan(spec, sealed=outset.sealed).tree, spec)
        with outset.begun(spec, tree, Archive.of(tree), stored=True) as beginning:
            assert beginning is not None
            return beginning.count

    assert from_outset(early, spec, "stored", count) == 0


def test_a_derived_layer_keeps_no_bytes_from_being_found(tmp_path: Path) -> None:
    """Of two layers that begin alike the one that has its blob counts, whichever is listed last."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    specs = (LayerSpec(closure=chain(root, [b"a", bytes([number])])) for number in range(99))
    spec = next(spec for spec in specs if layer_key(spec) < layer_key(spec, blob="derived"))
    same(spec, cache, tmp_path / "work")
    same(spec, cache, tmp_path / "work", "derived")
    other = attrs.evolve(spec, closure=chain(root, [b"a", b"other"]))
    assert known(other, cache) == (2, 0)
    same(other, cache, tmp_path / "work")


def test_files_of_others_in_a_store_path_end_what_is_known(tmp_path: Path) -> None:
    """A file that a tree has below a store path is nobody's to know: the segment is made each time."""
    cache, root = LayerCache(tmp_path / "layers"), tmp_path / "root"
    closure = chain(root, [b"a", b"b"])
    first = next(path for path in closure.paths if path.name == "p0")
    own = tmp_path / "tree" / first.path[1:]
    own.mkdir(parents=True)
    (own / "more").write_text("more")
    spec = LayerSpec(closure=closure, copy_to_root=(str(tmp_path / "tree"),))
    same(spec, cache, tmp_path / "work")
    (own / "more").write_text("MORE")
    other = attrs.evolve(spec, comment="again")
    assert known(other, cache)[0] <= 1
    same(other, cache, tmp_path / "work")


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where digests cannot be resumed, layers are the same, and nothing is kept."""
    monkeypatch.setattr(layer_segments, "is_resumable", lambda: False)
    cache = LayerCache(tmp_path / "layers")
    spec = LayerSpec(closure=chain(tmp_path / "root", [b"a", b"b"]))
    same(spec, cache, tmp_path / "work")
    (entry,) = cache.place.iterdir()
    assert not (entry / kept.SEGMENTS).exists()


def test_what_was_known_is_said(user: User) -> None:
    """The JSON of a build, the events of make, and make --explain say how much of a layer was known."""
    home, env = user.home, {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    graphs = [
        graph_of(chain(home / "root", [b"a" * 2_000_000, bytes([number])]), home / f"graph-{number}") for number in range(4)
    ]

    def build(number: int) -> tuple[int, int]:
        words = ["--closure", graphs[number], "--store-root", home / "root", "-o", home / "layer", "--cache", "--json"]
        said = json.loads(good(user.run([*COMMAND, "build", *words], env=env)).out)
        return said["known"], said["uncompressedSize"]

    def make(number: int, *words: str) -> Result:
        (home / "make.toml").write_text(f'[layer.one]\nclosure = "graph-{number}"\nstore-root = "root"\n')
        return good(user.run([*COMMAND, "make", home / "make.toml", *words], env=env))

    assert build(0)[0] == 0
    known, size = build(0)
    assert known == size
    known, size = build(1)
    assert 2_000_000 < known < size
    assert [event["known"] for event in map(json.loads, make(2, "--json").out.splitlines()) if "known" in event] == [known]
    assert "1 of 1 MiB are known" in make(3, "--explain").err


def test_what_was_known_of_an_image_is_said(user: User) -> None:
    """The JSON of an image and the events of make say how many of a closure's layers were there, and how many bytes were known."""
    home, env = user.home, {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    graphs = [
        graph_of(chain(home / "root", [b"a" * 1_000_000, b"b", b"c" * 500_000, bytes([number])]), home / f"graph-{number}")
        for number in range(3)
    ]

    def image(number: int, *words: str) -> dict[str, Any]:
        command = ["image", "--closure", graphs[number], "--store-root", home / "root", "--max-layers", "2", "-o", home / "image"]
        (said,) = json.loads(good(user.run([*COMMAND, *command, "--json", *words], env=env)).out)
        assert isinstance(said, dict)
        return said

    assert image(0).keys().isdisjoint({"known", "layersFound"})
    sizes = [image(0)["layers"][place]["size"] for place in range(2)]
    for number, found, known in ((0, 0, {0}), (0, 2, {sum(sizes)}), (1, 1, range(sizes[0] + 1, sum(sizes)))):
        said = image(number, "--cache")
        assert said["layersFound"] == found
        assert said["known"] in known
    (home / "make.toml").write_text('[image.one]\nclosure = "graph-2"\nstore-root = "root"\nmax-layers = 2\noutput = "made"\n')
    events = [*map(json.loads, good(user.run([*COMMAND, "make", home / "make.toml", "--json"], env=env)).out.splitlines())]
    assert [(event["found"], event["known"]) for event in events if "found" in event] == [(1, said["known"])]
