"""A mapping that nobody changes any more, and that can be copied and pickled."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Frozen(Mapping[K, V]):
    """What another mapping had, in its order. ``types.MappingProxyType`` can be neither copied nor pickled."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[K, V]) -> None:
        """Copy them."""
        self._values: dict[K, V] = dict(values)

    def __getitem__(self, key: K) -> V:
        """Give a key's value."""
        return self._values[key]

    def __iter__(self) -> Iterator[K]:
        """Go through the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count them."""
        return len(self._values)

    def keys(self) -> KeysView[K]:
        """Give the keys, as fast as a dict."""
        return self._values.keys()

    def values(self) -> ValuesView[V]:
        """Give the values."""
        return self._values.values()

    def items(self) -> ItemsView[K, V]:
        """Give the pairs."""
        return self._values.items()

    def __repr__(self) -> str:
        """Show them as a dict."""
        return repr(self._values)
