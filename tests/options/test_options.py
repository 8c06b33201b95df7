"""One table of options: what each face has is what the table has, and the reference page is printed of it."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from rootless_layer.cli.help import LazyVerbs
from rootless_layer.cli.main import VERBS, main
from rootless_layer.cli.options import TableArgument, TableOption
from rootless_layer.errors import InputError
from rootless_layer.make.file import load
from rootless_layer.oci.config import is_known
from rootless_layer.options.image import ImageOptions, properties_of
from rootless_layer.options.kinds import FLAG, ID, PLATFORM, SECONDS, TEXT, TIME, OneOf
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.lists import DOCUMENTS, PAIRS, SCRIPTS, SHELL, TEXTS, VARIABLES, WORDS
from rootless_layer.options.option import Face, keys, of_command, rows
from rootless_layer.plan.spec import Conflict, LayerSpec, Script

HERE = Path(__file__).parents[2]
TABLES: dict[str, tuple[type, str, str]] = {"build": (LayerOptions, "layer", "layer"), "image": (ImageOptions, "image", "image")}
ROWS = {f"{verb} {row.name}": (verb, row) for verb, (table, _, _) in TABLES.items() for row in rows(table)}
NIX_BY_HAND = {
    "layerRun", "layerScript", "layerCommand", "layerRootfs", "layerRootfsListing", "layerStage", "layerUser",
    "layerWorkdir", "layerShell",
}  # fmt: skip
"""Attributes that a derivation without the functions of Nix may have, as the hook's does."""


def verb(name: str) -> click.Command:
    """A verb of the command."""
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


@pytest.mark.parametrize("verb_", TABLES)
def test_the_command_has_the_rows_and_no_others(verb_: str) -> None:
    """Every option of build and image is of a row, but those of registries, and every row is an option of its name and help."""
    found = {each.row.name: each for each in verb(verb_).params if isinstance(each, TableOption | TableArgument)}
    others = [each for each in verb(verb_).params if each not in found.values()]
    assert [each.name for each in others] == ["creds", "tls_verify", "ca_file"]
    expected = [row for row in rows(TABLES[verb_][0]) if Face.COMMAND in row.faces]
    assert [*found] == [row.name for row in expected]
    for row in expected:
        option = found[row.name]
        assert option.name == row.variable
        if isinstance(option, click.Option):
            assert option.help is not None
            assert f"--{row.name}" in option.opts
            assert option.help.startswith(row.help)
            assert option.multiple == row.kind.several


@pytest.mark.parametrize("case", ROWS)
def test_a_row_is_in_its_faces(case: str) -> None:
    """A file of make takes the key, a module of Nix or its page names the attribute, and the spec or the config has the field."""
    verb_, row = ROWS[case]
    table, kind, prefix = TABLES[verb_]
    assert row.faces
    assert (row.key in keys(table)) == (Face.TOML in row.faces)
    if Face.NIX in row.faces:
        name = f"{prefix}{row.attribute}"
        texts = [path.read_text() for path in (HERE / "rootless_layer/nix").glob("*.nix")]
        text = (HERE / "docs/nix.md").read_text() if name in NIX_BY_HAND else "\n".join(texts)
        assert re.search(rf"\b{name}\b", text), name
    if row.config:
        assert is_known(row.config)
    if row.field:
        field = attrs.fields_dict(LayerSpec)[row.field]
        if kind == "layer" and row.field not in {"source_date_epoch", "environment"}:
            assert row.default == field.default


def test_every_field_of_a_spec_is_set() -> None:
    """What a layer depends on is an option: the spec's fields are those of rows, or read of what several options name."""
    fields = {row.field for row in rows(LayerOptions) if row.field}
    assert {field.name for field in attrs.fields(LayerSpec)} - fields == {
        "base",
        "closure",
        "tools",
        "scripts",
        "left_out",
        "ignored",
    }


def test_names_are_one_in_all_faces() -> None:
    """A key is the option's name, but that an image's layers are several."""
    for table, _, _ in TABLES.values():
        assert {row.name: row.key for row in rows(table) if row.name != row.key} in ({}, {"layer": "layers"})
        attributes = [row.attribute for row in rows(table)]
        assert len(set(attributes)) == len(attributes)


def test_each_verb_is_told_as_it_tells_itself() -> None:
    """The group's short table has each verb's own first sentence, so that --help loads none of them."""
    assert isinstance(main, LazyVerbs)
    for name, (_, sentence) in VERBS.items():
        assert verb(name).get_short_help_str(200) == sentence


def test_the_reference_page_is_that_of_the_table() -> None:
    """docs/command.md is what its program prints."""
    printed = runpy.run_path(str(HERE / "scripts/command_page.py"))["page"]()
    assert (HERE / "docs/command.md").read_text() == printed


# --- kinds ---

VALUES: dict[str, tuple[Any, str, str, object, object]] = {
    "text": (TEXT, "x", "'x'", "x", "x"),
    "choice": (OneOf(Conflict), "last", "'last'", "last", "last"),
    "number": (ID, "7", "7", "7", 7),
    "seconds": (SECONDS, "0.5", "0.5", "0.5", 0.5),
    "time": (TIME, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z", "1769860800", "2026-01-31T12:00:00Z"),
    "platform": (PLATFORM, "arm64", "'arm64'", "arm64", PLATFORM.of_text("linux/arm64")),
    "texts": (TEXTS, "a", "['a']", "a", ("a",)),
    "variables": (VARIABLES, "A=1", "{A = '1'}", '{"A": "1"}', {"A": "1"}),
    "words": (SHELL, "bash -e 'a b'", "['bash', '-e', 'a b']", "bash -e 'a b'", ("bash", "-e", "a b")),
    "scripts": (SCRIPTS, "a", "'a'", "a", ("a",)),
    "document": (DOCUMENTS, '{"User": "x"}', "{User = 'x'}", '{"User": "x"}', ({"User": "x"},)),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_kind_reads_the_same_value_in_all_faces(case: str) -> None:
    """A command line's text, a value of TOML and an attribute of Nix are the same value."""
    kind, text, toml, attribute, value = VALUES[case]
    read = kind.of_text(text)
    gathered = kind.gather([read]) if kind.several else read
    assert gathered == value or (case == "document" and gathered == (text,))
    assert kind.of_toml(tomllib.loads(f"a = {toml}")["a"]) == value
    assert kind.of_attribute(attribute, structured=False) == value


def test_kinds_of_one_face() -> None:
    """A flag is no text, and a script of TOML may be one itself; words are JSON or one word; a name may stand alone."""
    assert [FLAG.of_attribute(value, structured=False) for value in ("1", "true", "0", "false")] == [True, True, False, False]
    assert SCRIPTS.of_toml([{"text": "true"}, {"command": ["a"]}]) == (Script.text("true"), Script.command(["a"]))
    assert [WORDS.of_text('["a", "b c"]'), WORDS.of_text("a"), WORDS.of_toml([])] == [("a", "b c"), ("a",), ()]
    assert PAIRS.gather([PAIRS.of_text("a"), PAIRS.of_text("b=c=d")]) == {"a": None, "b": "c=d"}
    for kind, text in ((VARIABLES, "a"), (VARIABLES, "=a"), (WORDS, "a b"), (WORDS, "[1"), (ID, "x"), (OneOf(Conflict), "x")):
        with pytest.raises(InputError):
            kind.of_text(text)
    for kind, value in ((FLAG, "x"), (ID, []), (TEXTS, {}), (VARIABLES, []), (OneOf(Conflict), "x"), (SECONDS, "x"), (TEXT, [])):
        with pytest.raises(InputError):
            kind.of_attribute(value, structured=True)


def test_what_is_not_given_has_the_rows_default() -> None:
    """Of a command line of nothing comes a table of defaults; values given in parts are put together."""
    assert of_command(LayerOptions, {"base": (), "uid": None}) == LayerOptions()
    assert of_command(ImageOptions, {"env": (("A", "1"), ("A", "2"))}).env == {"A": "2"}


def test_an_images_options_are_properties_of_its_config() -> None:
    """Each option sets its property, in the config's own form."""
    given = ImageOptions(
        env={"A": "1", "B": None}, label={"a": None}, volume=("/a",), expose=("80",), entrypoint=(), cmd=("a", "b"), user=""
    )
    assert properties_of(given) == {
        "env": {"Env": ["A=1", "B"]}, "label": {"Labels": {"a": ""}}, "volume": {"Volumes": {"/a": {}}},
        "expose": {"ExposedPorts": {"80/tcp": {}}}, "entrypoint": {"Entrypoint": []}, "cmd": {"Cmd": ["a", "b"]},
        "user": {"User": ""},
    }  # fmt: skip


def test_defaults_of_a_file_are_merged_by_name(tmp_path: Path) -> None:
    """Variables and properties are merged with those of the defaults, anything else takes their place."""
    path = tmp_path / "make.toml"
    path.write_text(
        "[defaults.image]\nenv = { A = '1', B = '1' }\nconfig = { User = 'a', Cmd = ['a'] }\nuser = 'a'\n"
        "[image.a]\nlayers = []\nenv = ['B=2']\nconfig = { User = 'b' }\nuser = 'b'\n"
    )
    options = load(str(path)).nodes["a"].options
    assert isinstance(options, ImageOptions)
    assert (options.env, options.user) == ({"A": "1", "B": "2"}, "b")
    assert options.documents == ({"User": "b", "Cmd": ["a"]},)
