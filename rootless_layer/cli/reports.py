"""The command's part that looks: ``rootless-layer validate``, ``inspect`` and ``diff``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.check.diff import compare
from rootless_layer.check.inspect import Inspection
from rootless_layer.check.inspect import inspect_all as look
from rootless_layer.check.overview import overview
from rootless_layer.check.validate import validate as check
from rootless_layer.errors import InputError, SourceError
from rootless_layer.image.admission import image_problems
from rootless_layer.image.choose import fault_of
from rootless_layer.image.open import open_image
from rootless_layer.image.spool import Spool
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.findings import Finding, Findings
from rootless_layer.oci.reference import path_and_name
from rootless_layer.system.machine import NOBODYS_FAULT
from rootless_layer.terminal import columns_of, counted

from .command import Strict
from .registries import of_registries
from .say import give, give_json, say
from .statuses import DIFFERENT, INVALID
from .values import PLATFORM
from .versioned import versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless_layer.image.read import Other

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(cls=Strict)
@click.argument("outputs", nargs=-1, required=True, metavar="OUT...")
@_JSON
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but problems.")
@of_registries
def validate(outputs: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Check every claim of an image layout, an archive, a docker-archive, or a layer's directory.

    PATH#NAME is one image of several.

    All that is wrong is on stderr, a line each; the exit status is 0 where nothing is, else
    65, or 66 where one cannot be read. Unusual is what engines take, or some of them, although
    no specification has it so. Notes are about what is allowed, and may surprise.
    """
    found = {}
    unread: set[str] = set()
    missing = False
    with Spool() as spool:
        for path in outputs:
            try:
                found[path] = check(path, spool)
            except NOBODYS_FAULT:
                raise
            except InputError as error:
                missing = missing or isinstance(error, SourceError)
                unread.add(path)
                say(error)
                found[path] = Findings(tuple(Finding(path, problem.removeprefix(f"{path}: ")) for problem in error.problems))
                continue
            say(*(f"{path}: {problem}" for problem in found[path].problems))
            if not quiet:
                say(*(f"{path}: unusual: {unusual}" for unusual in found[path].unusual))
                say(*(f"{path}: note: {note}" for note in found[path].notes))
    if as_json:
        give_json([versioned({"path": path, **findings.to_json()}) for path, findings in found.items()])
    elif not quiet:
        give(f"{path}: {_summary(findings)}" for path, findings in found.items() if path not in unread)
    if missing:
        raise click.exceptions.Exit(SourceError.exit_code)
    if not all(findings.valid for findings in found.values()):
        raise click.exceptions.Exit(INVALID)


def _summary(findings: Findings) -> str:
    numbers = {
        "image": findings.images,
        "layer": findings.layers,
        "entry": findings.entries,
        "problem": len(findings.problems),
    }
    said = ", ".join(counted(number, noun) for noun, number in numbers.items())
    said = f"{said}, {len(findings.unusual)} unusual, {counted(len(findings.notes), 'note')}"
    return f"{'valid' if findings.valid else 'INVALID'}: {said}"


@click.command(cls=Strict)
@click.argument("subject", metavar="IMAGE|DIR")
@_JSON
@click.option("--list", "listed", is_flag=True, help="List what each layer adds (+), changes (~), repeats (=) and removes (-).")
@click.option("--waste", is_flag=True, help="List all data that stands twice: its size, and the layer and path of each copy.")
@of_registries
def inspect(subject: str, *, as_json: bool, listed: bool, waste: bool) -> None:
    """Tell what an image or a layer is: its layers, what each does, and what data is in it twice.

    IMAGE is an image layout, an archive or a name in a registry; PATH#NAME is one image of
    several, else all are told. DIR is a layer's directory. A terminal shows a table; a pipe gets
    whole digests and sizes in bytes. With --json all is there, the list with --list only.

    Where one of several images is damaged, or validate would call its config invalid, that is on
    stderr, and the exit status is 65.
    """
    path, name = path_and_name(subject)
    with Spool() as spool:
        images, others = look(path, spool, name)
        found: list[Inspection | Other] = [*images, *others]
    if as_json:
        give_json([versioned(one.to_json(listed=listed)) for one in found])
    for number, one in enumerate(found if not as_json else ()):
        if number:
            give([""])
        give(_lines(one, listed=listed, waste=waste))
    problems = [f"{path}: {problem}" for one in images for problem in image_problems(one.image, ())]
    problems += [problem for one in others if one.kind == "damaged" and (fault := fault_of(one)) for problem in fault.problems]
    if problems:
        say(*problems)
        raise click.exceptions.Exit(INVALID)


def _lines(one: Inspection | Other, *, listed: bool, waste: bool) -> Iterable[str]:
    if not isinstance(one, Inspection):
        return one.lines()
    if sys.stdout.isatty():
        return overview(one, columns_of(sys.stdout), listed=listed, waste=waste)
    return one.lines(listed=listed, waste=waste)


@click.command(
    cls=Strict, epilog="Exit status: 0 where both are equal, 1 where they are not, 2 or more where they cannot be compared."
)
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@_JSON
@click.option("--platform", type=PLATFORM, metavar="OS/ARCH[/VARIANT]", help="Which of the images.  [default: this machine's]")
@click.option("--ignore-times", is_flag=True, help="Do not compare when files were changed last.")
@of_registries
def diff(left: str, right: str, *, as_json: bool, platform: Platform | None, ignore_times: bool) -> None:
    """Compare the files of two images or layers: each an image, PATH#NAME, or a layer's directory.

    A line for each path that differs: - where only A has it, + where only B has it, ~ with
    what differs. How files are spread over layers does not matter.
    """
    wanted = platform or Platform.host()
    with Spool() as spool:
        found = compare(open_image(left, wanted, spool), open_image(right, wanted, spool), times=not ignore_times)
    if as_json:
        give_json(versioned(found.to_json()))
    else:
        give(found.lines())
        if found.varies:
            say("only what is another in each build differs: build --tidy leaves that out")
    if not found.equal:
        raise click.exceptions.Exit(DIFFERENT)
