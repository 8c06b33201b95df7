"""Faults of a file for make: each is named with its place in the file, and all come at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.make import make
from helpers.users import User

from rootless_layer.errors import InputError
from rootless_layer.make.file import load

pytestmark = pytest.mark.slow

BAD = {
    "not TOML": ("[layer", "is not TOML"),
    "nothing": ("", "has no layer and no image"),
    "a table": ("[layers.a]\n[layer.a]", "there is no table 'layers'; did you mean 'layer'?"),
    "no table": ("layer = 3", "layer: is a table of tables"),
    "no inner table": ("[layer]\na = 3", "layer.a: is a table"),
    "a key": ("[layer.a]\nscripts = 'x'", "layer.a: there is no key 'scripts'; did you mean 'script'?"),
    "an image's key": ("[image.a]\nclosures = 'x'", "image.a: there is no key 'closures'; did you mean 'closure'?"),
    "a name": ("[layer.'a/b']", "layer.'a/b': is no name"),
    "one name for two": ("[layer.a]\n[image.a]", "image.a: a layer has this name as well"),
    "a number": ("[layer.a]\nuid = '0'", "layer.a: uid: is a whole number, and not '0'"),
    "a flag": ("[layer.a]\nkeep-dirlinks = 1", "layer.a: keep-dirlinks: is true or false, and not 1"),
    "a string": ("[layer.a]\nrun = ['x']", 'layer.a: run: is a string, and not ["x"]'),
    "a list": ("[layer.a]\nclosure = [1]", "layer.a: closure: is a string or a list of strings"),
    "a choice": ("[layer.a]\nview = 'chroot'", "layer.a: view: is one of root, directory, and not 'chroot'"),
    "a script": ("[layer.a]\nscript = { file = 'x' }", "layer.a: script: is the path of a script"),
    "a variable": ("[layer.a]\nenv = ['A']", "layer.a: env: is a table of strings, or a list of NAME=VALUE"),
    "a number as variable": ("[layer.a]\nenv = { A = 1 }", "layer.a: env: is a table of strings: write numbers in quotes"),
    "a port": ("[image.a]\nexpose = true", "image.a: expose: is a port"),
    "a config": ("[image.a]\nconfig = 1", "image.a: config: is a table, or the path of a JSON file"),
    "a NUL": ('[layer.a]\nrun = "\\u0000"', "layer.a: run: holds a NUL"),
    "a default": ("[defaults.layer]\nviews = 'root'\n[layer.a]", "defaults.layer: there is no key 'views'; did you mean 'view'?"),
    "a default output": ("[defaults.layer]\noutput = 'o'\n[layer.a]", "defaults.layer: output: is each one's own"),
    "a default kind": ("[defaults.layers]\n[layer.a]", "defaults: there is no kind 'layers'; did you mean 'layer'?"),
    "a base": ("[layer.bash]\n[layer.b]\nbase = 'bsh'", "layer.b: base: there is no layer, image or file 'bsh'; did you mean 'bash'?"),
    "a layer": ("[layer.a]\n[image.b]\nlayers = ['c']", "image.b: layers: there is no layer or directory 'c'; there are: a"),
    "an image as layer": ("[image.a]\n[image.b]\nlayers = ['a']", "image.b: layers: a is an image: name it as base"),
    "a cycle": ("[layer.a]\nbase = 'b'\n[layer.b]\nbase = 'c'\n[layer.c]\nbase = 'a'", "a cycle: a needs b needs c needs a"),
    "a loop": ("[image.a]\nbase = 'a'", "a cycle: a needs a"),
    "a tag": ("[image.a]\ntag = 'A:1'", "image.a: tag: 'A:1' is not the name of an image"),
    "a tag twice": ("[image.a]\ntag = ['a', 'a:latest']", "image.a: tag: a:latest is there twice"),
    "another's tag": ("[image.a]\ntag = 'x:1'\n[image.b]\ntag = 'x:1'", "image.b: tag: image.a has x:1 as well"),
    "another's output": ("[layer.a]\noutput = 'o'\n[image.b]\noutput = './x/../o'", "image.b: output: ./x/../o is the output of layer.a"),
    "an output in another": ("[layer.a]\noutput = 'o'\n[layer.b]\noutput = 'o/b'", "layer.b: output: o/b lies within, or holds, the output of layer.a"),
    "stdout": ("[image.a]\noutput = '-'", "image.a: output: '-' is no place of a file"),
}  # fmt: skip


EVERYTHING = """
[layer.a]
copy-to-root = ["gone", "make.toml", "within/b"]
rootfs-listing = "listing"
output = "no/where"
script = ["lost"]
uid = -1
gid = -2
compression = "gzip:²"
store-path = "/nix/store/a"
[layer.b]
base = ["make.toml", "nothing"]
tools = ["t1", "t2"]
rootfs = "root"
output = "full"
timeout = 0
source-date-epoch = -4
[layer.c]
base = "d"
output = "within"
[layer.d]
base = "c"
[image.e]
base = "full"
layers = ["full", "a"]
output = "full/mine"
closure = ["c1", "c2"]
[image.unasked]
closure = "c3"
"""


EVERY_FAULT = """
layer.b: base | a cycle: c needs d needs c | image.e: output | image.e: base | image.e: layers | there is no target 'absent'; there are: a, b, c, d, e, unasked
layer.a: copy-to-root | layer.a: copy-to-root | layer.a: rootfs-listing | layer.a: output | layer.a: script | layer.a: uid
layer.a: gid | layer.a: compression | layer.a: store-path | layer.b: base | layer.b: tools | layer.b: tools | layer.b: rootfs
layer.b: output | layer.b: timeout | layer.b: source-date-epoch | image.e: layers | image.e: closure | image.e: closure | image.e: base | image.e: output
image.e: base | image.e: layers
"""


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, what: str) -> None:
    """Each fault has a message that names the file, the place in it and the value at fault."""
    text, problem = BAD[what]
    path = tmp_path / "make.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert any(said.startswith(f"{path}: ") and problem in said for said in caught.value.problems), caught.value.problems


def test_an_output_named_as_a_base_is_named_by_its_node(tmp_path: Path) -> None:
    """A base that is the output of a node would be read before it is made: the node is to be named."""
    (tmp_path / "o").mkdir()
    (tmp_path / "make.toml").write_text("[layer.a]\noutput = 'o'\n[layer.b]\nbase = './o'")
    with pytest.raises(InputError, match=r"layer\.b: base: \./o is the output of layer\.a: name that instead"):
        load(str(tmp_path / "make.toml"))


def test_all_problems_come_at_once(user: User) -> None:
    """Everything that is wrong with a file is said in one go, what it names included, and nothing is made."""
    wrong = "\n".join(text for name, (text, _) in BAD.items() if name == "a cycle") + "\n[layer.x]\nuid = '0'\nvew = 1\n"
    result = make(user, wrong)
    assert_said(result, 65, "a cycle", "uid: is a whole number", "there is no key 'vew'; did you mean 'view'?")
    text = '[layer.a]\nclosure = "no"\nscript = ["gone", "lost"]\ncompression = "lz4"\n[image.b]\nconfig = { Foo = 1 }\ncreated = "then"'
    result = make(user, text)
    assert_said(
        result, 65, "layer.a: closure: no: cannot be read", "layer.a: script: gone: the", "layer.a: script: lost: the",
        "layer.a: compression: lz4", "image.b: config: there is no property 'Foo'", "image.b: created: 'then' is not a time",
    )  # fmt: skip
    assert_said(make(user, "[layer.bash]", "bsh", "x"), 65, "no target 'bsh'; did you mean 'bash'", "no target 'x'")
    (user.home / "full").mkdir()
    (user.home / "full/mine").write_text("mine\n")
    result = make(user, EVERYTHING, "a", "b", "c", "e", "absent")
    said = [line.partition("make.toml: ")[2] for line in result.err.splitlines() if "make.toml: " in line]
    expected = [fault.strip() for fault in EVERY_FAULT.strip().replace("\n", "|").split("|")]
    assert sorted(": ".join(line.split(": ")[:2]) for line in said) == sorted(expected)
    assert result.status == 65
    assert not (user.home / ".cache").exists()
