"""``validate`` and whoever builds upon an image say the same of it: what is built upon is not invalid, what is refused is not valid."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from check.test_validated_documents import DOCUMENTS
from helpers.bad_images import NO_JSON
from helpers.effort import todays
from helpers.images import BAD_LAYERS, FILE, LAYER, LOWER, ODD_LAYERS, UPPER, Made, docker_archive, put, sha256, tar
from image.test_layer_forms import FORMS

from rootless_layer import open_base
from rootless_layer.check.validate import validate
from rootless_layer.errors import RootlessLayerError
from rootless_layer.image.choose import choose
from rootless_layer.image.read import NamedImage, read_all
from rootless_layer.image.write import write_images
from rootless_layer.oci.descriptor import Platform

pytestmark = pytest.mark.slow

ODD_VALUES: list[Any] = [
    None, [], {}, -1, 1.5, "", "text", True, [None], {"a": None}, 10**30, "../../etc/passwd", "a\0b", "\ud800", "\x1b", "a b",
]  # fmt: skip


@attrs.define
class Words:
    """What is said of an image: the place is a directory for what is made on the way."""

    place: Path
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def spool(self) -> str:
        """Name a new file."""
        return f"{self.place}/{next(self.numbers)}"

    def of_validate(self, path: Path) -> str:
        """Give the problems, ``""`` where there is none."""
        try:
            found = validate(str(path), self.spool)
        except RootlessLayerError as error:
            return str(error)
        return "\n".join(map(str, found.problems))

    def of_a_build(self, path: Path) -> str | None:
        """Give the error of a build upon the image, and of an image of it, ``""`` where there is none.

        Nothing is given where the image is for another platform only, of which ``validate`` has nothing to say.
        """
        try:
            found = read_all(path, self.spool)
            if found.images and not any(Platform("linux", "amd64").runs(stored.platform) for stored in found.images):
                return None
            image = choose(found.images, str(path), Platform("linux", "amd64"), others=found.others)
            with open_base(image, cache=self.place / "cache"):
                pass
            write_images([NamedImage(image, found.images[0].names)], self.spool(), "layout")
        except RootlessLayerError as error:
            return str(error)
        return ""

    def agree(self, path: Path, what: object) -> bool:
        """Check that both say the same, and give whether that is good."""
        valid, built = self.of_validate(path), self.of_a_build(path)
        assert built is None or bool(valid) == bool(built), (what, valid, built)
        return not valid


@pytest.fixture
def words(shared: Path) -> Iterator[Words]:
    """A place to build in."""
    with tempfile.TemporaryDirectory(dir=shared) as place:
        yield Words(Path(place))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of every value within a JSON value, but the whole."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def documents(folder: Path) -> dict[str, Any]:
    """Give the documents of an image as it is made here."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda document: found.setdefault(name, json.loads(json.dumps(document)))

    Made(folder, [LOWER], {name: keep(name) for name in ("config", "manifest", "index")}).write()
    return found


@pytest.mark.parametrize("part", todays(range(4), 2))
@pytest.mark.parametrize("document", ["config", "manifest", "index"])
def test_any_value_in_any_place(words: Words, document: str, part: int) -> None:
    """Whatever stands in the place of any value, and where one is missing, both say the same."""
    given = documents(words.place / "whole")[document]
    outcomes = set()
    cases = [(path, value) for path in places(given) for value in [*ODD_VALUES, ...]]
    for path, value in cases[part::4]:
        top = words.place / "image"
        Made(top, [LOWER], {document: put(*path, to=value)}).write()
        outcomes.add(words.agree(top, (document, path, value)))
        shutil.rmtree(top)
    assert False in outcomes


SHAPES: dict[str, Any] = {
    **{f"layer: {name}": ([LOWER, layer], {}) for name, (layer, _) in {**BAD_LAYERS, **ODD_LAYERS}.items()},
    **{f"document: {name}": ([LOWER, UPPER], {document: change}) for name, (document, change, _) in DOCUMENTS.items()},
    "form": ([LOWER], {}),
}


def test_shapes_of_layers_and_documents(words: Words) -> None:
    """Layers that are bad or odd, in every form, and documents that are wrong: both say the same of each."""
    for name, (layers, change) in todays([*SHAPES.items()], len(SHAPES) // 2):
        top = words.place / "image"
        Made(top, layers, change).write()
        good = words.agree(top, name)
        assert good or not name.startswith("layer") or name[7:] in BAD_LAYERS
        shutil.rmtree(top)
    for name, (plain, stored, kind) in FORMS.items():
        top = words.place / "image"
        Made(top, [LOWER, plain], stored=stored, media_type=LAYER + kind).write()
        assert words.agree(top, name)
        shutil.rmtree(top)


def test_files_that_are_no_documents(words: Words) -> None:
    """What is no JSON, has no number or half a character, or is another value than it should be, in any of the files."""
    for data, name in itertools.product(NO_JSON, ["index.json", "oci-layout"]):
        top = words.place / "image"
        Made(top, [LOWER]).write()
        (top / name).write_bytes(data)
        assert words.agree(top, (name, data[:20])) == (name == "oci-layout")
        shutil.rmtree(top)
    for data in NO_JSON:
        path = docker_archive(words.place / "docker.tar", lambda files, data=data: files.update({"manifest.json": data}))
        assert not words.agree(path, data[:20])


def docker(*rows: Any, **files: bytes) -> Any:
    """Change a docker-archive's files."""

    def change(there: dict[str, bytes]) -> None:
        there.update(files)
        if rows:
            whole = json.loads(there["manifest.json"])[0]
            there["manifest.json"] = json.dumps([{**whole, **row} for row in rows]).encode()

    return change


@pytest.mark.parametrize("value", [*ODD_VALUES, ["x:1", "y"], ["\x1b:1"], ["1/layer.tar", "1/layer.tar"], ["1/layer.tar", ""]])
def test_docker_archives(words: Words, value: Any) -> None:
    """Whatever stands in a row of manifest.json, or is not there, both say the same."""
    for name in ("Config", "RepoTags", "Layers", "Parent", "LayerSources", "config"):
        path = docker_archive(words.place / "docker.tar", docker({name: value}))
        words.agree(path, (name, value))
    for change in (
        docker({}, {}),
        docker(**{"1/layer.tar": b""}),
        docker(**{"2/layer.tar": UPPER + b"x"}),
        docker(**{"1/layer.tar": UPPER}),
    ):
        words.agree(docker_archive(words.place / "docker.tar", change), value)


def test_digests_of_other_kinds(words: Words) -> None:
    """sha384 and sha512 name what is as they say; what is not so, and digests that nobody knows, are refused."""
    for algorithm, right in itertools.product(["sha256", "sha384", "sha512", "blake3", "md5", "sha1"], [True, False]):
        top = words.place / "image"
        layer = tar(("a", FILE, b"a"))
        encoded = hashlib.new(algorithm if algorithm != "blake3" else "sha256", layer if right else b"").hexdigest()
        row = {"mediaType": LAYER, "digest": f"{algorithm}:{encoded}", "size": len(layer)}
        Made(top, [layer], {"manifest": put("layers", 0, to=row)}).write()
        (top / "blobs" / algorithm).mkdir(exist_ok=True)
        (top / "blobs" / algorithm / encoded).write_bytes(layer)
        assert words.agree(top, (algorithm, right)) == (right and algorithm in {"sha256", "sha384", "sha512"})
        if right and algorithm == "sha512":
            [stored] = read_all(top, words.spool).images
            assert stored.image.layers[0].descriptor.digest == sha256(layer)
        shutil.rmtree(top)
