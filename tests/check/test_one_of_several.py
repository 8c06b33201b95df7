"""An image that is damaged or invalid, alone or among others: it is named, the others are told, and every verb has one word for it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from helpers.image_commands import image, merge
from helpers.image_layouts import BASE, blob_of, layout_of, manifest_of, tar_of
from helpers.users import COMMAND, User, good

from rootless_layer import inspect, open_base, open_images
from rootless_layer.errors import InputError


@pytest.fixture
def two(user: User, folder: Path) -> Path:
    """A layout with the images ``whole:1`` and ``harmed:2``, each of a layer of its own."""
    for name in ("whole:1", "harmed:2"):
        short = name.partition(":")[0]
        (folder / short).mkdir()
        (folder / short / short).write_text(short)
        good(user.build("--copy-to-root", folder / short, output=f"{short}-layer"))
        good(image(user, "--layer", user.home / f"{short}-layer", "-t", name, output=short))
    good(merge(user, user.home / "whole", user.home / "harmed"))
    return user.home / "merged"


def harm(layout: Path, part: str) -> None:
    """Change a byte of the second image's manifest, config or layer."""
    row = json.loads((layout / "index.json").read_bytes())["manifests"][1]
    manifest = manifest_of(layout, 1)
    digest = {"manifest": row["digest"], "config": manifest["config"]["digest"], "layer": manifest["layers"][0]["digest"]}[part]
    data = bytearray(blob_of(layout, digest).read_bytes())
    data[len(data) // 2] ^= 1
    blob_of(layout, digest).unlink()
    blob_of(layout, digest).write_bytes(data)
    blob_of(layout, digest).chmod(0o644)


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_it_is_named_and_the_rest_is_told(user: User, two: Path, part: str) -> None:
    """``inspect`` tells of the other image, names the damaged one, and ends with 65; ``merge`` names it, and writes nothing."""
    harm(two, part)
    done = user.run([*COMMAND, "inspect", "--json", two])
    assert (done.status, "harmed:2" in done.err) == (65, True), done.err
    found = {tuple(one["names"]): one["kind"] for one in json.loads(done.out)}
    assert sorted(found.values()) == ["damaged", "image"]
    assert ["whole:1" in "".join(names) for names, kind in found.items() if kind == "image"] == [True]
    done = user.run([*COMMAND, "inspect", two])
    assert (done.status, "whole:1" in done.out, "harmed:2" in done.err) == (65, True, True)
    good(user.run([*COMMAND, "inspect", f"{two}#whole:1"]))
    for name in ("#harmed:2", ""):
        done = merge(user, f"{two}{name}", output="again")
        assert done.status == 65
        assert str(two) in done.err
        assert part == "layer" or "harmed:2" in done.err
        assert not (user.home / "again").exists()
    good(merge(user, f"{two}#whole:1", output="again"))
    with pytest.raises(InputError, match=r"harmed:2"):
        inspect(two)
    if part != "layer":  # of which the bytes are read later
        with pytest.raises(InputError, match=r"harmed:2"), open_images(two):
            pass


@pytest.mark.parametrize(
    ("name", "value"),
    [("StopSignal", "FOO"), ("WorkingDir", "relative"), ("Env", ["no sign"]), ("ExposedPorts", {"http": {}}), ("User", "a b")],
)
def test_an_invalid_config_is_invalid_for_all(user: User, folder: Path, name: str, value: object) -> None:
    """What ``validate`` calls invalid no verb builds upon, and ``inspect`` says it beside all that it tells; a value mends it."""
    bad = layout_of(folder / "bad", BASE | {"history": [], "config": {name: value}}, [tar_of(file=b"data")])
    verdict = user.run([*COMMAND, "validate", bad])
    words = {
        "build": ["build", "--base", bad, "--copy-to-root", folder / "bad", "-o", user.home / "out"],
        "image": ["image", "--base", bad, "-o", user.home / "out"],
        "inspect": ["inspect", bad],
    }
    done = {verb: user.run([*COMMAND, *line, *(() if verb == "inspect" else ("--platform", "linux/amd64"))])
            for verb, line in words.items()}  # fmt: skip
    assert {verdict.status} == {each.status for each in done.values()}
    with (
        pytest.raises(InputError, match=name) if verdict.status else contextlib.nullcontext(),
        open_base(bad, cache=folder / "c"),
    ):
        pass
    if verdict.status:
        assert verdict.status == 65
        assert all(name in each.err for each in (verdict, *done.values()))
        assert not (user.home / "out").exists()
        assert done["inspect"].out
    if name == "StopSignal":
        assert verdict.status == 65
        good(image(user, "--base", bad, "--platform", "linux/amd64", "--stop-signal", "SIGTERM", output="mended"))
        good(user.run([*COMMAND, "build", "--base", user.home / "mended", "--platform", "linux/amd64", "--copy-to-root",
                       folder / "bad", "-o", user.home / "out"]))  # fmt: skip
