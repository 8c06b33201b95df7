"""Images and layers with any bytes and any values in them: findings or errors, and no traceback."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.effort import examples
from helpers.images import LAYER, LOWER, UPPER, Made, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer.check.diff import compare
from rootless_layer.check.inspect import inspect
from rootless_layer.check.validate import validate
from rootless_layer.errors import RootlessLayerError
from rootless_layer.image.read import read_images


def survive(path: Path) -> None:
    """Look at something in every way: there are findings, or an error of ours, and nothing else."""

    def spool() -> str:
        return f"{path}.spool"  # some bytes make of an archive one that is compressed as a whole

    look: list[Callable[[], object]] = [
        lambda: validate(str(path), spool).to_json(),
        lambda: [(one.to_json(listed=True), list(one.lines(listed=True))) for one in inspect(str(path), spool)],
        lambda: [list(compare(one.image, one.image).lines()) for one in read_images(str(path), spool)],
    ]
    for each in look:
        try:
            each()
        except RootlessLayerError as error:
            assert str(error)


MANY = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=12), st.integers(0, 600)), min_size=1, max_size=3
)


def edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """Replace runs of bytes by others."""
    for place, new, gone in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + (len(new) if gone < 300 else gone) :]
    return data


@MANY
@given(edits=EDITS)
def test_mutated_archives(folder: Path, edits: list[tuple[float, bytes, int]]) -> None:
    """Whatever bytes of an archive are others, there are findings or errors that name it, and no traceback."""
    source = folder / "source"
    if not source.exists():
        Made(source, stored=lambda data: data, media_type=LAYER).write().archive(folder / "good.tar")
    path = folder / "bad.tar"
    path.write_bytes(edited((folder / "good.tar").read_bytes(), edits))
    survive(path)


@MANY
@given(edits=EDITS)
def test_mutated_layers(shared: Path, edits: list[tuple[float, bytes, int]]) -> None:
    """Whatever stands in a layer whose digests are right, there are findings or errors."""
    with tempfile.TemporaryDirectory(dir=shared) as name:
        Made(Path(name), [LOWER, edited(UPPER, edits)], stored=lambda data: data, media_type=LAYER).write()
        survive(Path(name))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just("sha256:" + "0" * 64),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of everything in a document."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@MANY
@given(document=st.sampled_from(["config", "manifest", "index"]), place=st.integers(0, 99), value=JSON)
def test_mutated_documents(shared: Path, document: str, place: int, value: Any) -> None:
    """Whatever stands in a document whose digests are right, there are findings or errors."""

    def change(given: Any) -> None:
        there = list(places(given))
        put(*there[place % len(there)], to=copy.deepcopy(value))(given)

    with tempfile.TemporaryDirectory(dir=shared) as name:
        Made(Path(name), change={document: change}).write()
        survive(Path(name))


@MANY
@given(kind=st.sampled_from(["gzip", "derived"]), edits=EDITS, place=st.integers(0, 99), value=JSON, form=st.booleans())
def test_mutated_directories(
    shared: Path, built: Path, kind: str, edits: list[tuple[float, bytes, int]], place: int, value: Any, *, form: bool
) -> None:
    """Whatever stands in ``layer.json`` or the listing, there are findings or errors."""
    with tempfile.TemporaryDirectory(dir=shared) as name:
        folder = Path(name, "layer")
        shutil.copytree(built / kind, folder)
        said = json.loads((folder / "layer.json").read_text())
        if form:
            there = list(places(said))
            put(*there[place % len(there)], to=value)(said)
            (folder / "layer.json").write_text(json.dumps(said))
        else:
            file = folder / "layer.mtree"
            file.write_bytes(edited(file.read_bytes(), edits))
        survive(folder)
