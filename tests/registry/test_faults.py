"""A registry that fails, lies or breaks off: the right image comes, or an error; never a wrong image, or half of one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.aftermath import until
from helpers.image_commands import image
from helpers.place import remove
from helpers.registries import blobs_of, faulty_registry, run
from helpers.users import COMMAND, HANG, User, good, make_user


@pytest.fixture(scope="module")
def large(shared: Path) -> Iterator[Path]:
    """A layout whose layer is so large that it comes in several parts."""
    user = make_user(shared, "somebody")
    (user.home / "tree").mkdir()
    (user.home / "tree/data").write_bytes(hashlib.shake_256(b"data").digest(3 << 20))
    good(user.build("--copy-to-root", user.home / "tree"))
    good(image(user, "--layer", user.home / "layer", "-t", "app:1"))
    yield user.home / "image"
    remove(user.home)


@pytest.mark.parametrize(
    "faults",
    [[], ["429"], ["500"], ["cut"], ["cut", "no-range"], ["slow"], ["redirect"], ["redirect", "cut"]],
    ids=lambda faults: "+".join(faults) or "none",
)
def test_it_comes_in_the_end(user: User, large: Path, faults: list[str]) -> None:
    """Too many requests, faults of a server, a connection that breaks, a slow one, another host: the image comes as it is."""
    with faulty_registry(user, large, *faults) as registry:
        good(run(user, "pull", registry.name(), "-o", user.home / "out"))
        asked = registry.requests()
    assert blobs_of(user.home / "out") == blobs_of(large)
    ranges = [one["headers"]["Range"] for one in asked if "Range" in one["headers"]]
    assert bool(ranges) == ("cut" in faults)
    assert any(one["path"].startswith("/elsewhere") for one in asked) == ("redirect" in faults)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("wrong", 65, "what the registry gives is sha256:"),
        ("wrong-manifest", 65, "what the registry gives is sha256:"),
        ("more", 65, "more bytes than"),
        ("lies", 65, "more bytes than"),
        ("paths", 65, "is not a digest"),
        ("config-paths", 65, "is not a digest"),
        ("huge-manifest", 65, "bytes, which is refused"),
        ("huge-config", 65, "too many for a config"),
        ("loop", 65, "redirects"),
        ("nowhere", 65, "no address"),
        ("always-cut", 66, "attempts"),
        ("always-500", 66, "status 500"),
    ],
)
def test_it_is_refused(user: User, large: Path, fault: str, status: int, said: str) -> None:
    """Wrong bytes, sizes that are not true, digests that are paths, answers without end, redirects without end: an error."""
    index = (large / "index.json").read_text()
    by_digest = "app@" + index.partition('"digest":"')[2].partition('"')[0]
    with faulty_registry(user, large, fault) as registry:
        name = registry.name(by_digest if fault == "wrong-manifest" else "app:1")
        for verb in (
            ["pull", name, "-o", user.home / "out"],
            ["inspect", name],
            ["image", "--base", name, "-o", user.home / "out"],
        ):
            done = run(user, *verb)
            assert (done.status, said in done.err) == (status, True), done.err
            assert not (user.home / "out").exists()


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_another_host_is_told_no_password(user: User, large: Path, scheme: str) -> None:
    """Where a blob is at another host, that host gets neither a password nor a token."""
    with faulty_registry(user, large, "redirect", scheme) as registry:
        good(run(user, "pull", registry.name(), "-o", user.home / "out", "--creds", "me:secret"))
        asked = registry.requests()
    assert {one["host"] for one in asked} == {registry.host, registry.other}
    assert [one for one in asked if one["host"] == registry.host and "Authorization" in one["headers"]]
    assert not [one for one in asked if one["host"] == registry.other and "Authorization" in one["headers"]]
    assert blobs_of(user.home / "out") == blobs_of(large)


@pytest.mark.parametrize(("faults", "status"), [(["token", "huge-token"], 65), (["token", "no-token"], 65), (["token"], 65)])
def test_no_token_is_got(user: User, large: Path, faults: list[str], status: int) -> None:
    """A token server without an end, without a token, or that knows nobody: an error, and no password in it."""
    with faulty_registry(user, large, *faults) as registry:
        done = run(user, "pull", registry.name(), "-o", user.home / "out", "--creds", "me:false")
    assert (done.status, "false" in done.err) == (status, False), done.err
    assert not (user.home / "out").exists()


@pytest.fixture
def derived(user: User) -> Path:
    """A derived layer that is sent in chunks."""
    (user.home / "tree").mkdir()
    (user.home / "tree/data").write_bytes(hashlib.shake_256(b"more").digest(20 << 20))
    good(user.build("--copy-to-root", user.home / "tree", "--blob", "derived"))
    return user.home / "layer"


@pytest.mark.parametrize("faults", [[], ["cut"], ["500"]], ids=lambda faults: "+".join(faults) or "none")
def test_a_push_goes_on(user: User, large: Path, derived: Path, faults: list[str]) -> None:
    """A derived layer goes in chunks; where the connection breaks, the push goes on behind what the registry has."""
    with faulty_registry(user, large, "empty", *faults) as registry:
        good(run(user, "image", "--layer", derived, "-o", registry.name()))
        asked = registry.requests()
    chunks = [one["headers"]["Content-Range"] for one in asked if one["method"] == "PATCH"]
    # Config and layer are sent side by side: either of them, or both, meet with the two errors at the end of an upload.
    assert len(chunks) in ({3} if faults == ["cut"] else {2, 4, 6} if faults == ["500"] else {2})
    assert [one["method"] for one in asked if "/manifests/" in one["path"]][-1:] == ["PUT"]


def test_a_push_that_is_refused_shows_nothing(user: User, large: Path, derived: Path) -> None:
    """A registry that takes no blob gets no manifest."""
    with faulty_registry(user, large, "empty", "refuse") as registry:
        done = run(user, "image", "--layer", derived, "-o", registry.name())
        asked = registry.requests()
    assert (done.status, "no room left" in done.err) == (73, True), done.err
    assert not [one for one in asked if "/manifests/" in one["path"] and one["method"] == "PUT"]


def test_a_layer_that_is_damaged_is_not_pushed(user: User, large: Path, folder: Path) -> None:
    """A stored blob that is not what its digest says is the reason of the error, and no manifest is put."""
    shutil.copytree(large, folder / "image")
    blob = max((folder / "image/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[1 << 20] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    with faulty_registry(user, large, "empty") as registry:
        done = run(user, "push", folder / "image", registry.name())
        asked = registry.requests()
    assert (done.status, "and should be sha256:" in done.err) == (65, True), done.err
    assert not [one for one in asked if "/manifests/" in one["path"] and one["method"] == "PUT"]


def test_a_pull_that_is_ended_leaves_nothing(user: User, large: Path) -> None:
    """A pull from a registry that gives nothing more ends when it is told to, without an output or a part of one."""
    with faulty_registry(user, large, "stall") as registry:
        process = user.start([*COMMAND, "pull", registry.name(), "-o", user.home / "out"], stderr=subprocess.DEVNULL)
        blobs = [path.name for path in (large / "blobs/sha256").iterdir() if path.stat().st_size > 4096]
        assert until(lambda: any(one["path"].endswith(blobs[0]) for one in registry.requests()))
        process.terminate()
        assert process.wait(HANG) == 143
    assert not (user.home / "out").exists()
    assert user.leftovers() == []
