"""The output is the new layer or what it was before; stdout is data, and all else goes to stderr."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from helpers.images import sha256
from helpers.inputs import tree_with
from helpers.layers import blob_of
from helpers.users import COMMAND, Result, User

pytestmark = pytest.mark.slow


def test_an_earlier_layer_is_replaced(user: User) -> None:
    """A layer in the output's place goes as a whole: nothing of it is left, derived or stored."""
    first = user.build("--copy-to-root", tree_with(user, "1")).layer
    second = user.build("--copy-to-root", tree_with(user, "2"), "--blob", "derived").layer
    assert first["digest"] != second["digest"]
    assert sorted(path.name for path in (user.home / "layer").iterdir()) == ["layer.json", "layer.mtree"]
    third = user.build("--copy-to-root", tree_with(user, "3")).layer
    assert os.listdir(user.home / "layer/blobs/sha256") == [third["digest"].removeprefix("sha256:")]
    assert user.leftovers() == []


def test_a_failed_build_keeps_the_earlier_layer(user: User) -> None:
    """Whatever goes wrong, the output is what it was before."""
    first = user.build("--copy-to-root", tree_with(user, "1")).layer
    for words, status in (
        (["--copy-to-root", user.home / "absent"], 66),
        (["--copy-to-root", tree_with(user, "2"), "--view", "directory", "--", "false"], 1),
        (["--store-path", "/nix/store/7l2a4vd7ggk7mk80ya2zdh940m1lf9h0-absent"], 66),
    ):
        assert user.build(*words).status == status
        assert json.loads((user.home / "layer/layer.json").read_text()) == first
        assert blob_of(user, first).is_file()
        assert user.leftovers() == []


def test_an_empty_directory_is_filled(user: User) -> None:
    """An output that is there and empty is taken."""
    (user.home / "layer").mkdir()
    if not user.is_root and os.geteuid() == 0:
        os.chown(user.home / "layer", user.home.stat().st_uid, -1)
    assert user.build("--copy-to-root", tree_with(user, "1")).layer["entries"] == 2
    assert user.leftovers() == []


@pytest.mark.parametrize("kind", ["directory", "file", "hidden", "link"])
def test_what_is_no_layer_is_not_replaced(user: User, kind: str) -> None:
    """A directory with other files, a file, or a link to such a directory stays, and the error names it."""
    target = user.home / "layer"
    if kind == "file":
        target.write_text("text")
    else:
        folder = user.home / "folder" if kind == "link" else target
        folder.mkdir()
        (folder / (".hidden" if kind == "hidden" else "file")).write_text("text")
        if kind == "link":
            target.symlink_to(folder)
    result = user.build("--copy-to-root", tree_with(user, "1"))
    assert result.status == 73
    assert str(target) in result.err
    files = [path for path in (user.home / "folder", target) if path.is_dir() and not path.is_symlink()]
    assert all(next(iter(folder.iterdir())).read_text() == "text" for folder in files)
    assert target.is_symlink() == (kind == "link")
    assert user.leftovers() == []


def test_a_link_to_a_layer_is_followed_or_replaced_whole(user: User) -> None:
    """Where the output is a link to an earlier layer, the new one is found under the same name, and nothing is left over."""
    first = user.build("--copy-to-root", tree_with(user, "1"), output="real").layer
    (user.home / "layer").symlink_to("real")
    second = user.build("--copy-to-root", tree_with(user, "2")).layer
    assert second["digest"] != first["digest"]
    assert json.loads((user.home / "layer/layer.json").read_text()) == second
    assert blob_of(user, second).is_file()
    assert user.leftovers() == []


def test_an_output_that_cannot_be_made_is_named(user: User) -> None:
    """A parent that is not there, is a file, or may not be written to is status 73."""
    tree = tree_with(user, "1")
    (user.home / "file").write_text("text")
    outputs = ["absent/layer", "file/layer"]
    if not user.is_root:
        (user.home / "closed").mkdir(mode=0o555)
        outputs.append("closed/layer")
    for output in outputs:
        result = user.build("--copy-to-root", tree, output=output)
        assert result.status == 73, result.err
        assert str(user.home / output) in result.err
    assert user.leftovers() == []


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_no_room_leaves_nothing(user: User, kind: str) -> None:
    """Where the blob cannot be written to its end, status 73 says so, and nothing is kept."""
    tree = tree_with(user, "")
    (tree / "file").write_bytes(os.urandom(3 << 20))
    words = [*COMMAND, "build", "-o", user.home / "layer", "--copy-to-root", tree, "--compression", kind]
    result = user.run(["prlimit", "--fsize=1000000", *words])
    assert result.status == 73, result.err
    assert str(user.home / "layer") in result.err
    assert "Traceback" not in result.err
    assert not (user.home / "layer").exists()
    assert user.leftovers() == []


def test_builds_to_one_output_leave_one_whole_layer(user: User) -> None:
    """Several builds at once to the same place leave one of their layers, whole, and nothing beside it."""
    tree = tree_with(user, "")
    (tree / "file").write_bytes(os.urandom(1 << 20))
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(user.build("--copy-to-root", tree, "--uid", str(number))))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.status for result in results} <= {0, 73}, [result.err for result in results]
    assert any(result.status == 0 for result in results)
    assert not any("Traceback" in result.err for result in results)
    layer = json.loads((user.home / "layer/layer.json").read_text())
    assert sha256(blob_of(user, layer).read_bytes()) == layer["digest"]
    assert user.leftovers() == []


def test_the_output_has_the_umasks_modes(user: User) -> None:
    """The layer is as readable as the umask says, and no more; its directory is as one that it replaces was."""
    tree = tree_with(user, "1")
    for mask, mode in ((0o022, 0o755), (0o077, 0o700)):
        for name, top in ((oct(mask), mode), ("replaced", 0o755)):
            assert user.build("--copy-to-root", tree, umask=mask, output=name).status == 0
            assert stat.S_IMODE((user.home / name).stat().st_mode) == top
            assert stat.S_IMODE((user.home / name / "layer.json").stat().st_mode) == mode & 0o666


def test_stdout_is_data_only(user: User) -> None:
    """What scripts say and what is told goes to stderr; stdout has the digest, or what was asked for."""
    words: list[str | Path] = ["--view", "directory", "--script", user.script("echo from the script; echo error >&2\n")]
    plain = user.run([*COMMAND, "build", "-o", user.home / "layer", *words])
    digest = json.loads((user.home / "layer/layer.json").read_text())["digest"]
    assert plain.out == f"{digest}\n"
    assert "from the script\n" in plain.err
    assert "error\n" in plain.err
    quiet = user.run([*COMMAND, "build", "-q", "-o", user.home / "layer", *words])
    assert quiet.out == ""
    assert "rootless-layer" not in quiet.err
    as_json = user.build("-q", *words)
    assert as_json.layer["digest"] == digest
    listed = user.run([*COMMAND, "build", "--list", "-q", "-o", user.home / "layer", *words])
    assert listed.out.splitlines() == ["drwxr-xr-x       0:0          0 /"]
    failed = user.run([*COMMAND, "build", "-q", "-o", user.home / "layer", "--view", "directory", "--", "false"])
    assert failed.out == ""
    assert "false" in failed.err


def test_a_reader_may_go_away(user: User) -> None:
    """Where nobody reads the listing to its end the command ends as programs do, and the layer is whole."""
    tree = user.home / "tree"
    tree.mkdir()
    for number in range(3000):
        (tree / f"{number:0100}").touch()
    command = " ".join([*COMMAND, "build", "--list", "-o", "layer", "--copy-to-root", "tree"])
    result = user.run(["bash", "-c", f"{command} | head -n1; echo ${{PIPESTATUS[0]}}"])
    assert result.out.splitlines() == ["drwxr-xr-x       0:0          0 /", "141"]
    assert "Traceback" not in result.err
    assert "Exception" not in result.err
    assert (user.home / "layer/layer.json").is_file()


def test_help_and_version_go_to_stdout(user: User) -> None:
    """Asked for, help is data; --version names the program."""
    for words in (["--help"], ["build", "--help"], ["--version"]):
        result = user.run([*COMMAND, *words])
        assert result.status == 0
        assert result.err == ""
        assert "rootless-layer" in result.out or "Usage" in result.out


@pytest.mark.parametrize(
    "words",
    [
        [], ["build"], ["build", "--absent", "-o", "layer"], ["build", "-o", "layer", "--view", "side"],
        ["build", "-o", "layer", "--env", "NAME"], ["build", "-o", "layer", "--uid", "root"], ["build", "-o"],
    ],
)  # fmt: skip
def test_wrong_arguments_are_status_2(user: User, words: list[str]) -> None:
    """A command line that is no such thing is told on stderr, with status 2."""
    result = user.run([*COMMAND, *words])
    assert result.status == 2
    assert result.out == ""
    assert result.err
    assert not (user.home / "layer").exists()
