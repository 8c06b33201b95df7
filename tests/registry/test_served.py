"""``serve``: images are pulled from where they lie, byte for byte, a part or all; nothing wrong is ever given whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from helpers.aftermath import processes, until
from helpers.image_commands import image, skopeo
from helpers.image_layouts import manifest_of
from helpers.images import sha256
from helpers.podman import Podman
from helpers.registries import blobs_of, run
from helpers.serving import Serving, asked, serving
from helpers.users import COMMAND, HANG, User, good

from rootless_layer import Image, NamedImage, Platform, open_images, open_layer, serve_images
from rootless_layer.errors import InputError, MachineError

COMPRESSIONS = ["none", "gzip", "zstd"]
SIZE = 5 << 20


def data(seed: bytes, size: int = SIZE) -> bytes:
    """Give bytes that do not shrink."""
    return hashlib.shake_256(seed).digest(size)


@pytest.fixture(params=COMPRESSIONS)
def derived(user: User, request: pytest.FixtureRequest) -> Path:
    """A derived layer of two files."""
    (user.home / "tree").mkdir()
    for name in ("a", "b"):
        (user.home / f"tree/{name}").write_bytes(data(name.encode()))
    good(user.build("--copy-to-root", user.home / "tree", "--blob", "derived", "--compression", request.param))
    return user.home / "layer"


def layers_of(served: Serving, name: str = "app", tag: str = "1") -> list[str]:
    """Give the digests of the layers of an image."""
    return [row["digest"] for row in json.loads(served.ask(f"/v2/{name}/manifests/{tag}").body)["layers"]]


def test_a_layout_is_served_as_it_is(user: User, layout: Path) -> None:
    """skopeo copies it with the digest that ``serve`` told, and every blob; this program pulls it as well."""
    with serving(user, layout) as served:
        [(name, digest)] = served.images.items()
        assert name == served.name("app:1")
        good(skopeo(user, "copy", "--src-tls-verify=false", "--preserve-digests", name, f"oci:{user.home}/copied:app:1"))
        assert good(run(user, "pull", name, "-o", user.home / "pulled")).out.strip() == digest
    assert manifest_of(user.home / "copied") == manifest_of(layout)
    assert blobs_of(user.home / "copied") == blobs_of(layout) == blobs_of(user.home / "pulled")


def test_a_derived_layer_is_made_of_its_sources(user: User, derived: Path) -> None:
    """Its bytes are those of its digest, in any number of requests at a time, in full or as a part."""
    with serving(user, f"app:1={derived}") as served:
        [layer] = layers_of(served)
        path = f"/v2/app/blobs/{layer}"
        whole = served.ask(path)
        assert (whole.status, sha256(whole.body)) == (200, layer)
        size = len(whole.body)
        answers: list[bytes] = []
        threads = [threading.Thread(target=lambda: answers.append(served.ask(path).body)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {sha256(answer) for answer in answers} == {layer}
        assert len(answers) == len(threads)
        for said, begin, end in (
            (f"bytes=0-{size - 1}", 0, size),
            ("bytes=0-0", 0, 1),
            (f"bytes={size - 1}-", size - 1, size),
            ("bytes=-100", size - 100, size),
            (f"bytes=100-{3 << 20}", 100, (3 << 20) + 1),
            (f"bytes={4 << 20}-{size * 2}", 4 << 20, size),
        ):
            part = served.ask(path, Range=said)
            assert (part.status, part.headers["Content-Range"]) == (206, f"bytes {begin}-{end - 1}/{size}")
            assert part.body == whole.body[begin:end], said
        for said in ("bytes=5-1", "bytes=", "lines=1-2", "bytes=0-1,3-4", "bytes=0-1", "bytes=a-b"):
            unasked = served.ask(path, Range=said, **({"If_Range": '"other"'} if said == "bytes=0-1" else {}))
            assert (unasked.status, sha256(unasked.body)) == (200, layer), said
        for said in (f"bytes={size}-", "bytes=-0"):
            refused = served.ask(path, Range=said)
            assert (refused.status, refused.headers["Content-Range"]) == (416, f"bytes */{size}")
        head = served.ask(path, "HEAD")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")
        assert head.headers["Docker-Content-Digest"] == layer
    assert run(user, "validate", derived).status == 0


def test_parts_of_a_stored_layer(user: User, layout: Path) -> None:
    """What lies in a file is given in parts, before and after all of it was read."""
    with serving(user, layout) as served:
        for layer in layers_of(served):
            blob = (layout / "blobs" / layer.replace(":", "/")).read_bytes()
            for _ in range(2):
                assert served.ask(f"/v2/app/blobs/{layer}", Range="bytes=10-99").body == blob[10:100]
            assert served.ask(f"/v2/app/blobs/{layer}").body == blob


def test_what_there_is(user: User, layout: Path, small: list[str]) -> None:
    """Repositories, tags, manifests by tag and digest, and what has none: as the distribution-spec has it."""
    with serving(user, layout, f"team/a:2={small[1]}", f"team/a:3={layout}#app:1", f"host.example:99/b={small[1]}") as served:
        assert json.loads(served.ask("/v2/").body) == {}
        assert json.loads(served.ask("/v2/_catalog").body) == {"repositories": ["app", "b", "team/a"]}
        assert json.loads(served.ask("/v2/team/a/tags/list").body) == {"name": "team/a", "tags": ["2", "3"]}
        first = served.ask("/v2/_catalog?n=2")
        assert json.loads(first.body) == {"repositories": ["app", "b"]}
        following = first.headers["Link"].partition("<")[2].partition(">")[0]
        assert json.loads(served.ask(following).body) == {"repositories": ["team/a"]}
        assert "Link" not in served.ask(following).headers
        digest = served.images[served.name("app:1")]
        for path in (
            f"/v2/app/manifests/{digest}",
            "/v2/app/manifests/1",
            f"/v2/library/app/manifests/{digest.replace(':', '%3A')}",
        ):
            answer, head = served.ask(path), served.ask(path, "HEAD")
            assert (answer.status, sha256(answer.body)) == (200, digest)
            assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
            assert head.headers["Docker-Content-Digest"] == digest
            assert head.headers["Content-Type"] == json.loads(answer.body)["mediaType"]
        assert json.loads(served.ask(f"/v2/app/referrers/{digest}").body)["manifests"] == []
        # What one repository has is not another's.
        assert served.ask(f"/v2/b/manifests/{digest}").code == "MANIFEST_UNKNOWN"


def test_requests_that_are_none(user: User, layout: Path) -> None:
    """Paths, digests and headers that no client of a registry's sends: an error of the spec, and it goes on answering."""
    zeros = "sha256:" + 64 * "0"
    with serving(user, layout) as served:
        for path, status, code in (
            ("/", 404, "UNSUPPORTED"),
            ("/v2/none/manifests/1", 404, "NAME_UNKNOWN"),
            ("/v2/App/manifests/1", 400, "NAME_INVALID"),
            ("/v2/../../etc/tags/list", 400, "NAME_INVALID"),
            ("/v2/app/tags/other", 404, "UNSUPPORTED"),
            ("/v2/app/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
            ("/v2/app/manifests/2", 404, "MANIFEST_UNKNOWN"),
            (f"/v2/app/manifests/{zeros}", 404, "MANIFEST_UNKNOWN"),
            ("/v2/app/manifests/sha256:..%2f..%2fetc", 404, "UNSUPPORTED"),
            ("/v2/app/manifests/sha256:12", 400, "DIGEST_INVALID"),
            ("/v2/app/manifests/%00", 400, "TAG_INVALID"),
            (f"/v2/app/blobs/{zeros}", 404, "BLOB_UNKNOWN"),
            ("/v2/app/blobs/sha256:%2e%2e", 400, "DIGEST_INVALID"),
            ("/v2/app/blobs/..%2f..%2f..%2fetc%2fpasswd", 404, "UNSUPPORTED"),
            ("/v2/app/blobs/blobs", 400, "DIGEST_INVALID"),
            ("/v2/app/referrers/none", 400, "DIGEST_INVALID"),
        ):
            answer = served.ask(path)
            assert (answer.status, answer.code) == (status, code), path
            assert served.ask(path, "HEAD").body == b""
        for method in ("PUT", "POST", "PATCH", "DELETE"):
            assert served.ask("/v2/app/blobs/uploads/", method).code == "UNSUPPORTED"
        assert served.ask("/v2/", Long="x" * 100_000).status == 431
        assert served.ask("/v2/", **{f"Header_{number}": "x" for number in range(200)}).status == 431
        assert served.ask("/v2/" + 100_000 * "x").status == 414
        assert b"UNSUPPORTED" in raw(served.host, b"nonsense\r\n\r\n")
        assert raw(served.host, b"\x00\xff\r\n\r\n")
        assert b" 400 " in raw(served.host, b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n")
        # A body that nobody asked for is not the next request.
        smuggled = raw(served.host, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\nGET /v2/_catalog HTTP/1.1\r\n")
        assert smuggled.count(b"HTTP/1.1 ") == 1
        assert served.ask("/v2/").status == 200
        assert served.errors() == ""


def raw(host: str, request: bytes) -> bytes:
    """Send bytes, and give what is answered until the connection ends."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), HANG) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while part := connection.recv(1 << 16):
            said += part
    return said


@pytest.mark.parametrize("harm", ["gone", "shorter", "other"])
def test_a_source_that_has_changed(user: User, derived: Path, harm: str) -> None:
    """A file that is not there or not as it was is named, before a byte is promised or by a connection that breaks off."""
    with serving(user, f"app:1={derived}") as served:
        [layer] = layers_of(served)
        source = user.home / "tree/b"
        if harm == "gone":
            source.unlink()
        else:
            source.write_bytes(data(b"other", SIZE if harm == "other" else SIZE // 2))
        for said in ("bytes=0-", "bytes=0-99"):
            if harm == "other":
                with pytest.raises(http.client.IncompleteRead) as broken:
                    served.ask(f"/v2/app/blobs/{layer}", Range=said)
                assert broken.value.expected >= 1
            else:
                answer = served.ask(f"/v2/app/blobs/{layer}", Range=said)
                assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
                assert str(source) in json.loads(answer.body)["errors"][0]["message"]
        assert until(lambda: served.errors().count("\n") >= 2)
        assert (str(source) if harm != "other" else layer) in served.errors()
        done = skopeo(user, "copy", "--src-tls-verify=false", served.name("app:1"), f"oci:{user.home}/copied:app:1")
        assert done.status != 0
        assert served.ask("/v2/app/manifests/1").status == 200


def test_a_stored_blob_that_has_changed(user: User, layout: Path, folder: Path) -> None:
    """A blob that was changed is never whole, be it before it was first read or after."""
    shutil.copytree(layout, folder / "image")
    with serving(user, folder / "image") as served:
        layer = layers_of(served)[-1]
        path = f"/v2/app/blobs/{layer}"
        assert sha256(served.ask(path).body) == layer
        blob = folder / "image/blobs" / layer.replace(":", "/")
        blob.chmod(0o644)
        before = blob.read_bytes()
        blob.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        for said in ("bytes=0-", "bytes=0-9"):
            with pytest.raises(http.client.IncompleteRead):
                served.ask(path, Range=said)
        blob.write_bytes(before)
        assert sha256(served.ask(path).body) == layer
        blob.unlink()
        assert (served.ask(path).status, served.ask(path).code) == (404, "BLOB_UNKNOWN")


def test_several_platforms(user: User, small: list[str]) -> None:
    """Images of one name are one for several platforms, of which each client takes its own."""
    both = []
    for platform in ("linux/amd64", "linux/arm64"):
        good(image(user, "--layer", small[1], "--platform", platform, "-t", "app:1", output=platform.replace("/", "-")))
        both.append(user.home / platform.replace("/", "-"))
    with serving(user, *both) as served:
        [name] = served.images
        good(run(user, "pull", name, "--platform", "linux/arm64", "-o", user.home / "one"))
        raw = good(skopeo(user, "inspect", "--tls-verify=false", "--raw", name)).out.encode()
        assert sha256(raw) == served.images[name]
        assert [one["platform"]["architecture"] for one in json.loads(raw)["manifests"]] == ["amd64", "arm64"]
    assert manifest_of(user.home / "one") == manifest_of(both[1])


def test_images_that_differ_in_annotations_are_two(user: User, small: list[str]) -> None:
    """Neither stands for the other: one name for both is refused, and under two names each has its own manifest."""
    for value in ("one", "two"):
        good(image(user, "--layer", small[1], "-t", "app:1", "--annotation", f"key={value}", output=value))
    one, two = user.home / "one", user.home / "two"
    done = run(user, "serve", f"x={one}", f"x={two}")
    assert (done.status, "several images" in done.err) == (65, True), done.err
    with serving(user, f"x={one}", f"x={one}", f"y={two}") as served:
        said = {name: json.loads(served.ask(f"/v2/{name}/manifests/latest").body)["annotations"]["key"] for name in "xy"}
    assert said == {"x": "one", "y": "two"}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["{layer}"], 65, "NAME="),
        (["{layout}", "app:1={layer}"], 65, "app:1"),
        (["none"], 66, "none"),
        (["A=none"], 66, "A=none"),
        (["{layout}", "--listen", "5000"], 2, "HOST:PORT"),
        (["{layout}", "--listen", "127.0.0.1:99999"], 2, "HOST:PORT"),
        (["{layout}", "--listen", "192.0.2.1:0"], 74, "192.0.2.1"),
        (["{layout}", "--listen", "a..example:0"], 74, "a..example"),
        (["{layout}#none"], 65, "none"),
    ],
)
def test_what_cannot_be_served(user: User, layout: Path, small: list[str], words: list[str], status: int, said: str) -> None:
    """Images without names, names of two, addresses that are none: an error, and nothing is served."""
    done = run(user, "serve", *(word.format(layout=layout, layer=small[1]) for word in words))
    assert (done.status, said in done.err, done.out) == (status, True, ""), done.err


def test_another_address_is_told(user: User, layout: Path) -> None:
    """What is open to others is said aloud; what is not, is not."""
    with serving(user, layout, "--listen", "0.0.0.0:0") as served:
        assert served.ask("/v2/").status == 200
        assert "without a password" in served.errors()
    with serving(user, layout) as served:
        assert served.host.startswith("127.0.0.1:")
        assert served.errors() == ""
    if not os.path.exists("/proc/net/if_inet6") or not Path("/proc/net/if_inet6").read_text():
        return
    with serving(user, layout, "--listen", "[::1]:0") as served:
        assert served.ask("/v2/").status == 200
        assert served.errors() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told(user: User, layout: Path, number: signal.Signals) -> None:
    """A signal ends it in order, with a connection open, and nothing of it is left."""
    with serving(user, layout) as served:
        name, _, port = served.host.partition(":")
        with socket.create_connection((name, int(port))):
            served.process.send_signal(number)
            assert served.process.wait(HANG) == 128 + number
        assert user.leftovers() == []


@pytest.mark.parametrize("connections", [0, 140])
def test_it_ends_with_its_caller(user: User, layout: Path, connections: int) -> None:
    """Where the process that started it is killed, it ends, however many clients hold their connections."""
    code = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(3600)"
    with open(user.home / "out", "wb") as out:
        parent = user.start([sys.executable, "-c", code, *COMMAND, "serve", layout], stdout=out)
    with contextlib.ExitStack() as held:
        try:
            assert until(lambda: (user.home / "out").read_text().endswith("\n"))
            [name] = (user.home / "out").read_text().split()
            place, _, port = name.removeprefix("docker://").partition("/")[0].partition(":")
            for _ in range(connections):
                held.enter_context(socket.create_connection((place, int(port)), HANG))
        finally:
            parent.kill()
            parent.wait()
        assert until(lambda: processes(user) == [])  # not its port, which may be another's by then
        assert until(lambda: user.leftovers() == [])


def test_the_library_serves(somebody: User, layout: Path, small: list[str]) -> None:
    """Images are served while a context lasts: those of a file, and one that was put together of layers."""
    made = Image.empty(Platform.host()).append(*map(open_layer, small))
    with (
        open_images(layout) as images,
        serve_images([*images, NamedImage(made, ("made:1",))]) as served,
    ):
        assert set(served.images) == {f"docker://{served.address}/{name}" for name in ("app:1", "made:1")}
        good(run(somebody, "pull", f"docker://{served.address}/made:1", "-o", somebody.home / "pulled"))
        assert good(run(somebody, "validate", somebody.home / "pulled")).status == 0
        held = http.client.HTTPConnection(served.address, timeout=HANG)
        held.request("GET", "/v2/")
        assert held.getresponse().read() == b"{}"
    assert held.sock is None or held.sock.recv(1) == b""
    held.close()
    with pytest.raises(ConnectionRefusedError):
        asked(served.address, "/v2/")
    with contextlib.ExitStack() as clients, serve_images([NamedImage(made, ("made:1",))]) as served:
        host, _, port = served.address.partition(":")
        for _ in range(140):  # more than are answered at once
            clients.enter_context(socket.create_connection((host, int(port)), HANG))
        assert threading.active_count() > 1
    assert threading.active_count() == 1
    with pytest.raises(InputError), serve_images([NamedImage(made)]):
        pass
    with pytest.raises(InputError), serve_images(images, listen="here"):
        pass
    with pytest.raises(MachineError), serve_images(images, listen="192.0.2.1:0"):
        pass


@pytest.mark.slow
def test_podman_pulls_only_what_it_lacks(podman: Podman, folder: Path) -> None:
    """podman pulls a derived image; of a second one it does not ask for the layer that it has, whose sources are gone by then."""
    user, trees = podman.user, {}
    for name in ("low", "high"):
        trees[name] = folder / name
        trees[name].mkdir()
        (trees[name] / name).write_bytes(data(name.encode()))
        good(user.build("--copy-to-root", trees[name], "--blob", "derived", output=name))
    made = Image.empty(Platform.host())
    low, high = (open_layer(user.home / name) for name in ("low", "high"))
    problems: list[str] = []
    both = [NamedImage(made.append(low), ("one:1",)), NamedImage(made.append(low, high), ("two:1",))]
    with serve_images(both, on_problem=problems.append) as served:
        one, two = served.images
        good(podman("pull", "--tls-verify=false", one))
        shutil.rmtree(trees["low"])
        good(podman("pull", "--tls-verify=false", two))
        podman.forget()
        assert podman("pull", "--tls-verify=false", one).status != 0
    assert problems
    assert all(str(trees["low"]) in problem for problem in problems)


def test_what_is_attached_is_served(user: User, small: list[str]) -> None:
    """A bill of materials of a layout is among the referrers, by its type as well, and a copy takes it along."""
    digest = good(image(user, "--layer", small[1], "-t", "app:1", "--sbom", "spdx")).out.strip()
    with serving(user, user.home / "image") as served:
        for query, count in (("", 1), ("?artifactType=application%2Fspdx%2Bjson", 1), ("?artifactType=none", 0)):
            answer = served.ask(f"/v2/app/referrers/{digest}{query}")
            assert answer.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
            assert answer.headers.get("OCI-Filters-Applied") == ("artifactType" if query else None)
            assert len(json.loads(answer.body)["manifests"]) == count
        [row] = json.loads(served.ask(f"/v2/app/referrers/{digest}").body)["manifests"]
        manifest = served.ask(f"/v2/app/manifests/{row['digest']}").body
        assert sha256(manifest) == row["digest"]
        [file] = json.loads(manifest)["layers"]
        for said in ({}, {"Range": "bytes=0-"}):
            assert sha256(served.ask(f"/v2/app/blobs/{file['digest']}", **said).body) == file["digest"]
        told = json.loads(good(run(user, "inspect", "--json", served.name("app:1"))).out)
        assert [one["subject"] for one in told if one.get("artifactType") == "application/spdx+json"] == [digest]
