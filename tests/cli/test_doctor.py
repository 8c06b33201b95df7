"""``rootless-layer doctor``: what this machine has, tried by root and by somebody; what lacks, with its cost and the next step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers.schemas import fits
from helpers.users import COMMAND, User

from rootless_layer.check import permit

pytestmark = pytest.mark.slow


def points(user: User, status: int, **env: str) -> dict[str, Any]:
    """Ask, and give the points by name; each that this machine has not wholly has a cost and a remedy."""
    result = user.run([*COMMAND, "doctor", "--json"], env=env)
    assert result.status == status, result.err
    said = fits(user, "doctor", result)
    assert said["complete"] == (status == 0)
    assert all(point["cost"] and point["remedy"] for point in said["points"] if point["state"] != "has"), result.out
    assert user.leftovers() == []
    return {point["name"]: point for point in said["points"]}


def test_a_machine_that_has_all(user: User) -> None:
    """What sessions of these tests use is there: namespaces, a listener, fakeroot. The cache is not made by asking."""
    found = points(user, 0, ROOTLESS_LAYER_CACHE=str(user.home / "cache/below"))
    names = {
        "fakeroot",
        "libarchive",
        "user namespaces",
        "PID namespace",
        "network namespace",
        "seccomp listener",
        "TMPDIR",
        "cache",
    }
    assert {name: found[name]["state"] for name in names} == dict.fromkeys(names, "has")
    assert not (user.home / "cache").exists()
    assert str(user.home / "cache/below") in found["cache"]["found"]


def test_a_machine_without_fakeroot(user: User) -> None:
    """It lacks, with status 1; all else is tried yet. The error of a build points here."""
    (user.home / "empty").mkdir()
    found = points(user, 1, PATH=str(user.home / "empty"))
    assert found["fakeroot"]["state"] == "lacks"
    assert found["user namespaces"]["state"] == "has"
    result = user.build("--view", "directory", "--", "true", env={"PATH": str(user.home / "empty")})
    assert result.status == 69
    assert "rootless-layer doctor" in result.err


def test_places_that_cannot_be_written(user: User) -> None:
    """A TMPDIR that is not there lacks, and so does a cache in the place of a file; each is named."""
    found = points(user, 1, TMPDIR=str(user.home / "none"))
    assert found["TMPDIR"]["state"] == "lacks"
    assert str(user.home / "none") in found["TMPDIR"]["found"]
    if not user.is_root:
        found = points(user, 1, ROOTLESS_LAYER_CACHE="/etc/none")
        assert found["cache"]["state"] == "lacks"


def test_variables(user: User) -> None:
    """One that nobody reads is named, and one that cannot be read lacks."""
    found = points(user, 0, ROOTLESS_LAYER_CACH="x")["variables"]
    assert found["state"] == "less"
    assert "ROOTLESS_LAYER_CACH:" in found["cost"]
    assert points(user, 1, ROOTLESS_LAYER_CACHE_SIZE="much")["variables"]["state"] == "lacks"


def test_the_settings_that_forbid_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where AppArmor restricts them, the remedy has a profile for this interpreter; where a setting is 0, its name."""
    for name, value in (("_RESTRICTED", "1"), ("_MOST", "0"), ("_CLONE", "1")):
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setattr(permit, name, str(tmp_path / name))
    said = permit.permit_namespaces()
    assert os.path.realpath(permit.sys.executable) in said
    assert "userns," in said
    assert "max_user_namespaces" in said
    assert "unprivileged_userns_clone" not in said
