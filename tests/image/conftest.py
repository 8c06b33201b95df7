"""What the tests of images share: layers to put into one, and podman."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.image_layers import Layers, make_layers, make_small_layers
from helpers.place import remove
from helpers.podman import Podman, podman_of
from helpers.users import User, make_user


@pytest.fixture(scope="session")
def made(shared: Path, accounts: Path) -> Iterator[Layers]:
    """A layer of redis that is stored in gzip, and a derived one for the top of it."""
    user = make_user(shared, "somebody")
    yield make_layers(user, accounts)
    remove(user.home)


@pytest.fixture(scope="session")
def small(shared: Path) -> Iterator[list[str]]:
    """Two small layers, of which the first is derived, as the directories that they are in."""
    user = make_user(shared, "somebody")
    yield make_small_layers(user)
    remove(user.home)


@pytest.fixture
def podman(users: list[User]) -> Iterator[Podman]:
    """podman, where there is root."""
    with podman_of(users[0]) as made:
        yield made
