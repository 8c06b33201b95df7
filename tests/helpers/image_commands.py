"""The commands that make images, and those that copy them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.image_layouts import config_of
from helpers.users import COMMAND, Result, User, good


def image(user: User, *words: str | Path, output: str = "image", **more: Any) -> Result:
    """Run ``rootless-layer image … -o HOME/output``."""
    return user.run(
        [*COMMAND, "image", "-o", user.home / output, *words], env={"MARK": str(user.home), **more.pop("env", {})}, **more
    )


def image_json(user: User, *words: str | Path, **more: Any) -> Result:
    """Run ``rootless-layer image --json … -o HOME/image``, or another output."""
    return image(user, "--json", *words, **more)


def digests(result: Result) -> list[str]:
    """Give the digests of an image's layers, the lowest first; the command must have succeeded."""
    assert result.status == 0, result.err
    return [layer["digest"] for layer in json.loads(result.out)[0]["layers"]]


def merge(user: User, *words: str | Path, output: str = "merged", **more: Any) -> Result:
    """Run ``rootless-layer merge … -o HOME/output``."""
    return user.run([*COMMAND, "merge", "-o", user.home / output, *words], env={"MARK": str(user.home)}, **more)


def config_by(user: User, *words: str | Path, **more: Any) -> dict[str, Any]:
    """Make an image and give its config."""
    good(image(user, *words, **more))
    return config_of(user.home / "image")


def skopeo(user: User, *words: str | Path) -> Result:
    """Run skopeo without a policy, and without anybody's passwords."""
    (user.home / "auth.json").write_text("{}")
    command = ["skopeo", "--insecure-policy", "--tmpdir", user.home / "tmp", *words]
    return user.run(command, env={"REGISTRY_AUTH_FILE": f"{user.home}/auth.json"})
