"""Names of images, as distribution's grammar has them, and of what a path names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.oci.reference import full_name, has_tag, is_ref_name, is_reference, path_and_name, tag_of, with_registry

PART = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.lists(PART, min_size=1, max_size=3), TAG, st.sampled_from(["", "localhost/", "quay.io/", "example.com:5000/"]))
def test_what_the_grammar_has_is_a_name(parts: list[str], tag: str, host: str) -> None:
    """A registry or none, parts in lower case, a tag."""
    name = f"{host}{'/'.join(parts)}"
    assert is_reference(f"{name}:{tag}")
    assert tag_of(f"{name}:{tag}") == f"{name}:{tag}"
    assert tag_of(name) == f"{name}:latest"
    assert has_tag(f"{name}:{tag}")
    assert not has_tag(name)


@pytest.mark.parametrize(
    "name",
    ["", "App:1", "a/:1", "/a:1", "a//b:1", "a:", "a:.x", "-a:1", "a-:1", "a.:1", "a b:1", "a:1\n", f"{'a' * 256}:1", f"a:{'x' * 129}",
     "example.com:port/a:1", "a@sha256:0", "ä:1"],
)  # fmt: skip
def test_what_it_has_not_is_none(name: str) -> None:
    """Such a text is refused, and the message quotes it."""
    assert not is_reference(name)
    if not is_reference(f"{name}:latest"):
        with pytest.raises(InputError, match="is not the name of an image"):
            tag_of(name)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("redis:1", "docker.io/library/redis:1"),
        ("me/redis:1", "docker.io/me/redis:1"),
        ("quay.io/me/redis:1", "quay.io/me/redis:1"),
        ("localhost/redis:1", "localhost/redis:1"),
        ("host:5000/redis:1", "host:5000/redis:1"),
    ],
)
def test_a_name_with_its_registry(name: str, full: str) -> None:
    """A first part is a registry where it has a dot or a port, or is localhost."""
    assert full_name(name) == full
    assert full_name(full) == full


def test_a_layout_may_name_by_less() -> None:
    """The image-spec's names have mere tags, and letters of both cases."""
    for name in ("1.0", "latest", "App:1", "a/B-c"):
        assert is_ref_name(name)
    for name in ("", "a b", "/a", "a/"):
        assert not is_ref_name(name)


def test_a_registry_is_not_asked() -> None:
    """What names an image of a registry's gets a hint; a file's name gets none."""
    assert "docker://debian:12." in with_registry("debian:12")
    assert "docker://quay.io/a/b." in with_registry("https://quay.io/a/b")
    assert with_registry("base.tar") == ""
    assert with_registry("./Base") == ""


def test_a_path_with_a_name_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last # parts path and name, unless there is a file of the whole text."""
    monkeypatch.chdir(tmp_path)
    assert path_and_name("base.tar") == ("base.tar", "")
    assert path_and_name("base.tar#app:1") == ("base.tar", "app:1")
    assert path_and_name("a#b.tar#app") == ("a#b.tar", "app")
    assert path_and_name("#app") == ("", "app")
    (tmp_path / "a#b").write_bytes(b"")
    assert path_and_name("a#b") == ("a#b", "")
