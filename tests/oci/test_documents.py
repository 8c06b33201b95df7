"""The form of an image's documents: each property of the wrong type is a problem, which names it and its place."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.oci.descriptor import CONFIG, INDEX, MANIFEST
from rootless_layer.oci.documents import (
    INDEXES,
    MANIFESTS,
    Document,
    check_descriptor,
    check_image_config,
    check_platform,
    check_top,
    config_faults,
    is_digest,
    is_time,
    parse,
)
from rootless_layer.oci.findings import Finder

SHA256 = f"sha256:{'a' * 64}"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


def problems(check: Any, document: object, *more: object) -> list[str]:
    """Check a document, and give the problems as lines."""
    finder = Finder()
    check(Document(document, "it", finder), *more)
    return [str(problem) for problem in finder.problems]


def unusual(check: Any, document: object, *more: object) -> list[str]:
    """Check a document in which there is no problem, and give what is unusual, up to the word of those who take it."""
    finder = Finder()
    check(Document(document, "it", finder), *more)
    assert not finder.problems
    return [":".join(str(one).split(":")[:3]) for one in finder.odd]


def config(**more: object) -> dict[str, Any]:
    """Give a config of no layers in which nothing is wrong."""
    return {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, **more}


def test_a_descriptor() -> None:
    """Media type, digest and size are required; of those that are usable the three are given."""
    finder = Finder()
    good = {"mediaType": MANIFEST, "digest": SHA256, "size": 3}
    assert check_descriptor(Document(good, "it", finder)) == (MANIFEST, SHA256, 3)
    assert not finder.problems
    assert problems(check_descriptor, {}) == [
        "it: digest: is required, and missing",
        "it: size: is required, and missing",
        "it: mediaType: is required, and missing",
    ]
    assert problems(check_descriptor, {**good, "size": -1}) == ["it: size: -1 is less than nothing"]
    assert problems(check_descriptor, {**good, "size": "3"}) == ['it: size: is a number, and not "3"']
    assert problems(check_descriptor, {**good, "size": True}) == ["it: size: is a number, and not true"]
    assert problems(check_descriptor, {**good, "digest": "sha256:ab"}) == ["it: digest: 'sha256:ab' is not a digest"]
    assert problems(check_descriptor, {**good, "annotations": {"a": 1}}) == ["it: annotations: is an object of strings"]
    assert problems(check_descriptor, []) == [
        "it: the document: is an object, and not []",
        *problems(check_descriptor, {}),
    ]


def test_embedded_data() -> None:
    """A descriptor's data are base64 of what digest and size say."""
    data = b"{}"
    good = {"mediaType": CONFIG, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": 2}
    assert problems(check_descriptor, {**good, "data": base64.b64encode(data).decode()}) == []
    assert problems(check_descriptor, {**good, "data": base64.b64encode(b"[]").decode()}) == [
        "it: data: is not what digest and size say"
    ]
    assert [line[:25] for line in problems(check_descriptor, {**good, "data": "?"})] == ["it: data: is not base64: "]


def test_manifest_and_index() -> None:
    """The version is 2, and a media type of its own is that of the descriptor."""
    assert problems(check_top, {"schemaVersion": 2}, MANIFESTS, MANIFEST) == []
    assert unusual(check_top, {"schemaVersion": 1}, MANIFESTS) == ["it: schemaVersion: is 2, and not 1"]
    assert problems(check_top, {"schemaVersion": "2"}, MANIFESTS) == ['it: schemaVersion: is a number, and not "2"']
    for name, kinds in (("manifests", MANIFESTS), ("layers", INDEXES), ("config", INDEXES)):
        [said] = problems(check_top, {"schemaVersion": 2, name: []}, kinds)
        assert said.startswith(f"it: {name}: belongs to another kind of document")
    assert problems(check_top, {"schemaVersion": 2, "mediaType": INDEX}, MANIFESTS) == [
        f"it: mediaType: '{INDEX}' is not that of such a document"
    ]
    said = unusual(check_top, {"schemaVersion": 2, "mediaType": INDEXES[1]}, INDEXES, INDEX)
    assert said == [f"it: mediaType: is '{INDEXES[1]}', and the descriptor says '{INDEX}'"]


def test_a_platform() -> None:
    """Architecture and system are required, and engines take a config's where an index has none."""
    assert problems(check_platform, {"os": "linux", "architecture": "arm64", "variant": "v8"}) == []
    assert unusual(check_platform, {"os": "linux"}) == ["it: architecture: is required, and missing"]
    assert problems(check_platform, {"os": "linux", "variant": 8}) == ["it: variant: is a string, and not 8"]


def test_a_config() -> None:
    """Diff IDs and history are those of the layers."""
    finder = Finder()
    whole = config(
        rootfs={"type": "layers", "diff_ids": [SHA256]}, history=[{"created": "2026-01-31T12:00:00Z"}, {"empty_layer": True}]
    )
    assert check_image_config(Document(whole, "it", finder), 1) == [SHA256]
    assert not finder.problems
    assert problems(check_image_config, whole, 2) == [
        "it: rootfs.diff_ids: there are 1 for 2 layers",
    ]
    assert unusual(check_image_config, config(history=[{}]), 0) == [
        "it: history: has 1 rows that are no empty layers, for 0 layers",
    ]
    assert unusual(check_image_config, {"rootfs": {}}, 0) == [
        "it: architecture: is required, and missing",
        "it: os: is required, and missing",
        "it: rootfs.type: is required, and missing",
        "it: rootfs.diff_ids: is required, and missing",
    ]
    assert problems(check_image_config, config(config={"Env": "A=1"}), 0) != []


def test_what_may_be_built_upon() -> None:
    """The form is what counts: a config without architecture is read by engines."""
    assert config_faults(json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()) == []
    assert config_faults(b"[") != []
    assert config_faults(json.dumps({"rootfs": {"diff_ids": [1]}}).encode()) == ["rootfs.diff_ids: is a list of strings"]


def test_a_name_twice() -> None:
    """Readers take the first or the last of two: neither is right."""
    finder = Finder()
    assert parse(b'{"a": 1, "a": 2}', "it", finder) is not None
    assert [str(problem) for problem in finder.problems] == ["it: an object has 'a' twice"]
    assert parse(b"{", "it", finder) is None
    assert parse(b"\xff", "it", finder) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31t12:00:00.5+01:00", True),
        ("2026-02-31T12:00:00Z", False),
        ("2026-01-31", False),
        ("2026-01-31T12:00:00", False),
        ("", False),
    ],
)
def test_times(text: str, right: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """RFC 3339, with days that there are."""
    assert is_time(text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (SHA256, True),
        (f"sha512:{'0' * 128}", True),
        (f"sha256:{'A' * 64}", False),
        (f"sha256:{'a' * 63}", False),
        ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", True),
        ("sha256", False),
        (":abc", False),
    ],
)
def test_digests(text: str, right: bool) -> None:  # noqa: FBT001 - as above
    """An algorithm that is not known may have any length."""
    assert is_digest(text) is right


@given(JSON)
def test_no_document_breaks_a_check(document: object) -> None:
    """Whatever JSON there is, a check ends, and what is no object is a problem."""
    for check, more in ((check_descriptor, ()), (check_platform, ()), (check_top, (MANIFESTS,)), (check_image_config, (None,))):
        found = problems(check, document, *more)
        assert isinstance(document, dict) or found
    assert config_faults(json.dumps(document).encode())  # a random document has no diff IDs
