"""Arguments that cannot be meant are refused before any work, in place of a success that nobody asked for."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner, Result
from helpers.users import COMMAND, User

from rootless_layer import LayerSpec, Script, build_layer
from rootless_layer.cli.main import main
from rootless_layer.errors import InputError, SourceError
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_image
from rootless_layer.image.read import NamedImage, read_images
from rootless_layer.image.write import write_images
from rootless_layer.layer.blob import open_layer
from rootless_layer.make.faults import Faults
from rootless_layer.make.file import load
from rootless_layer.make.resolve import Recipes, format_of
from rootless_layer.oci.config import check_config
from rootless_layer.oci.descriptor import Platform
from rootless_layer.options.image import ImageOptions
from rootless_layer.options.inputs import read_document
from rootless_layer.plan.rootfs import check_no_image

REFUSED: dict[str, tuple[str, str]] = {
    "nothing to make a layer of": ("build -o out", "nothing to make a layer of"),
    "tools, which are no part of a layer": ("build --tools graph -o out", "nothing to make a layer of"),
    "two root filesystems": (
        "build --rootfs tree --rootfs other -o out",
        "--rootfs takes one value, and tree and other are given",
    ),
    "two outputs": ("build --copy-to-root tree -o out -o another", "--output takes one value, and out and another are given"),
    "one of them by its short name": (
        "image --layer layer -o out --output another",
        "--output takes one value, and out and another are given",
    ),
    "two platforms": (
        "image --layer layer --platform linux/amd64 --platform linux/arm64 -o out",
        "--platform takes one value, and linux/amd64 and linux/arm64 are given",
    ),
    "a layer on stdout": ("build --copy-to-root tree -o -", "image --layer DIR -o -"),
    "a second tree without its option": ("build --copy-to-root tree other -o out", "other: no option takes it"),
    "a command without its mark": ("build --copy-to-root tree -o out true", "true: no option takes it"),
    "a command with options without its mark": (
        "build --copy-to-root tree -o out sh -c 'echo hi'",
        "a command stands behind --, as `-- sh …`",
    ),
    "a command with a long option": (
        "build --copy-to-root tree -o out make --jobs=2",
        "a command stands behind --, as `-- make …`",
    ),
    "an option that is none": ("build --copy-to-root tree --outpt out -o out", "No such option"),
    "a tree before a command": ("build --copy-to-root tree other -o out -- true", "other: no option takes it"),
    "a compressed archive": ("image --layer layer -o z.tar.gz", "z.tar.gz: is the name of an archive"),
    "one in capitals": ("merge layer -o Z.TZST", "Z.TZST: is the name of an archive"),
    "an image of nothing": ("image -t a:1 -o out.tar", "nothing to make an image of"),
    "a layer twice": ("image --layer layer --layer layer -o out", "layer: is given twice"),
    "a layer by two names": ("image --layer layer --layer ./link -o out", "./link: is given twice, first as layer"),
    "an image twice": ("merge image.tar ./image.tar -o out", "./image.tar: is given twice, first as image.tar"),
    "a base twice": ("build --base layer --base layer/ -o out -- true", "layer/: is given twice"),
    "a variable without a name": ("build --copy-to-root tree --env =x -o out -- true", "=x: write it as NAME=VALUE"),
    "a closure that the archive would replace": (
        "image --closure graph -o graph -f archive",
        "graph: is the input graph as well",
    ),
    "a base that the layer would replace": ("build --base layer -o ./layer -- true", "./layer: is the input layer as well"),
    "a base, one of several": ("build --base layer#x:1 -o layer -- true", "layer: is the input layer as well"),
    "an archive for a file of a layer": (
        "image --layer layer -f archive -o layer/layer.json",
        "layer/layer.json: lies in the input layer",
    ),
    "an archive in a base": ("image --base link -f archive -o layer/out.tar", "layer/out.tar: lies in the input link"),
    "a layer in a layer": ("build --base layer -o layer/out -- true", "layer/out: lies in the input layer"),
    "an output that holds a listing": (
        "build --rootfs tree --rootfs-listing other/layer.mtree -o other",
        "other: holds the input other/layer.mtree",
    ),
    "an archive for a file of an image": ("nix-archive layer -o layer/layer.json", "layer/layer.json: lies in the input layer"),
    "a tar for the image itself": ("nix-export image.tar -o image.tar", "image.tar: is the input image.tar as well"),
    "a base without its path": ("build --base #x -o out -- true", "'--base': #x: names no path"),
    "a platform of no base": ("build --copy-to-root tree --platform linux/² -o out", "'--platform': 'linux/²' is not a platform"),
    "a config by another name": ("image --layer layer --config graph -o same -f archive", "same: is the input graph as well"),
}
EMPTY = (
    "build --copy-to-root tree -o ''", "build --rootfs '' -o out", "build --copy-to-root '' -o out", "build --closure '' -o out",
    "build --base '' -o out", "build --copy-to-root tree --script '' -o out", "build --store-path '' -o out",
    "build --copy-to-root tree --compression '' -o out", "image --layer '' -o out", "image --layer layer --tag '' -o out",
    "image --layer layer --config '' -o out", "image --base '' -o out", "image --layer layer --entrypoint '' -o out",
    "merge '' -o out", "merge image.tar --index '' -o out", "make ''", "make make.toml ''", "validate ''", "inspect ''",
    "diff layer ''", "cache gc --keep ''", "nix-archive '' -o out", "nix-export '' -o out", "nix-export layer -o ''",
    "nix-build --rootfs ''",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the arguments name."""
    folder = tmp_path_factory.mktemp("given")
    for name in ("tree", "other", "layer"):
        (folder / name).mkdir()
    for name in ("graph", "image.tar", "make.toml"):
        (folder / name).touch()
    (folder / "other/layer.mtree").touch()
    (folder / "link").symlink_to("layer")
    (folder / "same").symlink_to("graph")
    return folder


def run(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Run the command in this process: what is refused does no work."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(main, shlex.split(text))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(folder: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is 2, the message names what is wrong, and nothing is there that was not there before."""
    before = sorted(os.listdir(folder))
    text, said = REFUSED[case]
    result = run(folder, text, monkeypatch)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("text", EMPTY)
def test_an_empty_value_names_nothing(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty path, name or word is refused with its option, 2: a shell's unset variable gives one."""
    result = run(folder, text, monkeypatch)
    assert result.exit_code == 2, result.output
    assert "an empty value names nothing" in result.output
    words = shlex.split(text)
    option = words[words.index("") - 1]
    assert not option.startswith("-") or option in result.output


def test_what_may_be_empty_or_repeated() -> None:
    """A command's words may be empty, options of several values come again, and a flag may be said twice."""
    build, image = (main.get_command(click.Context(main), name) for name in ("build", "image"))
    assert build is not None
    assert image is not None
    context = click.Context(build, info_name="build")
    words = [
        "-q",
        "-q",
        "--view",
        "root",
        "--view",
        "root",
        "--copy-to-root",
        "a",
        "--copy-to-root",
        "b",
        "-o",
        "out",
        "--env",
        "A=",
        "--",
        "sh",
        "-c",
        "",
        "--",
        "-o",
    ]
    with context:
        build.parse_args(context, words)
    assert context.params["command"] == ("sh", "-c", "", "--", "-o")
    assert context.params["copy_to_root"] == ("a", "b")
    context = click.Context(image, info_name="image")
    with context:
        image.parse_args(context, ["--user", "", "--workdir", "", "--author", "", "--layer", "a", "-o", "out"])
    assert context.params["user"] == ""


@pytest.mark.parametrize("text", ["image --base image.tar -o image.tar", "merge image.tar link -o ./image.tar"])
def test_an_image_may_be_updated_in_place(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base, and what is merged, goes on in the output: it may be that one, and is opened (here it is no image: 65)."""
    result = run(folder, text, monkeypatch)
    assert isinstance(result.exception, InputError)
    assert "image.tar" in str(result.exception)


def test_the_command_itself_refuses(user: User) -> None:
    """As a command it says so in a line with status 2, and leaves nothing."""
    result = user.run([*COMMAND, "build", "--copy-to-root", user.home, "-o", "-"])
    assert (result.status, result.out) == (2, "")
    assert "--output" in result.err
    assert not (user.home / "-").exists()


def test_a_layer_has_no_names(tmp_path: Path) -> None:
    """The name behind the # of a layer's directory is not passed over: who writes it means something."""
    layer = build_layer(LayerSpec(scripts=(Script.command(["true"]),), view="directory"), tmp_path / "layer")
    for given in (f"{layer.directory}#x:1", "#x:1"):
        with pytest.raises(InputError, match="x:1"):
            open_image(given, Platform.host(), str)
    assert len(open_image(str(layer.directory), Platform.host(), str).layers) == 1


MADE = """\
[layer.nothing]
output = "out"
[layer.empty]
copy-to-root = ["tree", ""]
rootfs = ""
[layer.twice]
base = ["nothing", "nothing"]
run = "true"
[image.twice-as-well]
layers = ["layer", "./link"]
tag = ""
output = "wrong.toml"
[layer.reads]
script = ["same", { text = "true" }]
[image.takes]
output = "graph"
format = "archive"
[image.within]
layers = ["layer"]
output = "layer/layer.json"
format = "archive"
[image.nameless]
base = "#x"
[layer.holds]
rootfs = "tree"
rootfs-listing = "other/layer.mtree"
output = "other"
"""


def test_a_file_of_make_says_it_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty names and what is given twice are said of a file at once, and a layer of nothing when what it names is read."""
    (folder / "wrong.toml").write_text(MADE)
    monkeypatch.chdir(folder)
    with pytest.raises(InputError) as raised:
        load("wrong.toml")
    said = "\n".join(raised.value.problems)
    for wanted in (
        "layer.empty: copy-to-root: an empty value", "layer.empty: rootfs: an empty value", "image.twice-as-well: tag: an empty value",
        "layer.twice: base: nothing is given twice", f"image.twice-as-well: layers: {folder}/layer is given twice",
        "image.twice-as-well: output: wrong.toml is this file", "layer.reads: script: same is the output of image.takes",
        "image.within: layers: layer holds the output of image.within",
        "image.nameless: base: #x names no path",
        "layer.holds: rootfs-listing: other/layer.mtree lies in the output of layer.holds",
    ):  # fmt: skip
        assert wanted in said
    (folder / "wrong.toml").write_text('[layer.nothing]\noutput = "out"\n[image.empty]\ntag = "a:1"\n')
    faults = Faults("wrong.toml")
    Recipes(faults).read(load("wrong.toml").select(()))
    assert faults.problems == [
        "wrong.toml: layer.nothing: there is nothing to make a layer of: name a closure, a tree, a root filesystem, a base or a script",
        "wrong.toml: image.empty: there is nothing to make an image of: name a base, a closure or a layer",
    ]


def test_an_output_of_make_is_no_compressed_archive() -> None:
    """The name of a compressed archive is no layout's, unless a layout is asked for."""
    for name in ("app.tar.gz", "it.oci.tar.zst", "a.TGZ", "a.tar.gz/", "a.TAR"):
        with pytest.raises(InputError, match="is the name of an archive"):
            format_of(ImageOptions(output=name))
        assert format_of(ImageOptions(output=name, format="layout")) == "layout"
    assert [format_of(ImageOptions(output=name)) for name in ("a.tar", "-", "redis", "redis-1.2", "tar")] == [
        "archive", "archive", "layout", "layout", "layout"
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["layout", "archive", "docker-archive", "layer"])
def test_an_image_is_no_root_filesystem(form: Literal["layout", "archive", "docker-archive", "layer"], tmp_path: Path) -> None:
    """An image or a layer given as a root filesystem is refused with the option that takes it, and nothing is there."""
    (tmp_path / "tree").mkdir()
    build_layer(LayerSpec(copy_to_root=[str(tmp_path / "tree")]), tmp_path / "layer")
    if form != "layer":
        image = Image.empty(Platform.host()).append(open_layer(tmp_path / "layer"))
        write_images([NamedImage(image, ("a:1",))], tmp_path / form, form)
    with pytest.raises(InputError) as raised:
        build_layer(LayerSpec(rootfs=str(tmp_path / form)), tmp_path / "out")
    assert "is an image or a layer" in str(raised.value)
    assert "--base" in raised.value.hint
    assert not (tmp_path / "out").exists()
    check_no_image("root", [b"etc", b"manifest.json", b"oci-layout"])


def test_a_root_filesystem_is_no_base(tmp_path: Path) -> None:
    """What is no image is said with what it may be: a root filesystem, or the name of an image in a registry."""
    with pytest.raises(InputError) as raised:
        read_images(tmp_path, str)
    assert "--rootfs" in raised.value.hint
    for name, wanted in {
        "docker.io/library/debian:12": "docker://docker.io/library/debian:12.", "https://debian": "docker://debian.",
        "debian:12.5": "docker://debian:12.5.", "./debian": "", "debian.tar": "", "/var/debian": "", "Debian": "",
    }.items():  # fmt: skip
        with pytest.raises(SourceError) as missing:
            read_images(name, str)
        assert wanted in missing.value.hint
        assert bool(wanted) == ("docker://" in missing.value.hint)


HIDDEN = """\
\ufeff[image.one]
closure = "absent"
layering = "absent-too"
platform = "linux/²"
base = "graph"
layers = ["other"]
[layer.two]
copy-to-root = "tree"
closure = ""
output = ""
"""


def test_no_fault_hides_another_or_is_told_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a missing closure and a wrong platform, other keys' faults are told; an empty value is told once. A BOM is none."""
    (folder / "hidden.toml").write_text(HIDDEN, encoding="utf-8")
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, ["make", "hidden.toml"])
    problems = getattr(result.exception, "problems", ())
    keys = [tuple(problem.split(": ")[1:3]) for problem in problems]
    expected = [("image.one", key) for key in ("closure", "layering", "platform", "base", "layers")]
    assert sorted(keys) == sorted([*expected, ("layer.two", "closure"), ("layer.two", "output")]), problems


def test_a_config_that_is_none_is_told_shortly(tmp_path: Path) -> None:
    """What is neither an object nor a file says what --config takes; a number that is too large is not told to be none."""
    for given, said in (("[]", "not a JSON object"), ("absent", "begins with {"), ("x" * 5000, "begins with {")):
        with pytest.raises(InputError, match=said) as raised:
            read_document(given)
        assert len(str(raised.value)) < 300
    (tmp_path / "file").write_text('{"User": "me"}')
    assert read_document(str(tmp_path / "file")) == {"User": "me"}
    with pytest.raises(InputError, match=r"Memory is from -2\^63"):
        check_config({"Memory": 10**22})
    with pytest.raises(InputError) as raised:
        check_config({"WorkingDir": "x" * 5000, "Env": ["x" * 5000], "y" * 5000: 1})
    assert max(map(len, raised.value.problems)) < 200
