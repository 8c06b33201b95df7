"""What the tests of registries share: small layers, an image of them, and a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.image_commands import image
from helpers.image_layers import make_small_layers
from helpers.place import remove
from helpers.podman import Podman, podman_of
from helpers.registries import Registry, docker_registry
from helpers.users import User, good, make_user


@pytest.fixture(scope="session")
def small(shared: Path) -> Iterator[list[str]]:
    """Two small layers, of which the first is derived, as the directories that they are in."""
    user = make_user(shared, "somebody")
    yield make_small_layers(user)
    remove(user.home)


@pytest.fixture(scope="session")
def layout(shared: Path, small: list[str]) -> Iterator[Path]:
    """An image layout with one image of both layers, by the name ``app:1``."""
    user = make_user(shared, "somebody")
    good(image(user, *(word for folder in small for word in ("--layer", folder)), "-t", "app:1"))
    yield user.home / "image"
    remove(user.home)


@pytest.fixture
def registry(user: User) -> Iterator[Registry]:
    """A registry that anybody may push to, without TLS."""
    with docker_registry(user) as running:
        yield running


@pytest.fixture
def podman(users: list[User]) -> Iterator[Podman]:
    """podman, where there is root."""
    with podman_of(users[0]) as made:
        yield made
