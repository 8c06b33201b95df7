"""Hashes of NARs, in every form in which Nix writes them."""

from __future__ import annotations

import base64

import pytest

from rootless_layer.store.nar_hash import nar_hash_digits

DIGITS = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
"""The sha256 of ``hello world``."""


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{DIGITS}",
        f"sha256-{base64.b64encode(bytes.fromhex(DIGITS)).decode()}",
        "sha256:1sfdxziarxw8j3p80lvswgpq9i7smdyxmmsj5sjhhgjdjfwjfkdr",  # nix hash to-base32
    ],
)
def test_each_form_is_read(text: str) -> None:
    """Base 16, base 64 and Nix's base 32 give the same digits."""
    assert nar_hash_digits(text) == DIGITS


@pytest.mark.parametrize("text", ["", "sha256:", "sha512:" + "0" * 128, "sha256:" + "e" * 52, "sha256-????", f"md5:{DIGITS}"])
def test_what_is_no_hash_has_no_digits(text: str) -> None:
    """Other kinds and other lengths are nothing that is told."""
    assert nar_hash_digits(text) == ""
