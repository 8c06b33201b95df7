"""What the tests of the cache share: after each nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.aftermath import assert_nothing_left
from helpers.users import User


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no process, mount or temporary tree."""
    user: User | None = request.getfixturevalue("user") if "user" in request.fixturenames else None
    yield
    if user is not None:
        assert_nothing_left(user, patiently=True)
