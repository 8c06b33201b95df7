"""Variables of an environment, as a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rootless_layer import given
from rootless_layer.errors import InputError


class Variables(Mapping[str, str]):
    """Variables of an environment, in an order, that nobody changes any more."""

    def __init__(self, values: Mapping[str, str] = MappingProxyType({})) -> None:
        """Copy them; raises :class:`InputError` for what cannot be set, all of it at once."""
        if not isinstance(values, Mapping):
            given.refuse("environment", values, "a mapping of names to values")
        self._values: dict[str, str] = dict(values)
        problems = [
            f"environment: {name!r} cannot be set to {value!r:.60}"
            for name, value in values.items()
            if not _may_be_set(name, value)
        ]
        if problems:
            raise InputError(*problems, hint="A name is a string without = and NUL, a value a string without NUL.")

    def __getitem__(self, name: str) -> str:
        """Give a variable's value."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count them."""
        return len(self._values)

    def __hash__(self) -> int:
        """Hash what is compared, which the order is not."""
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        """Show them as a dict."""
        return repr(self._values)


def _may_be_set(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(name) and "=" not in name and "\0" not in name + value
