"""An image's config says what the options and the base's config say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.image_commands import config_by, image
from helpers.image_layouts import BASE, assert_layout_true, config_of, layout_of, tar_of
from helpers.images import sha256
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow

FLAGS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "env": (["--env", "A=1", "--env", "B=", "--env", "A=2=3"], {"Env": ["A=2=3", "B="]}),
    "entrypoint": (["--entrypoint", '["/bin/sh", "-c"]'], {"Entrypoint": ["/bin/sh", "-c"]}),
    "entrypoint-word": (["--entrypoint", "/bin/a"], {"Entrypoint": ["/bin/a"]}),
    "cmd": (["--cmd", "[]"], {"Cmd": []}),
    "user": (["--user", "33:44"], {"User": "33:44"}),
    "workdir": (["--workdir", "/srv"], {"WorkingDir": "/srv"}),
    "expose": (
        ["--expose", "80", "--expose", "53/UDP", "--expose", "8000-8001"],
        {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}},
    ),
    "volume": (["--volume", "/a", "--volume", "/b"], {"Volumes": {"/a": {}, "/b": {}}}),
    "label": (["--label", "a=b=c", "--label", "é= x"], {"Labels": {"a": "b=c", "é": " x"}}),
    "stop-signal": (["--stop-signal", "SIGQUIT"], {"StopSignal": "SIGQUIT"}),
    "config": (
        ["--config", '{"Healthcheck": {"Test": ["NONE"]}, "Tty": true}'],
        {"Healthcheck": {"Test": ["NONE"]}, "Tty": True},
    ),
}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_flag_sets_its_property(users: list[User], small: list[str], name: str) -> None:
    """Each option stands in the config under the name that image-spec gives it, and nothing else does."""
    words, expected = FLAGS[name]
    assert config_by(users[-1], "--layer", small[1], *words)["config"] == expected


def test_config_files_and_flags_are_merged_in_order(users: list[User], small: list[str]) -> None:
    """Of several --config the last wins, flags win over them all, and null takes away what stood there before."""
    user = users[-1]
    whole = {
        "rootfs": {"type": "layers", "diff_ids": []},
        "os": "plan9",
        "config": {"Env": ["A=1", "B=1"], "Cmd": ["a"], "User": "u"},
    }
    (user.home / "whole.json").write_text(json.dumps(whole))
    given = ["--config", "whole.json", "--config", '{"Env": ["B=2", "C=2"], "User": null, "Cmd": ["b"]}', "--env", "C=3"]
    config = config_by(user, "--layer", small[1], *given)
    assert config["config"] == {"Env": ["A=1", "B=2", "C=3"], "Cmd": ["b"]}
    assert config["os"] == "linux"


def test_properties_are_merged_over_the_bases(users: list[User], small: list[str]) -> None:
    """Variables, labels, ports and volumes join the base's, other properties replace them, and all else stays."""
    user = users[-1]
    base = layout_of(user.home / "base", BASE, [tar_of(a=b"a")])
    words = ["--env", "A=new", "--env", "Z=1", "--label", "b=new", "--expose", "2", "--volume", "/b", "--cmd", "new"]
    words += ["--config", '{"User": null}', "--author", "after", "--created", "1700000000", "--layer", small[1]]
    config = config_by(user, "--base", base, "--platform", "linux/amd64", *words)
    inner = config.pop("config")
    assert inner == {
        "Env": ["PATH=/bin", "A=new", "Z=1"], "Labels": {"a": "base", "b": "new"}, "ExposedPorts": {"1/tcp": {}, "2/tcp": {}},
        "Volumes": {"/a": {}, "/b": {}}, "Cmd": ["new"], "Entrypoint": None, "Unknown": BASE["config"]["Unknown"], "OnBuild": None,
    }  # fmt: skip
    diff_ids = [sha256(tar_of(a=b"a")), json.loads(Path(small[1], "layer.json").read_bytes())["diffId"]]
    row = {"created": "2023-11-14T22:13:20Z", "created_by": "rootless-layer build"}
    assert config.pop("history") == [*BASE["history"], row]
    assert config.pop("rootfs") == {"type": "layers", "diff_ids": diff_ids}
    assert (config.pop("created"), config.pop("author")) == ("2023-11-14T22:13:20Z", "after")
    assert config == {name: value for name, value in BASE.items() if name in config}
    assert "moby.buildkit" in config


@pytest.mark.parametrize("history", [None, [], [{"empty_layer": True}], [{"created_by": "one"}]])
def test_the_history_has_a_row_for_each_layer(users: list[User], small: list[str], history: list[dict[str, Any]] | None) -> None:
    """A base without a history, or with too short a one, gets the rows that readers count."""
    user = users[-1]
    config = {**BASE, "history": history}
    base = layout_of(user.home / "base", config, [tar_of(a=b"a"), tar_of(b=b"b")])
    good(image(user, "--base", base, "--platform", "linux/amd64", "--layer", small[0]))
    rows = config_of(user.home / "image")["history"]
    assert rows[: len(history or ())] == (history or [])
    assert sum(not row.get("empty_layer") for row in rows) == 3
    assert_layout_true(user.home / "image")


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        (["--created", "2026-01-31T13:00:00+01:00"], "2026-01-31T12:00:00Z"),
        (["--created", "0"], "1970-01-01T00:00:00Z"),
        (["--created", "0001-01-01"], "0001-01-01T00:00:00Z"),
        ([], "1970-01-01T00:00:05Z"),
    ],
)
def test_when_it_was_created(users: list[User], small: list[str], given_: list[str], written: str) -> None:
    """The image and its new layers were created when --created says, else at SOURCE_DATE_EPOCH."""
    config = config_by(users[-1], "--layer", small[0], *given_, env={"SOURCE_DATE_EPOCH": "5"})
    assert (config["created"], config["history"][0]["created"]) == (written, written)


def test_an_image_is_for_a_platform(users: list[User], small: list[str]) -> None:
    """--platform says what an image is for that has no base, or a layer's directory for one."""
    for words in (["--layer", small[0]], ["--base", small[0]]):
        config = config_by(users[-1], *words, "--platform", "linux/arm/v7")
        assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")


WRONG = {
    "Unknown": 1, "env": [], "Env": ["A"], "Cmd": "word", "Entrypoint": [1], "Labels": {"a": 1}, "Volumes": ["/a"],
    "ExposedPorts": {"80/tcp": None}, "Memory": True, "User": 0, "Tty": "yes", "StopTimeout": 1.5, "Healthcheck": [],
}  # fmt: skip


def test_all_wrong_properties_are_said_at_once(users: list[User]) -> None:
    """Unknown and ill-typed properties, of every --config and flag, are one error that lists them all: 65."""
    user = users[-1]
    half = len(WRONG) // 2
    parts = [dict(list(WRONG.items())[:half]), dict(list(WRONG.items())[half:])]
    words = [word for part in parts for word in ("--config", json.dumps(part))]
    result = image(user, *words, "--env", "no-value")
    assert_said(result, 65, "'no-value' is not NAME=VALUE", "The properties are User, ", *(rf"\b{name}\b" for name in WRONG))
    assert len(result.err.splitlines()) == len(WRONG) + 2
    assert_nothing_left(user)
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("text", ["{", '{"Memory": NaN}', '{"Memory": 1e999}', '{"User": "\\ud800"}', "absent.json", "latin.json",
                                  '{"Healthcheck": ' + '{"a":' * 300 + "1" + "}" * 301, '{"rootfs": {}, "config": 5}',
                                  '{"Healthcheck": ' + "[" * 100_000, '{"Memory": ' + "9" * 5000 + "}"])  # fmt: skip
def test_a_config_that_is_none(users: list[User], text: str) -> None:
    """What is no JSON, or none that can be written again, is an error: 65, or 66 where the file is not there."""
    user = users[-1]
    (user.home / "latin.json").write_bytes(b'{"User": "\xff"}')
    assert_said(image(user, "--config", text), 66 if text == "absent.json" else 65, "config|Memory|User|Healthcheck|json|JSON")
    assert not (user.home / "image").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--env", os.fsdecode(b"A=\xff")],
        ["--label", os.fsdecode(b"\xff=a")],
        ["--author", os.fsdecode(b"\xff")],
        ["--entrypoint", "[1]"],
        ["-t", "Upper"],
        ["-t", "a//b"],
        ["-t", "a:b:c"],
        ["-t", ".a"],
        ["-t", "a:"],
        ["-t", "a\n"],
        ["-t", "UPPER/x"],
        ["-t", f"{'a' * 256}:1"],
        ["-t", f"a:{'1' * 129}"],
        ["--platform", "linux//v8"],
        ["--platform", "foo"],
        ["--platform", "linux/amd64/v8/x"],
        ["--expose", "abc"],
        ["--expose", "99999"],
        ["--workdir", "srv"],
        ["--volume", "data"],
        ["--stop-signal", "SIGFOO"],
        ["--user", "a:b:c"],
        ["--env", "=x"],
        ["--label", "=x"],
    ],
)
def test_words_that_no_image_can_have(users: list[User], small: list[str], words: list[str]) -> None:
    """What no image can have is a wrong argument as it is written: 2."""
    assert_said(image(users[-1], "--layer", small[1], *words), 2)


def test_arguments_that_cannot_be(users: list[User]) -> None:
    """A time that is none, a layout for stdout, and JSON beside an archive are wrong arguments: 2."""
    for words in (["--created", "soon"], ["--created", "9" * 30], ["--cmd", "[1"], ["--cmd", "echo hi"], ["--entrypoint", ""]):
        assert_said(image(users[-1], *words), 2, words[0])
    assert_said(users[-1].run([*COMMAND, "image", "--layer", "x", "-o", "-", "-f", "layout"]), 2, "--format")
    assert_said(users[-1].run([*COMMAND, "image", "--layer", "x", "-o", "-", "--json"]), 2, "--json")
