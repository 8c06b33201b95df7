"""The config of an image as nixpkgs takes it."""

from __future__ import annotations

from typing import Any

import pytest

from rootless_layer.nix.config import read_config
from rootless_layer.oci.config import check_config


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"user": 1000}, {"User": "1000"}),
        ({"USER": "a", "user": "b"}, {"User": "b"}),
        ({"Env": ["A=1", "B=2"]}, {"Env": ["A=1", "B=2"]}),
        ({"cmd": "sh"}, {"Cmd": ["sh"]}),
        ({"Cmd": ["sleep", 5, 0.5, True]}, {"Cmd": ["sleep", "5", "0.5", "true"]}),
        ({"labels": {"a": 1, "b": False, "c": None}}, {"Labels": {"a": "1", "b": "false", "c": ""}}),
        ({"exposedPorts": {"80": None}, "volumes": {"/data": None, "/b": {}}}, {"ExposedPorts": {"80": {}}, "Volumes": {"/data": {}, "/b": {}}}),
        ({"Tty": True, "StopTimeout": 5, "Healthcheck": {"Interval": 1}}, {"Tty": True, "StopTimeout": 5, "Healthcheck": {"Interval": 1}}),
        ({"User": None, "Labels": None}, {"User": None, "Labels": None}),
    ],
)  # fmt: skip
def test_known_properties(said: dict[str, Any], known: dict[str, Any]) -> None:
    """Each is written as the image-spec has it, so that no check finds a fault."""
    assert read_config(said) == (known, {})
    check_config(known)


def test_unknown_properties_are_kept() -> None:
    """They are as they were, apart from the others."""
    assert read_config({"Mine": [1, None], "User": "a"}) == ({"User": "a"}, {"Mine": [1, None]})


@pytest.mark.parametrize("said", [{"User": ["a"]}, {"Labels": ["a"]}, {"Cmd": [["a"]]}, {"Volumes": {"/data": 1}}, {"Tty": 1}])
def test_a_wrong_property_stays_wrong(said: dict[str, Any]) -> None:
    """What engines could not read is left for the check to name."""
    assert read_config(said) == (said, {})
