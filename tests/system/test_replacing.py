"""An output takes the place of an earlier one only: whatever else lies there stays, and is named."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.users import COMMAND, User

from rootless_layer import LayerSpec, Script, build_layer, closure_of_paths, write_images
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.build import build_cached
from rootless_layer.errors import OutputError
from rootless_layer.image.derived import write_derived
from rootless_layer.image.image import Image
from rootless_layer.image.read import NamedImage
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.made import CLOSURE_LAYERS, DERIVED_IMAGE, IMAGE_LAYOUT, LAYER, Made
from rootless_layer.layer.of_closure import build_layers
from rootless_layer.oci.descriptor import Platform
from rootless_layer.progress import Progress
from rootless_layer.system import replace
from rootless_layer.system.temporary import Temporary

STORE_PATHS = [f"/nix/store/{letter * 32}-{letter}" for letter in "ab"]
KINDS = {
    "stored": LAYER, "derived": LAYER, "scripted": LAYER, "layers": CLOSURE_LAYERS, "image": DERIVED_IMAGE,
    "passing": DERIVED_IMAGE, "layout": IMAGE_LAYOUT, "platforms": IMAGE_LAYOUT,
}  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An output of each kind, and ``empty``."""
    folder = tmp_path_factory.mktemp("made")
    tree = folder / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    for path in STORE_PATHS:
        (folder / path[1:]).mkdir(parents=True)
        (folder / path[1:] / "file").write_text(path)
    spec = LayerSpec(copy_to_root=(str(tree),))
    build_layer(spec, folder / "stored")
    build_layer(spec, folder / "derived", blob="derived")
    own = LayerSpec(scripts=(Script.text("#!/bin/sh\necho own > own\n"),), view="directory")
    build_layer(own, folder / "scripted", blob="derived")
    closure = closure_of_paths(STORE_PATHS, str(folder))
    build_layers(closure, 2, folder / "layers")
    made = folder / "image"
    made.mkdir()
    image = Image.empty(Platform("linux", "amd64"))
    for layer in build_layers(closure, 2, made / "layers"):
        image = image.append(layer)
    write_derived(image, ("a:latest",), made)
    (folder / "passing").mkdir()
    both = Image.empty(Platform("linux", "amd64"))
    for name in ("stored", "derived"):
        shutil.copytree(folder / name, folder / "work" / name)
        both = both.append(open_layer(str(folder / "work" / name)))
    write_derived(both, (), folder / "passing", passing=str(folder / "work"))
    stored = open_layer(str(folder / "stored"))
    images = [NamedImage(Image.empty(Platform("linux", machine)).append(stored), ("b:1",)) for machine in ("amd64", "arm64")]
    write_images(images[:1], str(folder / "layout"), "layout")
    write_images(images, str(folder / "platforms"), "layout", several_platforms=True)
    return {name: folder / name for name in KINDS}


@pytest.fixture
def copied(outputs: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a copy of an output."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(outputs[name], tmp_path / name))

    return copy


def folders(top: Path) -> Iterator[str]:
    """Name a directory and those below it."""
    for here, _, _ in os.walk(top):
        yield os.path.relpath(here, top)


@pytest.mark.parametrize("name", KINDS)
def test_every_output_is_recognised_and_nothing_else_in_it(copied: Callable[[str], Path], name: str) -> None:
    """What was made names all its files, a file less is no harm; any file, link or folder more is named, wherever it lies."""
    top, kind = copied(name), KINDS[name]
    assert kind.foreign(top) is None
    (top / ".rootless-layer-0123456789abcdef").mkdir()
    (top / ".rootless-layer-0123456789abcdef/half").write_text("left by a build that was killed")
    assert kind.foreign(top) is None
    for folder in list(folders(top)):
        if ".rootless-layer" in folder:
            continue
        for make in (
            lambda path: path.write_text("mine"), lambda path: path.symlink_to("layer.json"), lambda path: path.mkdir(), os.mkfifo,
        ):  # fmt: skip
            more = top / folder / "0000"
            make(more)
            assert kind.foreign(top) == os.path.normpath(f"{folder}/0000")
            more.rmdir() if more.is_dir() else more.unlink()
        deep = top / folder / "zz/deep/deeper"
        deep.mkdir(parents=True)
        (deep / "thesis").write_text("mine")
        assert kind.foreign(top) == os.path.normpath(f"{folder}/zz/deep/deeper/thesis")
        shutil.rmtree(top / folder / "zz")
    others = {other for other in KINDS.values() if other is not kind}
    assert all(other.foreign(top) is not None for other in others)
    for here, _, files in os.walk(top):
        for file in files:
            if file != kind.description and "blobs" not in here and ".rootless-layer" not in here:
                data = (path := Path(here, file)).read_bytes()
                path.unlink()
                path.symlink_to("/etc/passwd")
                assert kind.foreign(top) in {os.path.relpath(path, top), kind.description}
                path.unlink()
                path.write_bytes(data)


@pytest.mark.parametrize("kind", [LAYER, CLOSURE_LAYERS, DERIVED_IMAGE, IMAGE_LAYOUT], ids=lambda kind: kind.description)
def test_a_description_of_something_else(tmp_path: Path, kind: Made) -> None:
    """A file of the description's name, whatever is in it, does not make a directory one of ours."""
    nested = "[" * 100_000
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}') if kind is IMAGE_LAYOUT else None
    for text in (
        '{"mine":true}',
        "mine",
        "",
        "[]",
        '{"manifests":[{}]}',
        '{"layers":[{}]}',
        '{"layers":["../.."]}',
        nested,
        "\0",
    ):
        (tmp_path / kind.description).write_text(text)
        with pytest.raises(OutputError, match=f"{tmp_path}.*{tmp_path / kind.description}"):
            replace.check_replaceable(tmp_path, kind)
    (tmp_path / kind.description).unlink()
    os.mkfifo(tmp_path / kind.description)
    assert kind.foreign(tmp_path) == kind.description


def test_a_layout_that_another_tool_extended(copied: Callable[[str], Path]) -> None:
    """Another tool writes the index in its own way, with its images in it: the layout is not only ours any more."""
    top = copied("layout")
    said = json.loads((top / "index.json").read_bytes())
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": said["manifests"]}))
    assert IMAGE_LAYOUT.foreign(top) == "index.json"


def test_a_derived_layer_without_its_listing(copied: Callable[[str], Path]) -> None:
    """Files that the layer keeps are known by their digests as well, so that it can be made again in its place."""
    top = copied("scripted")
    (top / "layer.mtree").unlink()
    assert LAYER.foreign(top) is None
    (top / "files" / ("0" * 64)).write_text("mine")
    assert LAYER.foreign(top) == f"files/{'0' * 64}"


def test_names_out_of_a_directory_are_none_of_its_files(copied: Callable[[str], Path]) -> None:
    """A description that names files elsewhere, as a damaged one may, makes nothing ours but itself."""
    top = copied("stored")
    said = json.loads((top / "layer.json").read_bytes())
    for name, value in (("digest", "sha256:../../x"), ("listing", "../x"), ("blob", "x"), ("diffId", None), ("digest", 5)):
        (top / "layer.json").write_text(json.dumps(said | {name: value}))
        assert LAYER.foreign(top) == "layer.json"


def spec_of(tmp_path: Path, text: str) -> LayerSpec:
    """Give a spec of a tree with one file."""
    (tmp_path / "tree").mkdir(exist_ok=True)
    (tmp_path / "tree/file").write_text(text)
    return LayerSpec(copy_to_root=(str(tmp_path / "tree"),))


def refusing(number: int) -> Callable[..., None]:
    """Give what refuses to exchange anything, by an error number."""

    def refuse(_one: bytes, _other: bytes) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(params=["exchanged", "in two steps", "file by file"])
def exchanging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A file system that exchanges two directories, one that cannot, and one that moves none of its directories either."""
    if request.param != "exchanged":
        monkeypatch.setattr(replace, "exchange", refusing(errno.EINVAL))
    if request.param == "file by file":
        rename = os.rename

        def rename_file(path: str | Path, to: str | Path, **folders: int) -> None:
            if os.path.isdir(path) and str(path).startswith(f"{tmp_path}/out"):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(path, to, **folders)

        monkeypatch.setattr(replace, "exchange", refusing(errno.EXDEV))
        monkeypatch.setattr(os, "rename", rename_file)
    return str(request.param)


def test_an_output_is_replaced_where_nothing_can_be_exchanged(tmp_path: Path, exchanging: str) -> None:
    """NFS and some others refuse to exchange directories: the earlier output then goes aside, and nothing stays beside."""
    build_layer(spec_of(tmp_path, "1"), tmp_path / "out")
    second = build_layer(spec_of(tmp_path, "2"), tmp_path / "out")
    assert json.loads((tmp_path / "out/layer.json").read_bytes())["digest"] == second.descriptor.digest, exchanging
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]


def test_what_comes_meanwhile_stays(tmp_path: Path, exchanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody puts into the output while it is made again is not lost, however late it comes."""

    def late(step: Progress) -> None:
        if step.stage == "publish":
            (tmp_path / "out/mine").write_text("mine")

    first = build_layer(spec_of(tmp_path, "1"), tmp_path / "out")
    with pytest.raises(OutputError, match="out/mine"):
        build_layer(spec_of(tmp_path, "2"), tmp_path / "out", progress=late)
    (tmp_path / "out/mine").unlink()
    checked = replace._check
    looks: list[Path] = []

    def look(found: Path, target: Path, made: Made) -> None:
        looks.append(found)
        checked(found, target, made)
        if len(looks) == 2:  # before the work, and before the exchange
            (target / "later").write_text("mine")

    monkeypatch.setattr(replace, "_check", look)
    with pytest.raises(OutputError, match="out/later"):
        build_layer(spec_of(tmp_path, "2"), tmp_path / "out")
    assert (len(looks), exchanging != "") == (3, True)
    assert (tmp_path / "out/later").read_text() == "mine"
    assert json.loads((tmp_path / "out/layer.json").read_bytes())["digest"] == first.descriptor.digest
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]


def test_the_earlier_output_comes_back(tmp_path: Path, exchanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second of the two steps fails, the earlier output is in its place again."""
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == tmp_path / "out" and self.name != "before":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return rename(self, target)

    first = build_layer(spec_of(tmp_path, "1"), tmp_path / "out")
    monkeypatch.setattr(Path, "rename", fail)
    if exchanging == "exchanged":
        monkeypatch.setattr(replace, "exchange", refusing(errno.EOPNOTSUPP))
    with pytest.raises(OutputError, match="out: cannot be written: Operation not permitted"):
        build_layer(spec_of(tmp_path, "2"), tmp_path / "out")
    assert json.loads((tmp_path / "out/layer.json").read_bytes())["digest"] == first.descriptor.digest
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]


OVERLAID = """\
mkdir -p lower upper work merged lower/full lower/empty
{build} -o lower/full
mount -t overlay overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work merged
{build} -o merged/full -- touch new
{build} -o merged/empty
ls -A merged
umount merged
"""


def test_a_directory_of_a_lower_layer_is_replaced(user: User) -> None:
    """An image's directory cannot be moved in a container of it (overlayfs): an output takes its place, empty or a layer."""
    (user.home / "tree").mkdir()
    build = shlex.join([*COMMAND, "build", "-q", "--view", "directory", "--copy-to-root", str(user.home / "tree")])
    script = f"set -e; cd {shlex.quote(str(user.home))}; {OVERLAID.format(build=build)}"
    result = user.run(["unshare", "-rm", "sh", "-c", script])
    assert (result.status, result.out.split()) == (0, ["empty", "full"]), result.err
    assert "new" in (user.home / "upper/full/layer.mtree").read_text()


def test_a_directory_keeps_its_mode_and_group(tmp_path: Path) -> None:
    """An empty directory that is filled, and a layer that is replaced, keep who may enter; a mount point is named as one."""
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, 12345, 23456)
    out.chmod(0o2770)
    for text in "12":
        build_layer(spec_of(tmp_path, text), out)
        status = out.stat()
        assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o42770", 12345, 23456)
    with pytest.raises(OutputError, match="mount point"), replace.writing(out):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def test_the_current_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would stand in a directory that is gone."""
    spec = spec_of(tmp_path, "1")
    (tmp_path / "out/below").mkdir(parents=True)
    for place, output in (("out", "."), ("out/below", "..")):
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(OutputError, match="current directory"):
            build_layer(spec, output)


@pytest.mark.parametrize("verb", ["image -f archive --layer", "nix-archive", "merge -f archive"])
def test_a_pipe_has_no_path(outputs: dict[str, Path], verb: str) -> None:
    """/dev/stdout that is a pipe is no file that an archive could replace: -o - writes to it."""
    words = [*verb.split(), str(outputs["stored" if "layer" in verb else "layout"])]
    done = subprocess.run([*COMMAND, *words, "-o", "/dev/stdout"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (73, "")
    assert "-o -" in done.stderr


@pytest.mark.parametrize("name", ["scripted", "stored", "layers", "layout"])
def test_a_whole_output_is_on_the_disk(
    outputs: dict[str, Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and directory of an output is synchronised, each once, before its name; then the directory that has the name."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with Temporary() as temporary, replace.aside(tmp_path / "out", temporary, KINDS[name]) as folder:
        shutil.copytree(outputs[name], folder, dirs_exist_ok=True)
    paths = [
        os.path.normpath(os.path.join(here, name)) for here, _, files in os.walk(folder.with_name("out")) for name in (*files, "")
    ]
    wanted = [path.replace(str(tmp_path / "out"), str(folder), 1) for path in paths]
    assert sorted(synced[:-1]) == sorted(wanted)
    assert synced[-1] == str(tmp_path)


def test_a_layer_from_the_cache_has_its_root(tmp_path: Path) -> None:
    """A root that is archived although nothing about it is special is archived as well by what the cache delivers."""
    script = Script.text("#!/bin/sh\nchmod 0755 .\n")
    build_layer(LayerSpec(scripts=(Script.text("#!/bin/sh\nchmod 1777 .\n"),), view="directory"), tmp_path / "base")
    with Temporary() as temporary:
        image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "base")))
        spec = LayerSpec(base=open_base(image, tmp_path / "cache", temporary), scripts=(script,), view="directory")
        delivered = build_cached(spec, tmp_path / "out", tmp_path / "cache")
        layer = build_layer(spec, tmp_path / "again")
    assert layer.tree.root_stands
    assert [entry.path for entry in delivered.tree.archived()] == [entry.path for entry in layer.tree.archived()] == [b""]


def test_nothing_of_the_users_is_lost(user: User) -> None:
    """build, image and make leave a project alone that has a file of a description's name: 73, and the file that is in the way."""
    project = user.home / "proj"
    tree = user.home / "tree"
    for folder in (project / "src", tree):
        folder.mkdir(parents=True)
    (project / "src/thesis.txt").write_text("precious")
    (tree / "file").write_text("text")
    layer = user.home / "layer"
    assert user.build("--copy-to-root", tree, output="layer").status == 0
    (user.home / "make.toml").write_text('[layer.a]\ncopy-to-root = "tree"\noutput = "proj"\n')
    for name, words in (
        ("layer.json", ["build", "--copy-to-root", tree, "-o", project]),
        ("layer.json", ["build", "--copy-to-root", tree, "-o", project, "--cache"]),
        ("layer.json", ["make", user.home / "make.toml"]),
        ("index.json", ["image", "--layer", layer, "-o", project]),
    ):
        (project / name).write_text('{"mine":true}')
        if name == "index.json":
            (project / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        result = user.run([*COMMAND, *words])
        assert (result.status, str(project / name) in result.err) == (73, True), result.err
        assert (project / "src/thesis.txt").read_text() == "precious"
        assert (project / name).read_text() == '{"mine":true}'
        (project / name).unlink()
    assert user.leftovers() == []
