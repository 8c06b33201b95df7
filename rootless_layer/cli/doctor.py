"""``rootless-layer doctor``."""

from __future__ import annotations

import click

from rootless_layer.terminal import counted

from .command import Strict
from .say import give, give_json, say
from .statuses import LACKING
from .versioned import versioned


@click.command(cls=Strict)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(*, as_json: bool) -> None:
    """Tell what this machine has of all that builds need, what each lack costs, and the next step.

    Each point is tried as a build does it, as the user who asks, and nothing is left. The machine
    has it, or has less, so that builds go on at a cost, or lacks it. The exit status is 1 where
    something lacks, else 0.
    """
    from rootless_layer.check.machine import examine  # noqa: PLC0415 - not for --help

    points = []
    for point in examine():
        points.append(point)
        if not as_json:
            give(point.lines())
    lacking = [point for point in points if point.state == "lacks"]
    if as_json:
        give_json(versioned({"complete": not lacking, "points": [point.to_json() for point in points]}))
    else:
        less = sum(point.state == "less" for point in points)
        say(f"{counted(len(points), 'point')}, {less} with less, {len(lacking)} lacking")
    if lacking:
        raise click.exceptions.Exit(LACKING)
