"""The command's part that looks: ``rootless-layer validate``, ``inspect`` and ``diff``."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from .cli_command import Strict
from .cli_images import open_image, spooling
from .errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Invalid(click.ClickException):
    """The end of a command that did its work, and whose status tells what came of it."""

    exit_code = 65

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - click's own
        """Say nothing: it was said."""


class _Different(_Invalid):
    """The same for what differs."""

    exit_code = 1


def _print(lines: Iterable[str]) -> None:
    """Print data; where the reader has gone, end as a shell expects it."""
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(128 + signal.SIGPIPE)
    except OSError as error:
        message = f"stdout: {error.strerror}"
        raise OutputError(message) from error


@click.command(cls=Strict)
@click.argument("outputs", nargs=-1, required=True, metavar="OUT...")
@_JSON
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but problems.")
def validate(outputs: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Check every claim of an image layout, an archive, a docker-archive, or a layer's directory.

    All that is wrong is on stderr, a line each; the exit status is 0 where nothing is, else
    65. Notes are about what is allowed, and may surprise.
    """
    from .findings import Finding, Findings  # noqa: PLC0415 - for a quick --help
    from .machine import NOBODYS_FAULT  # noqa: PLC0415
    from .validate import validate as check  # noqa: PLC0415

    found = {}
    with spooling() as spool:
        for path in outputs:
            try:
                found[path] = check(path, spool)
            except NOBODYS_FAULT:
                raise
            except InputError as error:
                _say(*str(error).splitlines())
                found[path] = Findings(tuple(Finding(path, problem.removeprefix(f"{path}: ")) for problem in error.problems))
                continue
            _say(*(f"{path}: {problem}" for problem in found[path].problems))
            if not quiet:
                _say(*(f"{path}: note: {note}" for note in found[path].notes))
    if as_json:
        rows = [{"path": path} | findings.to_json() for path, findings in found.items()]
        _print([json.dumps(rows, indent=2)])
    elif not quiet:
        _print(
            f"{path}: {'valid' if findings.valid else 'INVALID'}: {findings.images} images, {findings.layers} layers,"
            f" {findings.entries} entries, {len(findings.problems)} problems, {len(findings.notes)} notes"
            for path, findings in found.items()
        )
    if not all(findings.valid for findings in found.values()):
        raise _Invalid("")


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(f"rootless-layer: {line}", err=True)


@click.command(cls=Strict)
@click.argument("subject", metavar="IMAGE|DIR")
@_JSON
@click.option("--list", "listed", is_flag=True, help="List what each layer adds (+), changes (~), repeats (=) and removes (-).")
def inspect(subject: str, *, as_json: bool, listed: bool) -> None:
    """Tell what an image or a layer is: its layers, what each does, and what data is in it twice.

    IMAGE is an image layout or an archive, all images of which are told, or PATH#NAME for
    one; DIR is a layer's directory.
    """
    from .inspection import inspect as look  # noqa: PLC0415
    from .reference import path_and_name  # noqa: PLC0415

    path, name = path_and_name(subject)
    with spooling() as spool:
        found = look(path, spool, name)
    if as_json:
        _print([json.dumps([one.to_json(listed=listed) for one in found], indent=2)])
        return
    for number, one in enumerate(found):
        if number:
            _print([""])
        _print(one.lines(listed=listed))


@click.command(
    cls=Strict, epilog="Exit status: 0 where both are equal, 1 where they are not, 2 or more where they cannot be compared."
)
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@_JSON
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of the images.  [default: this machine's]")
@click.option("--ignore-times", is_flag=True, help="Do not compare when files were changed last.")
def diff(left: str, right: str, *, as_json: bool, platform: str | None, ignore_times: bool) -> None:
    """Compare the files of two images or layers: each an image, PATH#NAME, or a layer's directory.

    A line for each path that differs: - where only A has it, + where only B has it, ~ with
    what differs. How files are spread over layers does not matter.
    """
    from .compare import compare  # noqa: PLC0415
    from .oci import Platform  # noqa: PLC0415

    wanted = Platform.parse(platform) if platform else Platform.host()
    with spooling() as spool:
        found = compare(open_image(left, wanted, spool), open_image(right, wanted, spool), times=not ignore_times)
    _print([json.dumps(found.to_json(), indent=2)] if as_json else found.lines())
    if not found.equal:
        raise _Different("")
