"""A derivation's attributes, in both of the forms in which Nix gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.image_commands import image
from helpers.roots import busybox_root
from helpers.users import COMMAND, User, good

from rootless_layer.errors import InputError, SourceError
from rootless_layer.nix.attributes import Attributes
from rootless_layer.nix.request import layer_request
from rootless_layer.options.kinds import FLAG, SECONDS, TEXT, WHOLE, OneOf
from rootless_layer.options.lists import DOCUMENTS, TEXTS
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
    assert (read.structured, read.out, read.take("layerUid", WHOLE, 0)) == (True, "/out", 7)


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
        assert read.take("layerUid", WHOLE, 0) == 5
        assert read.take("layerNone", WHOLE, 3) == 3
        assert read.take("layerUid", TEXT, "") == "5"
        assert read.take("layerWords", TEXTS, ()) == ("a", "b")
        assert read.take("layerNone", TEXTS, ()) == ()
        assert read.take("layerSet", DOCUMENTS, ()) == ({"x": 1},)
        assert read.take("layerTime", SECONDS, 0.0) == 1.5
        assert read.take("layerNone", SECONDS, 7.0) == 7.0
        assert read.take("layerNone", OneOf(View), "directory") == "directory"
        read.check("layer")


def test_one_word_with_white_space(tmp_path: Path) -> None:
    """Only JSON can tell a text with a space from two words."""
    assert structured(tmp_path, layerWords="a b").take("layerWords", TEXTS, ()) == ("a b",)


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
    read.take("layerUid", WHOLE, 0)
    read.take("layerWords", TEXTS, ())
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
    assert read.take("layerScript", TEXT, "") == "true\n"
    assert read.take("layerOther", TEXT, "none") == "none"
    with pytest.raises(InputError, match="layerOther: /nowhere: cannot be read"):
        read.check("layer")


def test_references_graphs(tmp_path: Path) -> None:
    """Variables name pairs of a file and store paths; JSON has the graphs in it, which become files."""
    read = plain(tmp_path, exportReferencesGraph="one /nix/store/x two /nix/store/y", graphs="two", layerNone="")
    assert list(read.graph_files("graphs", read.take("graphs", TEXTS, ()))) == [str(tmp_path / "two")]
    assert list(read.graph_files("layerNone", ("one",))) == [str(tmp_path / "one")]
    other = structured(
        tmp_path, exportReferencesGraph={"one": ["/nix/store/x"]}, one=[{"path": "/nix/store/x"}], graphs=["one", "two"]
    )
    [path] = other.graph_files("graphs", other.take("graphs", TEXTS, ()))
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


@pytest.mark.parametrize("form", [structured, plain])
def test_how_scripts_start(tmp_path: Path, form: Callable[..., Attributes]) -> None:
    """The user, the directory and the shell are those of the attributes."""
    request = layer_request(form(tmp_path, layerUser="7:8", layerWorkdir="/srv", layerShell="bash -e", layerScript="true"))
    assert (request.spec.user, request.spec.workdir, request.spec.shell) == ("7:8", "/srv", ("bash", "-e"))
    with pytest.raises(InputError, match="user: 'a:b:c'"):
        layer_request(form(tmp_path, layerUser="a:b:c", layerScript="true"))


def test_nothing_is_taken_of_an_images_config(user: User) -> None:
    """Scripts start as nixpkgs' do, whatever the image that they run upon says."""
    good(user.build("--rootfs", busybox_root(), output="root"))
    config = {"Env": ["PATH=/opt", "A=x"], "WorkingDir": "/srv/w", "Shell": ["/bin/none", "-c"], "User": "app"}
    good(image(user, "--layer", user.home / "root", "--config", json.dumps(config), output="base"))
    script = 'test "$(id -u):$PWD:${A-none}:$0" = 0:/:none:/.rootless-layer/script-0; touch /made'
    attributes = {"out": str(user.home / "made"), "layerBases": str(user.home / "base"), "layerScript": script}
    good(user.run([*COMMAND, "nix-build"], env=attributes))
    assert "made" in (user.home / "made/layer.mtree").read_text()
