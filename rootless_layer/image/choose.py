"""The one image that is meant, of several: by a name, and for a platform."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.reference import rank

from .image import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rootless_layer.oci.descriptor import Platform

    from .image import Image
    from .read import NamedImage, Other

_MOST_TOLD = 20


def choose(found: Sequence[NamedImage], where: str, platform: Platform, name: str = "", others: Sequence[Other] = ()) -> Image:
    """Give the one image of that name, where one is asked for, and for that platform, as every engine takes it.

    What an image does not say of its platform is taken to be this one's. Raises :class:`InputError`, listing what there is,
    where there is none or several, and the fault of one of the ``others`` that may be meant.
    """
    fitting = _for_platform(named(found, name), platform)
    for other in others:
        if other.kind == "damaged" and other.fault is not None and other.may_be(platform, name) and (other.listed or not fitting):
            raise fault_of(other) or other.fault
    different = {stored.image.content for stored in fitting}
    if len(different) != 1:
        said = [f"{'|'.join(stored.names) or 'no name'} ({stored.platform})" for stored in found]
        said += [
            f"{'|'.join(other.names) or 'no name'} ({other.listed or other.kind}: {other.what})" for other in others[:_MOST_TOLD]
        ]
        said += [f"{len(others) - _MOST_TOLD} more"] if len(others) > _MOST_TOLD else []
        what = f"{name or 'image'} for {platform}"
        none = "several images are" if different else "there is no"
        message = f"{where}: {none} {what}; there is: {', '.join(said) or 'nothing'}"
        raise InputError(message, hint="Say which: NAME after the path and a #, and the platform with --platform.")
    return opened(fitting[0], platform, name)


def opened(stored: NamedImage, platform: Platform, name: str = "") -> Image:
    """Give an image as :meth:`.NamedImage.fitted` does, known by the ``name`` that was asked for, if any, else its first."""
    names = [one for one in stored.names if not name or rank(name, one)]
    return attrs.evolve(stored.fitted(platform), origin=Origin.of(names, stored.digest))


def fault_of(other: Other) -> InputError | None:
    """Give the fault of what cannot be read, with its names: beside it there may be others."""
    called = ", ".join(other.names) or other.digest
    if other.fault is None or not called:
        return other.fault
    first, *more = other.fault.problems
    listed = f" for {other.listed}" if other.listed else ""
    named = f"{first.removesuffix(other.what)}the image {called}{listed}: {other.what}"
    return type(other.fault)(named, *more, hint=other.fault.hint)


def _for_platform(images: Sequence[NamedImage], platform: Platform) -> Sequence[NamedImage]:
    """Give the images that engines take for a platform: an older variant of arm's where there is none for its own."""
    older = [f"v{number}" for number in (7, 6, 5) if platform.architecture == "arm" and f"v{number}" < platform.variant]
    wanted: list[Callable[[Platform], bool]] = [partial(operator.eq, platform), platform.runs]
    wanted += [partial(operator.eq, attrs.evolve(platform, variant=variant)) for variant in older]
    wanted.append(lambda one: platform.runs(one.filled(platform)))
    for fits in wanted:
        if fitting := [stored for stored in images if fits(stored.platform)]:
            return fitting
    return []


def named(found: Iterable[NamedImage], name: str) -> list[NamedImage]:
    """Give the images that a name means, all where it is ``""``: to the letter, else as engines read it, else by its tag."""
    ranked = [(max((rank(name, one) for one in stored.names), default=0), stored) for stored in found]
    best = max((number for number, _ in ranked), default=0)
    return [stored for number, stored in ranked if not name or (number and number == best)]
