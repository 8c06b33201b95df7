"""The published forms of JSON, and a check that a command's output is of one."""

from __future__ import annotations

import functools
import json
from typing import Any

from helpers.users import COMMAND, Result, User, good


@functools.cache
def schema(user: User, form: str) -> dict[str, Any]:
    """Give a schema, which is one."""
    import jsonschema  # a second, which each of pytest's processes would take to collect the tests

    document: dict[str, Any] = json.loads(good(user.run([*COMMAND, "schema", form])).out)
    jsonschema.Draft202012Validator.check_schema(document)
    return document


def closed(part: Any) -> Any:
    """Give a schema that takes no property which it does not name: what is printed is in the schema, all of it."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    more = {"additionalProperties": False} if "required" in part and "additionalProperties" not in part else {}
    return {name: closed(each) for name, each in part.items()} | more


def fits(user: User, form: str, result: Result) -> Any:
    """Check JSON that a command has printed, and give it."""
    import jsonschema

    said = json.loads(result.out)
    jsonschema.Draft202012Validator(closed(schema(user, form))).validate(said)
    return said
