"""The public names: what they are called, what they take, and that each says so; and a program that uses them."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.place import HERE
from helpers.users import User

import rootless_layer
from rootless_layer import Cancellation, Closure, LayerSpec, Progress, Script, StorePath, build_layer, open_base, open_images
from rootless_layer.errors import CancelledError, InputError

VERBS = {
    "build_layer": "spec, output, *, cache=None, stage='auto', blob='stored', progress=None, on_output=None, cancel=None",
    "build_layers": "closure, max_layers, output, *, strategy=None, source_date_epoch=1, uid=0, gid=0, uname='', gname='',"
    " compression=None, set_times=False, allow_sparse=False, link_identical=False, blob='derived'",
    "cache_directory": "",
    "bill_of_materials": "image, form='spdx', *, name='', closure=None, platform=None",
    "closure_of_paths": "paths, store_root='/'",
    "compare": "left, right, *, times=True, platform=None",
    "inspect": "path",
    "load_closure": "source, *, store_root='/'",
    "open_base": "*parts, cache=None, platform=None, most_bytes=17179869184, progress=None",
    "open_images": "path",
    "open_layer": "folder",
    "serve_images": "images, listen='127.0.0.1:0', *, on_problem=None",
    "split": "closure, max_layers, strategy=ByPopularity()",
    "validate": "path",
    "write_images": "images, output, format='layout', *, several_platforms=False, progress=None",
}
"""Each function with its parameters."""
VALUES = {
    "Balanced": "sizes",
    "Base": None,
    "ByList": "groups",
    "ByPopularity": "",
    "BySize": "sizes",
    "Cancellation": "",
    "Attachment": "media_type, data, title=''",
    "Closure": "references=NOTHING, store_root='/', sizes=NOTHING, hashes=NOTHING",
    "Comparison": None,
    "Compression": "kind='none', level=NOTHING",
    "Copy": "sources, destination, *, chown='', chmod=None, image=None",
    "Descriptor": "media_type, digest, size",
    "Entry": "*, path, mode, uid=0, gid=0, mtime=0, size=0, rdev=0, target=None, link=None, source=None, stamp=None, xattrs=()",
    "Finding": "where, what",
    "Findings": None,
    "Ignored": None,
    "Image": None,
    "Inspection": None,
    "Layer": None,
    "LayerBlob": None,
    "LayerSpec": "*, base=None, closure=None, tools=None, copy_to_root=(), copies=(), ignored=Ignored(rules=(), name='.dockerignore'), rootfs=None, rootfs_listing=None, scripts=(), view='root',"
    " platform=None, emulator=None, environment=NOTHING, network='none', mounts=(), timeout=None, user='', workdir='', shell=(), closure_writable=False, link='hard', keep_dirlinks=False, follow_dirlinks=False,"
    " conflict='error', uid=0, gid=0, uname='', gname='', source_date_epoch=1, tidy=False, allow_sparse=False, link_identical=False, compression=Compression(kind='none', level=0),"
    " created_by='', comment='', left_out=NOTHING",
    "Mount": "*, type='bind', target='', source=None, id='', readonly=False, sharing='shared', uid=0, gid=0, mode=None, size=None,"
    " required=False, env=''",
    "NamedImage": "image, names=(), listed=None, digest='', of_index=NOTHING, referrers=(), attached=()",
    "Pipeline": None,
    "Platform": "os, architecture, variant=''",
    "Progress": "stage, done=0, total=0, note='', entries=0, script='', known=0, found=0",
    "Script": "name, data=None, arguments=()",
    "Served": "address, images",
    "StorePath": "path",
    "Tree": None,
}
"""Each value with what makes one; those without are made by a function or a class method."""
OTHERS = {"Blob", "Conflict", "Format", "Link", "Network", "RootlessLayerError", "Stage", "Strategy", "View", "__version__"}


def parameters(function: Any) -> str:
    """Give what a function takes, without types."""
    taken = []
    star = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            star = True
            taken.append(f"*{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            taken.append("*")
        taken.append(parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}")
    return ", ".join(taken)


def test_the_names() -> None:
    """All that is public is known here, and can be listed."""
    assert set(rootless_layer.__all__) == VERBS.keys() | VALUES.keys() | OTHERS
    assert set(rootless_layer.__all__) <= set(dir(rootless_layer))
    assert (Path(rootless_layer.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'build_cached'"):
        rootless_layer.build_cached  # type: ignore[attr-defined]  # noqa: B018 - it raises


@pytest.mark.parametrize("name", VERBS)
def test_a_verb(name: str) -> None:
    """It takes what it took, and its docstring names each of its parameters, what it gives and what it raises."""
    function = getattr(rootless_layer, name)
    assert parameters(function) == VERBS[name]
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert f":param {parameter}:" in text
    assert ":raises " in text
    assert inspect.signature(function).return_annotation in {"None", None} or ":returns:" in text


@pytest.mark.parametrize("name", VALUES)
def test_a_value(name: str) -> None:
    """It is made of what it was made of; it and its public methods have docstrings, which name each parameter."""
    kind = getattr(rootless_layer, name)
    if (made_of := VALUES[name]) is not None:
        assert parameters(kind) == made_of
    assert inspect.getdoc(kind)
    for method, function in inspect.getmembers(kind, lambda member: inspect.isroutine(member) or isinstance(member, property)):
        if not method.startswith("_"):
            text = inspect.getdoc(function) or ""
            assert text, method
            taken = [] if isinstance(function, property) else [*inspect.signature(function).parameters]
            assert [name for name in taken if name != "self" and f"``{name}``" not in text] == [], method


def test_short_representations() -> None:
    """What is printed of a value with much in it is a line."""
    paths = [StorePath(f"/nix/store/{number:032d}-x") for number in range(2000)]
    closure = Closure(dict.fromkeys(paths, ()))
    spec = LayerSpec(closure=closure, scripts=[Script.text("x" * 5000)])
    assert len(repr(spec)) < 1200
    assert len(repr(closure)) < 200
    assert "5000 bytes" in repr(Script.text("x" * 5000))


def test_specs_are_values() -> None:
    """They are equal, and found in a set, by what they say."""
    one, two = (LayerSpec(copy_to_root=[Path("/a")], environment={"A": "1"}) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1


def tree(folder: Path) -> Path:
    """Make a small tree."""
    (folder / "tree").mkdir()
    (folder / "tree/file").write_text("x")
    return folder / "tree"


@pytest.mark.parametrize("cached", [False, True])
def test_a_layer_with_and_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:  # noqa: FBT001
    """The same value, built and found: its tree is read when it is asked for."""
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE", str(tmp_path / "cache"))
    spec = LayerSpec(copy_to_root=[tree(tmp_path)])
    built = [build_layer(spec, tmp_path / f"out{number}", cache=cached) for number in range(2)]
    assert (tmp_path / "cache").exists() is cached
    for layer in built:
        assert [entry.path for entry in layer.tree] == [b"", b"file"]
        assert layer.entries == 2
        assert json.loads((layer.directory / "layer.json").read_text()) == layer.to_json()
        assert layer.opened().diff_id == layer.diff_id
    assert built[0].descriptor == built[1].descriptor


def test_a_base_by_a_relative_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base of a layer, a path or an image is the same; it is shown, and not copied, wherever the cache is named from."""
    monkeypatch.chdir(tmp_path)
    base = build_layer(LayerSpec(copy_to_root=[tree(tmp_path)]), "base")
    said: list[Progress] = []
    with open_images("base") as [named]:
        for part in (base, "base", named.image, base.opened()):
            with open_base(part, cache="cache", progress=said.append) as below:
                spec = LayerSpec(base=below, scripts=[Script.text("chmod 600 file")], view="directory")
                layer = build_layer(spec, "change", progress=said.append)
                assert [entry.path for entry in layer.tree] == [b"", b"file"]
    assert not [step.note for step in said if "copied" in step.note]


def test_a_base_of_anything_else(tmp_path: Path) -> None:
    """The argument is named."""
    with (
        pytest.raises(InputError, match=r"parts\[1\]"),
        open_base(rootless_layer.Image.empty(rootless_layer.Platform.host()), 3, cache=tmp_path),
    ):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("when", ["before", "run", "write"])
def test_a_build_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """From another thread, or before it begins: it raises, and nothing is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cancel = Cancellation()
    assert not cancel.cancelled
    if when == "before":
        cancel.cancel()

    def tell(step: Progress) -> None:
        if step.stage == when:
            thread = threading.Thread(target=cancel.cancel)
            thread.start()
            thread.join()

    spec = LayerSpec(copy_to_root=[tree(tmp_path)], scripts=[Script.text("true")], view="directory")
    with pytest.raises(CancelledError):
        build_layer(spec, tmp_path / "out", progress=tell, cancel=cancel)
    assert cancel.cancelled
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp", "tree"]


def test_what_scripts_write(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A callback gets all of it, in order, and nothing of it goes to the process's own streams; the cache has no part in it."""
    heard: list[bytes] = []
    script = Script.text("seq 1 50000; echo done >&2")
    spec = LayerSpec(copy_to_root=[tree(tmp_path)], scripts=[script], view="directory")
    build_layer(spec, tmp_path / "out", on_output=heard.append, cache=tmp_path / "cache")
    assert b"".join(heard) == b"".join(b"%d\n" % number for number in range(1, 50001)) + b"done\n"
    assert capfd.readouterr() == ("", "")


def test_a_script_that_runs_is_cancelled(tmp_path: Path) -> None:
    """A script that would wait for ever is ended with its processes."""
    cancel = Cancellation()
    spec = LayerSpec(copy_to_root=[tree(tmp_path)], scripts=[Script.text("echo begun; sleep 1000000 & wait")], view="directory")

    def hear(words: bytes) -> None:
        assert words == b"begun\n"
        cancel.cancel()

    with pytest.raises(CancelledError):
        build_layer(spec, tmp_path / "out", on_output=hear, cancel=cancel)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]


CLIENT = HERE / "programs/client.py"


def test_a_client(user: User) -> None:
    """A program of sixty lines: a root filesystem, a base, an app upon it, an image, an archive."""
    for folder in ("rootfs/etc", "app/app", "out"):
        (user.home / folder).mkdir(parents=True)
        if not user.is_root:
            (user.home / folder).chmod(0o777)
    (user.home / "app/app/run").write_text("#!/bin/sh\n")
    done = user.run([sys.executable, str(CLIENT), "rootfs", "app", "out"])
    assert done.status == 0, done.err
    assert "as it should be" in done.err
    assert "run: owners" in done.err
    assert "app:1" in done.out


@pytest.mark.parametrize("checker", [["mypy", "--strict"], ["basedpyright", "--level", "error"]], ids=lambda words: words[0])
def test_the_clients_types(tmp_path: Path, checker: list[str]) -> None:
    """The package is typed as its users' checkers read it."""
    copy = tmp_path / "client.py"
    copy.write_text(CLIENT.read_text())
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    program = Path(sys.executable).with_name(checker[0])
    more = ["--pythonpath", sys.executable] if checker[0] == "basedpyright" else []
    done = subprocess.run([program, *checker[1:], *more, copy], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
