"""What the options of ``rootless-layer image`` say of an image's config."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

import click

from rootless_layer.errors import InputError, reason
from rootless_layer.system.machine import of_reading
from rootless_layer.terminal import quoted

from .values import as_written

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_PATH = 255


def read_config(given: str) -> dict[str, Any]:
    """Read properties: JSON itself, or a file of it. A whole image's config gives its ``config``."""
    from rootless_layer.oci.config import properties, read_json  # noqa: PLC0415

    text, where = given, "--config"
    start = given.lstrip()[:1]
    if start != "{" and (start != "[" or os.path.exists(given)):
        where = given if len(given) <= _LONGEST_PATH else quoted(given)
        try:
            with open(given, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            message = f"{where}: cannot be read: {reason(error)}"
            hint = "--config takes a JSON object, which begins with {, or a file of one."
            raise of_reading(error)(message, hint=hint) from error
    try:
        said = read_json(text.encode())
    except ValueError as error:
        message = f"{where}: is not JSON: {error}"
        raise InputError(message) from error
    return properties(said, where)


def flags(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the options say, by the config's own names."""
    from rootless_layer.oci.config import exposed  # noqa: PLC0415

    changes: dict[str, Any] = {}
    for name, option in (("User", "user"), ("WorkingDir", "workdir"), ("StopSignal", "stop_signal")):
        if options[option] is not None:
            changes[name] = options[option]
    for name, option in (("Entrypoint", "entrypoint"), ("Cmd", "cmd")):
        if options[option] is not None:
            changes[name] = _words(options[option], f"--{option}")
    if options["environment"]:
        changes["Env"] = list(options["environment"])
    if options["expose"]:
        changes["ExposedPorts"] = exposed(options["expose"])
    if options["volumes"]:
        changes["Volumes"] = {volume: {} for volume in options["volumes"]}
    if options["labels"]:
        pairs = [label.partition("=") for label in options["labels"]]
        changes["Labels"] = {name: value for name, _, value in pairs}
    return changes


def _words(text: str, option: str) -> list[str]:
    from rootless_layer.oci.config import word_problem  # noqa: PLC0415

    if not text.startswith("["):
        if problem := word_problem(text):
            raise click.BadParameter(problem, param_hint=option)
        return [text]
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{quoted(text)}: is not JSON: {error}", param_hint=option) from error
    return cast("list[str]", words)


def created_at(given: str | None) -> str:
    """Give when the image was created, as RFC 3339 has it."""
    from rootless_layer.oci.time import created  # noqa: PLC0415

    with as_written("--created" if given is not None else "SOURCE_DATE_EPOCH"):
        return created(given)
