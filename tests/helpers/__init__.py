"""What several tests use."""

from pathlib import Path

import pytest

# An assertion in one of these modules says which values it had, as one of a test's does.
pytest.register_assert_rewrite(*(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("[a-z]*.py")))
