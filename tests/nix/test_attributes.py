"""A derivation's attributes, in both of the forms in which Nix gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rootless_layer.errors import InputError, SourceError
from rootless_layer.nix.attributes import Attributes
from rootless_layer.options.kinds import FLAG, SECONDS, OneOf
from rootless_layer.plan.spec import View


def structured(folder: Path, **values: Any) -> Attributes:
    """Give attributes as JSON."""
    file = folder / ".attrs.json"
    file.write_text(json.dumps({"outputs": {"out": "/out"}, **values}))
    return Attributes.of_build({"NIX_ATTRS_JSON_FILE": str(file)}, str(folder))


def plain(folder: Path, **values: str) -> Attributes:
    """Give attributes as variables."""
    return Attributes.of_build({"out": "/out", **values}, str(folder))


def test_where_the_json_is(tmp_path: Path) -> None:
    """Nix 2.8 names a path outside of the sandbox: the build's directory has the file."""
    (tmp_path / ".attrs.json").write_text(json.dumps({"outputs": {"out": "/out"}, "layerUid": 7}))
    read = Attributes.of_build({"NIX_ATTRS_JSON_FILE": "/nowhere/.attrs.json"}, str(tmp_path))
    assert (read.structured, read.out, read.number("layerUid", 0)) == (True, "/out", 7)


def test_outside_of_a_build(tmp_path: Path) -> None:
    """Neither form is there."""
    with pytest.raises(InputError, match="no build of Nix"):
        Attributes.of_build({}, str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"outputs": {}}', '{"outputs": 1}', "[" * 100_000])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    """Its path is named."""
    (tmp_path / ".attrs.json").write_text(text)
    with pytest.raises(InputError, match=r"\.attrs\.json: does not hold a derivation's attributes"):
        Attributes.of_build({}, str(tmp_path))


def test_values_of_both_forms(tmp_path: Path) -> None:
    """true is 1, a list is its words, null and false are empty: each reads as the other does."""
    for read in (
        structured(
            tmp_path,
            layerFlag=True,
            layerOff=False,
            layerUid=5,
            layerNone=None,
            layerWords=["a", "b"],
            layerSet={"x": 1},
            layerTime=1.5,
        ),
        plain(
            tmp_path / "none",
            layerFlag="1",
            layerOff="",
            layerUid="5",
            layerNone="",
            layerWords="a b",
            layerSet='{"x": 1}',
            layerTime="1.5",
        ),
    ):
        assert read.take("layerFlag", FLAG, default=False) is True
        assert read.take("layerOff", FLAG, default=False) is False
        assert read.take("layerMissing", FLAG, default=False) is False
        assert read.number("layerUid", 0) == 5
        assert read.number("layerNone", 3) == 3
        assert read.text("layerUid") == "5"
        assert read.words("layerWords") == ("a", "b")
        assert read.words("layerNone") == ()
        assert read.json("layerSet") == {"x": 1}
        assert read.take("layerTime", SECONDS, 0.0) == 1.5
        assert read.take("layerNone", SECONDS, 7.0) == 7.0
        assert read.take("layerNone", OneOf(View), "directory") == "directory"
        read.check("layer")


def test_one_word_with_white_space(tmp_path: Path) -> None:
    """Only JSON can tell a text with a space from two words."""
    assert structured(tmp_path, layerWords="a b").words("layerWords") == ("a b",)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Each attribute is named, and those as well that nobody reads."""
    read = structured(
        tmp_path,
        layerFlag="maybe",
        layerUid="x",
        layerWords={},
        layerTime="x",
        layerView="none",
        layerTypo=1,
        layered=2,
    )
    read.take("layerFlag", FLAG, default=False)
    read.number("layerUid", 0)
    read.words("layerWords")
    read.take("layerTime", SECONDS, 0.0)
    read.take("layerView", OneOf(View), "root")
    with pytest.raises(InputError) as raised:
        read.check("layer")
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "layerFlag", "layerUid", "layerWords", "layerTime", "layerView", "layerTypo",
    ]  # fmt: skip


def test_what_is_passed_as_a_file(tmp_path: Path) -> None:
    """The file's text is the value; one that cannot be read is a problem of that attribute."""
    (tmp_path / "script").write_text("true\n")
    read = plain(
        tmp_path, passAsFile="layerScript layerOther", layerScriptPath=str(tmp_path / "script"), layerOtherPath="/nowhere"
    )
    assert read.text("layerScript") == "true\n"
    assert read.text("layerOther", "none") == "none"
    with pytest.raises(InputError, match="layerOther: /nowhere: cannot be read"):
        read.check("layer")


def test_references_graphs(tmp_path: Path) -> None:
    """Variables name pairs of a file and store paths; JSON has the graphs in it, which become files."""
    read = plain(tmp_path, exportReferencesGraph="one /nix/store/x two /nix/store/y", graphs="two", layerNone="")
    assert list(read.graph_files("graphs", read.words("graphs"))) == [str(tmp_path / "two")]
    assert list(read.graph_files("layerNone", ("one",))) == [str(tmp_path / "one")]
    other = structured(
        tmp_path, exportReferencesGraph={"one": ["/nix/store/x"]}, one=[{"path": "/nix/store/x"}], graphs=["one", "two"]
    )
    [path] = other.graph_files("graphs", other.words("graphs"))
    assert json.loads(Path(path).read_text()) == [{"path": "/nix/store/x"}]
    with pytest.raises(InputError, match="graphs: exportReferencesGraph has no graph 'two'"):
        other.check("layer")


def test_where_all_that_is_wrong_is_missing(tmp_path: Path) -> None:
    """Then it is the error of what is not there, which has a status of its own."""
    read = structured(tmp_path)
    read.note(SourceError("/x: does not exist"))
    with pytest.raises(SourceError):
        read.check("layer")
    read.blame("layerUid", "is wrong")
    with pytest.raises(InputError) as raised:
        read.check("layer")
    assert not isinstance(raised.value, SourceError)
