"""A closure becomes layers in one call, and on the way to an image: each path once, always alike, few of them when it changes."""

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
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import ABSENT, assert_nothing_left, assert_said, is_ready, until
from helpers.stores import PACKAGES, Store, make_store, own
from helpers.users import COMMAND, HANG, Result, User

from rootless_layer import ByList, BySize, Closure, Compression, Pipeline, StorePath, build_layers, load_closure
from rootless_layer.check.validate import validate
from rootless_layer.errors import InputError, OutputError, UnrepresentableError
from rootless_layer.image.image import Image
from rootless_layer.image.read import NamedImage
from rootless_layer.image.write import Format, write_images
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.contents import store_paths
from rootless_layer.layer.of_closure import Splitting, make_layers, read_strategy
from rootless_layer.oci.descriptor import Platform
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.progress import Progress
from rootless_layer.store.layering import split
from rootless_layer.store.layering_pipeline import STEPS
from rootless_layer.store.nar_size import nar_sizes

pytestmark = pytest.mark.slow

MOST = 6


def image(user: User, *words: str | Path, output: str = "image", **more: Any) -> Result:
    """Run ``rootless-layer image … -o HOME/output``."""
    command = [*COMMAND, "image", "--json", "-o", user.home / output, *words]
    return user.run(command, env={"MARK": str(user.home), **more.pop("env", {})}, **more)


def digests(result: Result) -> list[str]:
    """Give the digests of an image's layers, the lowest first; the command must have succeeded."""
    assert result.status == 0, result.err
    return [layer["digest"] for layer in json.loads(result.out)[0]["layers"]]


def listed_paths(folder: Path) -> list[str]:
    """Name the store paths of a layer, from its listing."""
    entries = [line.split()[0].split("/") for line in (folder / "layer.mtree").read_text().splitlines() if line.startswith("./")]
    return sorted({"/" + "/".join(parts[1:4]) for parts in entries if len(parts) > 3})


# The library


def test_each_path_is_in_the_layer_that_the_split_says(store: Store, tmp_path: Path) -> None:
    """The layers are in the order of the groups, hold their store paths and nothing else, are derived, and are true."""
    closure = load_closure(store.graph, store_root=store.root)
    layers = build_layers(closure, MOST, tmp_path / "layers")
    groups = split(closure, MOST)
    names = json.loads((tmp_path / "layers/layers.json").read_bytes())["layers"]
    assert [listed_paths(tmp_path / "layers" / name) for name in names] == [[path.path for path in group] for group in groups]
    said = [json.loads((tmp_path / "layers" / name / "layer.json").read_bytes()) for name in names]
    assert [layer.descriptor.digest for layer in layers] == [one["digest"] for one in said]
    assert [one["madeFrom"]["closure"] for one in said] == [[path.path for path in group] for group in groups]
    assert sorted(os.listdir(tmp_path / "layers")) == [*names, "layers.json"]
    assert {name for one in names for name in os.listdir(tmp_path / "layers" / one)} == {"layer.json", "layer.mtree"}
    assert [problem for name in names for problem in validate(str(tmp_path / "layers" / name), lambda: "").problems] == []


def test_owners_times_and_compression_are_those_asked_for(tmp_path: Path) -> None:
    """``uid``, ``gid``, ``source_date_epoch`` and ``compression`` are as of a layer that is built alone."""
    made = own(tmp_path / "store", {"a": "text", "b": "more"}, {"b": ["a"]})
    closure = load_closure(made.graph, store_root=made.root)
    asked: dict[str, Any] = {"uid": 7, "gid": 8, "source_date_epoch": 5, "compression": Compression("gzip")}
    [one] = build_layers(closure, 1, tmp_path / "layers", **asked)
    assert one.descriptor.media_type.endswith("+gzip")
    listed = (tmp_path / "layers/00/layer.mtree").read_text().splitlines()
    assert all("uid=7 gid=8 time=5.0" in line for line in listed if "/file " in line)
    there = tmp_path / "gzip"
    with open(there, "wb") as file:
        one.copy(file.write)  # which checks the digest
    assert one.plain_size() == len(subprocess.run(["gzip", "-dc", there], check=True, capture_output=True).stdout)


def test_a_path_of_unknown_size_is_measured(store: Store, tmp_path: Path) -> None:
    """A closure splits by size alike, whether its sizes are given, or some, or none."""
    closure = load_closure(store.graph, store_root=store.root)
    assert closure.sizes == {}
    sizes = nar_sizes(closure)
    some = dict(list(sizes.items())[::2])
    splits = [
        split(one, MOST, read_strategy("size", one))
        for one in (closure, *(Closure(closure.references, str(store.root), known) for known in (sizes, some)))
    ]
    assert splits[0] == splits[1] == splits[2] == split(closure, MOST, BySize(sizes))
    assert len(splits[0]) > 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[]", ByList),
        ("[[]]", ByList),
        ('[["a*"], ["/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a", "flatten"]]', ByList),
        ('[["popularity_contest"]]', Pipeline),
        ('[["flatten"], ["reverse"]]', Pipeline),
        ('[["split_paths", []], ["over", "rest", ["popularity_contest"]]]', Pipeline),
        ('[["popularity_contest"], ["limit_layers", 3]]', Pipeline),
    ],
)
def test_a_files_shape_tells_what_it_is(tmp_path: Path, text: str, kind: type) -> None:
    """A list in which an item begins with a step's name, or is none of strings, is a pipeline; any other is one of groups."""
    (tmp_path / "layering.json").write_text(text)
    assert isinstance(read_strategy(str(tmp_path / "layering.json"), Closure()), kind)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "cannot be read as JSON"),
        ("5", "5 is not a list of steps"),
        ('["flatten"]', "step 1: 'flatten' is not a step"),
        ('[["popularity_contest"], ["limit_layers", 0]]', "step 2: .* is not a step, or not with these"),
        ('[["limit_layer", 3]]', "is not a step"),
        ('[["popularity_contst"], ["reverse"]]', 'step 1: ."popularity_contst". is not a step'),
        (None, ABSENT),
    ],
)
def test_files_that_are_no_layering(tmp_path: Path, text: str | None, problem: str) -> None:
    """What is neither groups nor steps is an error that names the file."""
    path = tmp_path / "layering.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_strategy(str(path), Closure())
    assert str(path) in str(caught.value)


def test_the_steps_are_all_there_are() -> None:
    """Each step by which a pipeline is told from groups is one: a pipeline of it has no fault, or one of its arguments."""
    closure = Closure({StorePath(f"/nix/store/{'a' * 32}-a"): frozenset()})
    arguments: list[list[Any]] = [[], [[]], [1], ["main", ["flatten"]], [["flatten"]]]
    for name in STEPS:
        fitting = []
        for words in arguments:
            try:
                fitting.append(Pipeline([[name, *words]]))
            except InputError:
                continue
        assert fitting, name
    assert split(closure, 3, Pipeline([["popularity_contest"]])) == split(closure, 3)


def test_what_fails_in_a_child_is_raised_here(tmp_path: Path) -> None:
    """What cannot be in a layer is an error of its own kind, though a child process met it; of the output nothing is left."""
    made = own(tmp_path / "store", {"a": "text", "b": "more", "c": "most"}, {"b": ["a"]})
    Path(f"{made.root}{made.paths['b']}/.wh.c").touch()
    closure = load_closure(made.graph, store_root=made.root)
    with pytest.raises(UnrepresentableError, match=r"-b/\.wh\.c: a layer cannot hold"):
        build_layers(closure, 3, tmp_path / "layers")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(OutputError, match="there already"):
        build_layers(closure, 3, tmp_path / "taken")
    assert sorted(os.listdir(tmp_path)) == ["store", "taken"]


def test_a_sparse_giant_in_a_closure_is_named(user: User, tmp_path: Path) -> None:
    """A store path's file with more than 1 GiB of holes is an error in each way to make layers of it; less is written."""
    path = "/nix/store/00000000000000000000000000000001-giant"
    root = user.home / "root"
    (root / path[1:]).mkdir(parents=True)
    (user.home / "graph").write_text(path + "\n")
    with open(root / path[1:] / "holes", "wb") as file:
        file.truncate((1 << 30) + 1)
    closure = load_closure(user.home / "graph", store_root=root)
    with pytest.raises(InputError, match=f"{path}/holes"):
        build_layers(closure, 3, tmp_path / "layers")
    assert Splitting(closure, asked=LayerSpec(allow_sparse=True)).specs((), 0)[0].allow_sparse
    options = ["--closure", user.home / "graph", "--store-root", root]
    for words in ([], ["--compression", "zstd"], ["--cache"]):
        cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        assert_said(image(user, *options, *words, env=cache), 65, f"{path}/holes: ", "--allow-sparse")
    (user.home / "rootless-layer.toml").write_text(
        f'[image.a]\nclosure = "graph"\nstore-root = "{root}"\noutput = "a"\nuid = 3\n'
    )
    assert_said(user.run([*COMMAND, "make", "rootless-layer.toml"], env=cache), 65, f"{path}/holes: ")


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    """Layers take the place of earlier ones, of which none is left."""
    made = own(tmp_path / "store", {"a": "text", "b": "more", "c": "most"}, {})
    closure = load_closure(made.graph, store_root=made.root)
    assert len(build_layers(closure, 3, tmp_path / "layers")) == 3
    assert len(build_layers(closure, 1, tmp_path / "layers")) == 1
    assert sorted(os.listdir(tmp_path / "layers")) == ["00", "layers.json"]


# The command


def test_everybody_gets_the_same_image(users: list[User], store: Store) -> None:
    """Root and somebody make the same layers, as the library does; a stream is the archive's bytes."""
    found = {tuple(digests(image(user, *store.options, "--max-layers", str(MOST)))) for user in users}
    assert len(found) == 1
    with subprocess.Popen(
        [*COMMAND, "image", *store.options, "--max-layers", str(MOST), "-o", "-"], stdout=subprocess.PIPE
    ) as stream:
        streamed = stream.communicate()[0]
    user = users[-1]
    assert len(digests(image(user, *store.options, "--max-layers", str(MOST), output="image.tar"))) == MOST
    assert (user.home / "image.tar").read_bytes() == streamed
    assert_nothing_left(user)


def test_layers_are_counted_and_stand_in_order(users: list[User], store: Store) -> None:
    """The base's layers, the closure's and --layer's are in this order and at most N; the base's store paths are not repeated."""
    user = users[-1]
    (user.home / "tree").mkdir()
    (user.home / "tree/file").write_text("text")
    custom = user.build("--copy-to-root", user.home / "tree", output="custom").layer["digest"]
    base = digests(image(user, *store.options, "--max-layers", "3", "--layering", "size", output="base"))
    groups = user.home / "groups.json"
    groups.write_text('[["bash*"], ["coreutils*"]]')
    for layering in ("popularity", "size", groups):
        words = [*store.options, "--max-layers", "5", "--layering", layering, "--layer", user.home / "custom"]
        alone = digests(image(user, *words))
        assert len(alone) == {"popularity": 5, "size": 5, groups: 4}[layering]
        assert alone[-1] == custom
        assert digests(image(user, *words, "--base", user.home / "base")) == [*base, custom]
    only = user.build("--closure", listed(user, store.path("bash")), "--store-root", str(store.root), output="only").layer[
        "digest"
    ]
    rest = digests(image(user, *store.options, "--base", user.home / "only", "--max-layers", "2"))
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
        assert_said(image(user, *words, "--layer", user.home / "custom"), 2, f"{words[0]} goes with --closure")
    full = image(user, *store.options, "--layer", user.home / "custom", "--max-layers", "1")
    assert_said(full, 65, "of 1 layers, 0 are the base's and 1 are put on top", "--max-layers")
    wrong = image(user, *store.options, "--layering", "popular")
    assert_said(wrong, 66, f"popular: cannot be read as JSON: {ABSENT}", "Give `popularity`, `size`, or a JSON file")


def test_a_closure_that_is_not_there(user: User) -> None:
    """A closure of which a path is missing makes no image, and leaves nothing."""
    made = own(user.home / "store", {"a": "text", "b": "more"}, {"b": ["a"]})
    shutil.rmtree(Path(f"{made.root}{made.paths['b']}"))
    assert_said(image(user, *made.options), 66, "there is nothing at", "Build or fetch the paths")
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
    """On a terminal one line says how much of the layers is made, then of the image written, and goes; quietly there is none."""
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


@pytest.mark.parametrize("umask", ["0777", "0277", "0400", "0077"])
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


@pytest.mark.parametrize("kind", ["layout", "archive", "docker-archive"])
@pytest.mark.parametrize("folder", ["", "blobs"], ids=["derived", "stored"])
@pytest.mark.parametrize("threads", [False, True], ids=["forks", "threads"])
def test_progress_adds_up(tmp_path: Path, kind: Format, folder: str, *, threads: bool) -> None:
    """What a caller is told rises to the whole, where blobs are linked, copied or made again, and where nothing may fork."""
    made = own(tmp_path / "store", {"a": "text" * 300_000, "b": "more"}, {})
    closure = load_closure(made.graph, store_root=made.root)
    place = str(tmp_path / folder) if folder else ""
    if place:
        os.mkdir(place)
    steps: list[Progress] = []
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    if threads:
        other.start()
    try:
        layers = make_layers(Splitting(closure).specs((), 0), place, steps.append)
        assert {step.stage for step in steps} == {"layers"}
        image_ = Image.empty(Platform.host())
        for layer in layers:
            image_ = image_.append(layer, created="1970-01-01T00:00:01Z")
        steps.clear()
        write_images([NamedImage(image_, ("a:1",))], str(tmp_path / "image"), kind, progress=steps.append)
    finally:
        ended.set()
    whole = sum(layer.descriptor.size for layer in layers)
    assert {(step.stage, step.total) for step in steps} == {("write", whole)}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == whole
    assert validate(str(tmp_path / "image"), lambda: str(tmp_path / "spool")).problems == ()


def test_store_paths_are_told_by_listing_and_by_tar(users: list[User]) -> None:
    """What a layer's listing says of store paths, its tar says as well; whiteouts of layers above count."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more", "c": "most"}, {})
    assert user.build(*made.options, "--copy-to-root", f"{made.root}{made.paths['a']}", output="one").status == 0
    script = f"rm -r .{made.paths['b']}; mkdir -p nix/store/{'x' * 32}-d nix/store/plain; touch nix/store/{'y' * 32}-f other"
    above = user.build(
        "--base", user.home / "one", "--stage", "copy", "--view", "directory", "--", "sh", "-c", script, output="two"
    )
    assert above.status == 0, above.err
    layers = [open_layer(str(user.home / name)) for name in ("one", "two")]
    assert all(layer.listing for layer in layers)
    for one in (layers, [attrs.evolve(layer, listing="") for layer in layers]):
        assert {path.name for path in store_paths(one[:1])} == {"a", "b", "c"}
        assert {path.name for path in store_paths(one)} == {"a", "c", "d", "f"}


# The cache


def cached_layers(user: User) -> dict[str, int]:
    """Give the layers in the user's cache, each with the time when its files were written."""
    folder = user.home / ".cache/rootless-layer/layers"
    return {name: (folder / name / "layer.json").stat().st_mtime_ns for name in os.listdir(folder)}


def without_data(made: Store) -> None:
    """Take away all that is in a store's paths."""
    for path in made.paths.values():
        shutil.rmtree(f"{made.root}{path}")
        os.mkdir(f"{made.root}{path}")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_layers_from_the_cache_are_those_without(user: User, compression: str) -> None:
    """With --cache, whether the layers are built or found, every form has the bytes it has without; what is found is not read."""
    made = own(user.home / "store", {"a": "text", "b": "more" * 100_000, "c": "most"}, {"c": ["a"]})
    words = [*made.options, "--max-layers", "3", "--compression", compression]

    def outputs(*more: str) -> list[bytes | dict[str, bytes]]:
        """Give an image in all forms."""
        found: list[bytes | dict[str, bytes]] = []
        for kind in ("layout", "archive", "docker-archive"):
            assert len(digests(image(user, *words, *more, "-f", kind))) == 3
            there = user.home / "image"
            if kind == "layout":
                found.append({str(path.relative_to(there)): path.read_bytes() for path in there.rglob("*") if path.is_file()})
                shutil.rmtree(there)
            else:
                found.append(there.read_bytes())
                there.unlink()
        return found

    plain, built = outputs(), outputs("--cache")
    before = cached_layers(user)
    without_data(made)
    assert plain == built == outputs("--cache")
    assert cached_layers(user) == before
    assert len(before) == 3
    assert_nothing_left(user)


def test_only_what_is_new_is_built(users: list[User]) -> None:
    """Images that share store paths share their layers in the cache: with one more path, one more layer is there."""
    user = users[-1]
    names = {"a": "text", "b": "more"}
    made = own(user.home / "store", names, {"b": ["a"]})
    first = digests(image(user, *made.options, "--max-layers", "5", "--cache"))
    before = cached_layers(user)
    shutil.rmtree(user.home / "store")
    more = own(user.home / "store", names | {"c": "most"}, {"b": ["a"], "c": ["a"]})
    second = digests(image(user, *more.options, "--max-layers", "5", "--cache"))
    assert (len(first), len(second), set(first) - set(second)) == (2, 3, set())
    after = cached_layers(user)
    assert len(after) == 3
    assert before.items() <= after.items()


def test_a_damaged_layer_in_the_cache_is_built_again(users: list[User]) -> None:
    """A blob that was changed or is gone is noticed, and its layer built again; the others are found."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more"}, {})
    words = [*made.options, "--max-layers", "2", "--cache"]
    right = digests(image(user, *words))
    before = cached_layers(user)
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes() + b"\0")):
        [blob] = [path for path in (user.home / ".cache").rglob("*") if path.name == right[0].removeprefix("sha256:")]
        damage(blob)
        assert digests(image(user, *words)) == right
        assert validate(str(user.home / "image"), lambda: "").problems == ()
    after = cached_layers(user)
    assert after.keys() == before.keys()
    assert len(after.items() & before.items()) == 1


def test_a_layout_has_the_modes_of_the_umask(users: list[User]) -> None:
    """What the cache has of another umask's time is copied into a layout, and else linked."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text"}, {})
    for umask, name in ((0o077, "first"), (0o022, "second"), (0o077, "third")):
        command = [*COMMAND, "image", *made.options, "--cache", "-o", user.home / name]
        assert user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *command]).status == 0
    found = [
        {oct(path.stat().st_mode & 0o777) for path in (user.home / name / "blobs/sha256").iterdir()}
        for name in ("first", "second", "third")
    ]
    assert found == [{"0o600"}, {"0o644"}, {"0o600"}]
    links = [max(path.stat().st_nlink for path in (user.home / name / "blobs/sha256").iterdir()) for name in ("second", "third")]
    assert links == [1, 3]


def test_gc_leaves_the_layers_of_an_image_that_is_written(users: list[User]) -> None:
    """While a slow reader takes a stream, gc removes none of its layers; afterwards it does."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more" * (1 << 20)}, {})
    words = [*COMMAND, "image", *made.options, "--max-layers", "2", "--cache", "-o", "-"]
    collect = [*COMMAND, "cache", "gc", "--keep", "0", "--json"]
    with user.start(words, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        begin = started.stdout.read(1000)
        said = json.loads(user.run(collect).out)
        assert (len(said["inUse"]), said["removed"]) == (2, [])
        stream = begin + started.stdout.read()
        assert started.wait() == 0
    assert b"manifest.json" in stream
    said = json.loads(user.run(collect).out)
    assert (said["inUse"], len(said["removed"])) == ([], 2)


def test_several_at_once_share_a_cache(users: list[User], store: Store) -> None:
    """Commands that build the same layers at the same time all end well, with one entry for each layer."""
    user = users[-1]
    words = [*COMMAND, "image", *store.options, "--max-layers", str(MOST), "--cache", "--json", "-o"]
    started = [user.start([*words, user.home / f"image-{number}"], stdout=subprocess.PIPE) for number in range(3)]
    said = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(said) == 1
    assert len(cached_layers(user)) == MOST
    for number in range(3):
        assert validate(str(user.home / f"image-{number}"), lambda: "").problems == ()
    assert_nothing_left(user)


def test_a_cache_that_cannot_be_written(users: list[User]) -> None:
    """Where the cache has no place the command says so, and what to do: 73."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text"}, {})
    (user.home / "file").touch()
    result = image(user, *made.options, "--cache", env={"ROOTLESS_LAYER_CACHE": f"{user.home}/file"})
    assert_said(result, 73, "the cache cannot be written", "ROOTLESS_LAYER_CACHE")
    assert not (user.home / "image").exists()
    assert_nothing_left(user)


# Stability


def test_how_many_layers_a_new_leaf_changes(shared: Path, store: Store, tmp_path: Path) -> None:
    """sed, added to a closure in 20 layers, changes the last one by size, and by popularity that and one of a path that it needs."""
    bigger = make_store(shared / "leaf-store", [*PACKAGES, "sed"])
    assert len(set(bigger.paths) - set(store.paths)) == 1
    changed = {}
    for layering in ("popularity", "size"):
        found = []
        for one in (store, bigger):
            closure = load_closure(one.graph, store_root=one.root)
            found.append(build_layers(closure, 20, tmp_path / "layers", strategy=read_strategy(layering, closure)))
        before, after = ({layer.descriptor.digest for layer in layers} for layers in found)
        assert 18 <= len(before) <= 20
        changed[layering] = len(after - before)
    assert changed == {"popularity": 2, "size": 1}
