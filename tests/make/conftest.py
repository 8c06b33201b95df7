"""What the tests of make share: after each nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.aftermath import assert_nothing_left, queues
from helpers.users import User


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no process, mount, queue or temporary tree, beside outputs or in the cache."""
    user: User | None = request.getfixturevalue("user") if "user" in request.fixturenames else None
    before = queues()
    yield
    if user is not None:
        assert_nothing_left(user, before, patiently=True)
        assert [path for path in user.home.rglob(".rootless-layer-*") if not path.is_relative_to(user.home / "gone")] == []
