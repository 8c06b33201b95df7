"""A docker-archive of a closure is written in one pass: each source is read once, and no name stands before its bytes."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import attrs
import pytest
from helpers.image_commands import digests, image, image_json
from helpers.podman import Podman, good
from helpers.stores import own
from helpers.users import COMMAND, User

from rootless_layer import LayerSpec, load_closure
from rootless_layer.errors import SourceError
from rootless_layer.layer.of_closure import Splitting, plan_layers
from rootless_layer.plan.plan import plan
from rootless_layer.tar import parallel
from rootless_layer.tar.parallel import serialise, tar_size
from rootless_layer.tree.tree import Entry

pytestmark = pytest.mark.slow

LARGE = 48 << 20
FILE = 0o100644


def bytes_read(user: User, *words: str | Path) -> int:
    """Run the command with its archive going nowhere; give how many bytes all of its processes read."""
    counted = '"$@" >/dev/null && sed -n "s/rchar: //p" /proc/$$/io'  # the kernel adds those of each child waited for
    return int(good(user.run(["bash", "-c", counted, "-", *COMMAND, "image", *words, "-o", "-"])).out)


def test_each_source_is_read_once(users: list[User]) -> None:
    """Without the cache a closure is read once for a docker-archive, and twice where names are digests."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text" * (LARGE // 4), "b": "more"}, {})
    once, twice = (bytes_read(user, *made.options, "-f", kind) for kind in ("docker-archive", "archive"))
    assert once < 1.6 * LARGE
    assert twice > 2 * LARGE


@pytest.mark.parametrize("kind", ["none", "gzip"])
def test_the_command_tells_what_was_made(user: User, kind: str) -> None:
    """The digests that are printed are those of the layers, whichever way the archive was made."""
    made = own(user.home / "store", {"a": "text", "b": "more"}, {})
    ways = (["--compression", kind, *way] for way in ([], ["-f", "docker-archive"], ["-f", "docker-archive", "--cache"]))
    said = [image_json(user, *made.options, *more, output=f"image-{number}") for number, more in enumerate(ways)]
    first, *others = [digests(result) for result in said]
    assert others == [first, first]
    assert len({json.loads(result.out)[0]["manifestDigest"] for result in said}) == 1


def test_the_order_in_a_layer_is_that_of_other_ways(user: User) -> None:
    """Store paths of one layer that need one another stand as they do in an archive of two passes."""
    needs = {"z": [], "a": ["z"], "m": ["a"], "b": ["m"], "y": ["b"]}
    made = own(user.home / "store", {name: name * 700 for name in needs}, needs)
    words = [*made.options, "--max-layers", "1"]
    expected = digests(image_json(user, *words))
    assert digests(image_json(user, *words, "-f", "docker-archive", output="archive")) == expected


def test_upon_a_base(user: User) -> None:
    """The layers of a base and those built apart stand in their places among those that are made meanwhile."""
    made = own(user.home / "store", {"a": "text", "b": "more"}, {})
    other = own(user.home / "other", {"c": "other"}, {})
    (user.home / "tree").mkdir()
    (user.home / "tree/file").write_text("text")
    assert user.build("--copy-to-root", user.home / "tree", output="own").status == 0
    good(image(user, *other.options, "-t", "base:1", output="base"))
    words = [*made.options, "--base", user.home / "base", "--layer", user.home / "own", "-t", "a:1", "-t", "a:2"]
    stored = image_json(user, *words)
    expected = digests(stored)
    told = image_json(user, *words, "-f", "docker-archive", output="archive")
    assert json.loads(told.out)[0]["manifestDigest"] == json.loads(stored.out)[0]["manifestDigest"]  # says which the base is
    with tarfile.open(user.home / "archive") as archive:
        names = archive.getnames()
        [row] = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest.json"))
        config = json.load(archive.extractfile(row["Config"]) or pytest.fail("no config"))
    assert config["rootfs"]["diff_ids"] == expected
    assert (row["RepoTags"], len(row["Layers"])) == (["a:1", "a:2"], 4)
    assert names[-2:] == [row["Config"], "manifest.json"]
    good(user.run([*COMMAND, "validate", user.home / "archive"]))


def test_podman_reads_it_from_a_pipe(podman: Podman) -> None:
    """It takes layers before it knows which they are."""
    user = podman.user
    made = own(user.home / "store", {"a": "text", "b": "more" * 100_000}, {})
    expected = digests(image_json(user, *made.options, "-t", "piped:1"))
    stream = [*COMMAND, "image", *made.options, "-t", "piped:1", "-f", "docker-archive", "-o", "-"]
    pipe = 'set -o pipefail; "${@:2:$1}" | "${@:2+$1}"'
    good(user.run(["bash", "-c", pipe, "-", str(len(stream)), *stream, *podman.command(), "load"]))
    assert json.loads(good(podman("image", "inspect", "piped:1")).out)[0]["RootFS"]["Layers"] == expected


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    """What was planned is what is written, or there is an error."""
    made = own(tmp_path / "store", {"a": "text"}, {})
    pending = plan_layers(Splitting(load_closure(made.graph, store_root=made.root)).specs((), 0))
    assert pending is not None
    parts: list[bytes] = []
    layer = pending[0].make_plain(lambda part: parts.append(bytes(part)))
    assert (layer.pending, layer.descriptor.size) == (False, len(b"".join(parts)))
    layer.verify()
    Path(f"{made.root}{made.paths['a']}/file").write_text("more text")
    with pytest.raises(SourceError, match="changed while"):
        pending[0].make_plain(lambda _part: None)
    short = attrs.evolve(layer, pending=True, uncompressed_size=5)
    with pytest.raises(SourceError):
        short.make_plain(lambda _part: None)


def test_a_size_is_known_before_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of names, links and attributes of every length, the size is that of the tar; of a giant file it is not known."""
    (tmp_path / "tree").mkdir()
    for name, size in (("a", 0), ("b" * 120, 511), ("ä" * 60, 512), ("c", 300_000)):
        (tmp_path / "tree" / name).write_bytes(bytes(size))
    os.symlink("d" * 150, tmp_path / "tree/link")
    tree = plan(LayerSpec(copy_to_root=(str(tmp_path / "tree"),))).tree
    attributes = ((b"user.a", b"1" * 1000), (b"user.b%", b"\0"))
    more = [Entry(path=b"z", mode=FILE, xattrs=attributes, uid=1 << 22), Entry(path=b"zz", mode=FILE, link=b"z")]
    for entries in ([], tree.archived(), [*tree.archived(), *more]):
        count = 0

        def consume(part: memoryview) -> None:
            nonlocal count
            count += len(part)

        serialise(entries, consume, processes=0)
        assert tar_size(entries) == count
    monkeypatch.setattr(parallel, "_HUGE", 300_000)
    assert tar_size(tree.archived()) is None
