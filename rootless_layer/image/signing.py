"""Images signed by a program that is named, once they are in a registry: nothing is signed here."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError, OutputError, reason
from rootless_layer.registry.name import SCHEME, RegistryName

if TYPE_CHECKING:
    from collections.abc import Sequence

_STDERR = 2


def check_signer(program: Sequence[str]) -> None:
    """Raise :class:`InputError` where there is no such program, before anything is pushed."""
    if not program or shutil.which(program[0]) is None:
        message = f"{program[0] if program else 'nothing'}: is no program that signs: it is not to be found, or not executable"
        raise InputError(message, hint="Name one as --sign-by 'cosign sign --yes', by its path where it is not in PATH.")


def sign(program: Sequence[str], output: str, digest: str) -> None:
    """Have a program sign what was pushed to ``output``: ``HOST/NAME@DIGEST`` is its last argument, as cosign's.

    It has this process's standard input, for a password, and all that it says goes to standard error. Raises
    :class:`OutputError` where it fails; the image is in the registry then.
    """
    name = RegistryName.parse(output)
    subject = f"{name.host}/{name.repository}@{digest}"
    try:
        done = subprocess.run([*program, subject], stdout=_STDERR, check=False)  # noqa: S603 - the caller's own program
    except OSError as error:
        message = f"{program[0]}: cannot be run: {reason(error)}"
        raise OutputError(message, hint=f"{SCHEME}{subject} is pushed, and not signed.") from error
    if done.returncode:
        how = f"ends with the status {done.returncode}" if done.returncode > 0 else f"is ended by the signal {-done.returncode}"
        message = f"{program[0]} {how}: {SCHEME}{subject} is pushed, and not signed"
        raise OutputError(message, hint="Its own words stand above: sign it, or push it again.")
