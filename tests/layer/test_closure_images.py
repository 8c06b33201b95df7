"""A closure becomes an image in one command: layers in order, a stream as well, nothing left of one that is ended."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.aftermath import ABSENT, assert_nothing_left, assert_said, is_ready, until
from helpers.effort import todays
from helpers.image_commands import digests, image_json
from helpers.stores import Store, own
from helpers.users import COMMAND, HANG, User

pytestmark = pytest.mark.slow

MOST = 6


def test_everybody_gets_the_same_image(users: list[User], store: Store) -> None:
    """Root and somebody make the same layers, as the library does; a stream is the archive's bytes."""
    found = {tuple(digests(image_json(user, *store.options, "--max-layers", str(MOST)))) for user in users}
    assert len(found) == 1
    with subprocess.Popen(
        [*COMMAND, "image", *store.options, "--max-layers", str(MOST), "-o", "-"], stdout=subprocess.PIPE
    ) as stream:
        streamed = stream.communicate()[0]
    user = users[-1]
    assert len(digests(image_json(user, *store.options, "--max-layers", str(MOST), output="image.tar"))) == MOST
    assert (user.home / "image.tar").read_bytes() == streamed
    assert_nothing_left(user)


def test_layers_are_counted_and_stand_in_order(users: list[User], store: Store) -> None:
    """The base's layers, the closure's and --layer's are in this order and at most N; the base's store paths are not repeated."""
    user = users[-1]
    (user.home / "tree").mkdir()
    (user.home / "tree/file").write_text("text")
    custom = user.build("--copy-to-root", user.home / "tree", output="custom").layer["digest"]
    base = digests(image_json(user, *store.options, "--max-layers", "3", "--layering", "size", output="base"))
    groups = user.home / "groups.json"
    groups.write_text('[["bash*"], ["coreutils*"]]')
    for layering in ("popularity", "size", "balanced", groups):
        words = [*store.options, "--max-layers", "5", "--layering", layering, "--layer", user.home / "custom"]
        alone = digests(image_json(user, *words))
        assert len(alone) == {"popularity": 5, "size": 5, "balanced": 5, groups: 4}[layering]
        assert alone[-1] == custom
        assert digests(image_json(user, *words, "--base", user.home / "base")) == [*base, custom]
    only = user.build("--closure", listed(user, store.path("bash")), "--store-root", str(store.root), output="only").layer[
        "digest"
    ]
    rest = digests(image_json(user, *store.options, "--base", user.home / "only", "--max-layers", "2"))
    assert rest[0] == only
    assert len(rest) == 2
    said = json.loads(user.run([*COMMAND, "inspect", "--json", user.home / "image"]).out)
    assert "duplicates" not in said or not said["duplicates"]


def listed(user: User, *paths: str) -> Path:
    """Write a list of store paths."""
    file = user.home / "paths"
    file.write_text("".join(f"{path}\n" for path in paths))
    return file


def test_arguments_that_do_not_go_together(users: list[User], store: Store) -> None:
    """Options of a closure without one, and a closure for which no layer is left, are errors that say what to do."""
    user = users[-1]
    (user.home / "tree").mkdir()
    assert user.build("--copy-to-root", user.home / "tree", output="custom").status == 0
    for words in (
        ["--max-layers", "3"],
        ["--layering", "size"],
        ["--uid", "0"],
        ["--compression", "none"],
        ["--allow-sparse"],
        ["--cache"],
    ):
        assert_said(image_json(user, *words, "--layer", user.home / "custom"), 2, f"{words[0]} goes with --closure")
    full = image_json(user, *store.options, "--layer", user.home / "custom", "--max-layers", "1")
    assert_said(full, 65, "of 1 layers, 0 are the base's and 1 are put on top", "--max-layers")
    wrong = image_json(user, *store.options, "--layering", "popular")
    assert_said(wrong, 66, f"popular: cannot be read as JSON: {ABSENT}", "Give `balanced`, `popularity`, `size`, or a JSON file")


def test_a_closure_that_is_not_there(user: User) -> None:
    """A closure of which a path is missing makes no image, and leaves nothing."""
    made = own(user.home / "store", {"a": "text", "b": "more"}, {"b": ["a"]})
    shutil.rmtree(Path(f"{made.root}{made.paths['b']}"))
    assert_said(image_json(user, *made.options), 66, "there is nothing at", "Build or fetch the paths")
    assert not (user.home / "image").exists()
    assert_nothing_left(user)


@pytest.mark.parametrize("more", [["-o", "-"], ["--cache", "-o", "-"], ["-o", "layout"]], ids=["stream", "cached", "layout"])
def test_nothing_outlives_a_command_that_is_ended(users: list[User], store: Store, more: list[str]) -> None:
    """Ended wherever it is, while children make layers or a slow reader takes the stream, it leaves no process and no tree."""
    user = users[-1]
    for number, seconds in ((signal.SIGTERM, 0.05), (signal.SIGINT, 0.15), (signal.SIGKILL, 0.25), (signal.SIGTERM, 0.8)):
        command = [*COMMAND, "image", *store.options, "--max-layers", "30", *more]
        with user.start(command, env={"MARK": str(user.home)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as started:
            assert until(functools.partial(is_ready, started))
            time.sleep(seconds)
            started.send_signal(number)
            ended = -number if number == signal.SIGKILL else 128 + number
            assert started.wait(HANG) in ({ended, 0} if "layout" in more else {ended})  # a layout may have been written by then
        assert_nothing_left(user, patiently=True)
        assert until(lambda: not list(user.home.glob(".cache/rootless-layer/layers/.*")))


def test_a_source_that_changes_while_it_streams(users: list[User]) -> None:
    """A file that is another one the second time it is read is an error before the stream has its end, however alike they look."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "before"}, {})
    for number in range(8):  # more than is read ahead
        with open(f"{made.root}{made.paths['a']}/{number}", "wb") as file:
            file.truncate(32 << 20)
    path = Path(f"{made.root}{made.paths['b']}/file")
    words = [*COMMAND, "image", *made.options, "--max-layers", "2", "-o", "-"]
    with user.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        begin = started.stdout.read(1 << 20)
        status = path.stat()
        path.write_text("behind")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        stream = begin + started.stdout.read()
        said = started.stderr.read().decode()
        assert started.wait() == 66, said
    assert "the layer is sha256:" in said
    assert "A source changed since the layer was built" in said
    assert len(stream) > 256 << 20
    assert b"manifest.json" not in stream[256 << 20 :]
    assert_nothing_left(user)


@pytest.mark.parametrize("words", [[], ["--cache"], ["-f", "archive"], ["-f", "docker-archive"], ["-q"]])
def test_a_terminal_shows_how_far_it_is(users: list[User], store: Store, words: list[str]) -> None:
    """On a terminal one line says how much of the layers is made, then of the image written, and goes; the last line stays.

    Quietly there is none.
    """
    user = users[-1]
    master, slave = pty.openpty()
    command = [*COMMAND, "image", *store.options, "--max-layers", "3", *words, "-o", user.home / "image"]
    with user.start(command, stdout=subprocess.PIPE, stderr=slave, env={"TERM": "xterm"}) as started:
        os.close(slave)
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(master, 1 << 16):
                said += part
        printed = started.stdout.read() if started.stdout else b""
    os.close(master)
    assert started.returncode == 0, said
    if words == ["-q"]:
        assert (said, printed) == (b"", b"")
        return
    lines = said.decode().split("\r\x1b[K")
    last = lines.pop()
    assert re.fullmatch(r"rootless-layer: \S+/image: [0-9.]+ MiB, 3 layers; next: (podman|docker) (pull|load) .*/image\r\n", last)
    assert (lines[0], lines[-1]) == ("", "")
    stages = [line.split()[0].rstrip("…") for line in lines[1:-1]]
    assert [name for number, name in enumerate(stages) if stages[:number][-1:] != [name]] == ["layers", "write"]
    assert all(re.fullmatch(r"(layers…?|(layers|write) [0-9]+( of [0-9]+)? MiB)(  [0-9]+ s)?", line) for line in lines[1:-1]), (
        lines
    )
    assert printed.startswith(b"sha256:")


def test_what_cannot_be_written_is_said_before_the_work(users: list[User]) -> None:
    """An output that nothing can become is refused before the closure is looked at."""
    user = users[-1]
    (user.home / "other").mkdir()
    (user.home / "other/file").touch()
    for words, output, status, message in (
        (["-f", "layout"], "-", 2, "an image layout is a directory"),
        (["--json"], "-", 2, "the archive or the JSON"),
        ([], str(user.home / "other"), 73, "is not an image layout"),
        (["-f", "archive"], str(user.home / "other"), 73, "is a directory, and an archive is a file"),
    ):
        result = user.run([*COMMAND, "image", "--closure", "absent", *words, "-o", output])
        assert_said(result, status, message)
    assert os.listdir(user.home / "other") == ["file"]


def test_a_reader_that_goes_away(users: list[User]) -> None:
    """Where whoever reads the stream has had enough, the command ends as a shell expects of it, with nothing said or left."""
    user = users[-1]
    made = own(user.home / "store", {"a": "more" * (1 << 20)}, {})
    for more in ([], ["--cache"], ["-f", "docker-archive"]):
        words = [*COMMAND, "image", *made.options, *more, "-o", "-"]
        with user.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
            assert started.stdout is not None
            assert started.stderr is not None
            started.stdout.read(1000)
            started.stdout.close()
            assert (started.stderr.read(), started.wait()) == (b"", 141)
        assert_nothing_left(user)


@pytest.mark.parametrize("umask", todays(["0777", "0277", "0400", "0077"], 2))
@pytest.mark.parametrize(
    "words", [[], ["--cache"], ["--compression", "zstd", "-f", "archive"]], ids=["layout", "cached", "spooled"]
)
def test_any_umask_will_do(users: list[User], umask: str, words: list[str]) -> None:
    """Whatever a umask takes away, the command can read what it wrote, and so can who uses it next."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more"}, {})
    command = [*COMMAND, "image", *made.options, *words, "-o", "image"]
    for _ in range(2):
        result = user.run(["sh", "-c", f'umask {umask}; exec "$@"', "-", *command])
        assert result.status == 0, result.err
        again = user.run([*COMMAND, "image", "--base", "image", "-f", "archive", "-o", "again"])
        assert again.status == 0, again.err
    assert_nothing_left(user)
