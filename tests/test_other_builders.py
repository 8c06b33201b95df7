"""The programs of docs/builders.md that a person or another engine starts: as they stand there, by root and by somebody else.

Those that a command of the page starts are run by test_docs.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import assert_nothing_left, processes, until
from helpers.builders import Builder, builder_with
from helpers.pages import STAND_INS, blocks, files, make_inputs
from helpers.place import once
from helpers.trees import plant
from helpers.users import COMMAND, HANG, good

from rootless_layer import open_images

FILES = files("docs/builders.md")
LAYERS = ("app", "notes")


@pytest.fixture(params=["root", "somebody"])
def builder(request: pytest.FixtureRequest, shared: Path) -> Iterator[Builder]:
    """Real root, and then somebody without privilege, with the files of the page and its base image."""
    with builder_with(shared, request.param, FILES, STAND_INS, inputs()) as made:
        yield made


def inputs() -> Path:
    """Give a directory with a root filesystem and a base image."""
    return once("docs-inputs", make_inputs)


def layers_of(builder: Builder) -> dict[str, str]:
    """Build the layers of the page by the command, and give their digests."""
    found = {}
    for name in LAYERS:
        result = builder.user.build("--base", "base.tar", "--script", f"{name}.sh", output=name)
        found[name] = result.layer["digest"]
    return found


def layers_in(path: Path) -> list[str]:
    """Give the digests of an image's layers, the lowest first."""
    with open_images(path) as [named]:
        return [layer.descriptor.digest for layer in named.image.layers]


def test_all_programs_are_known() -> None:
    """Each file of the page is run by a test, here or in test_docs.py."""
    here = {"service.py", "layers.bzl", "BUILD.bazel", "mkosi.conf", "mkosi.postoutput", "org.example.layers"}
    assert FILES.keys() == here | {"app.sh", "notes.sh", "test_app.py", "dodo.py", "SConstruct"}


@pytest.mark.parametrize("name", ["service.py", "test_app.py"])
def test_types(tmp_path: Path, name: str) -> None:
    """The programs with types are as a strict checker wants them."""
    (tmp_path / name).write_text(FILES[name])
    words = [sys.executable, "-m", "mypy", "--strict", name]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- the service ---


@attrs.frozen
class Client:
    """A client of the service, with a connection for one order."""

    connection: socket.socket

    def lines(self) -> Iterator[dict[str, Any]]:
        """Give what the service says, line after line; in the end hang up."""
        with self.connection, self.connection.makefile() as file:
            for line in file:
                yield json.loads(line)

    def reads(self, **words: str) -> None:
        """Read until a line has these words, and hang up."""
        said = []
        for line in self.lines():
            said.append(line)
            if words.items() <= line.items():
                return
        pytest.fail(f"{words} is not said: {said}")


@pytest.fixture
def service(builder: Builder) -> Iterator[subprocess.Popen[bytes]]:
    """The service, which is ready."""
    python = [sys.executable, "service.py", "socket"]
    with builder.user.start(python, env=builder.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stdout.readline() == b"ready\n"
        yield running
        running.kill()
        assert running.stderr
        assert running.stderr.read() == b""


def ask(builder: Builder, order: object) -> Client:
    """Send an order."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(HANG)
    here = os.open(builder.home, os.O_PATH)  # the home's own path is too long for an address
    connection.connect(f"/proc/self/fd/{here}/socket")
    os.close(here)
    connection.sendall(json.dumps(order).encode() + b"\n")
    return Client(connection)


def order(name: str, script: str = "") -> dict[str, str]:
    """Give the order of a layer of the page."""
    return {"base": "base.tar", "script": script or FILES[f"{name}.sh"], "output": name}


def test_the_service_builds_what_is_asked_for(builder: Builder, service: subprocess.Popen[bytes]) -> None:
    """Several orders at once: each client hears of the steps, and of the digest or of the error."""
    clients = {name: ask(builder, order(name)) for name in LAYERS}
    wrong = {
        "a script that fails": ask(builder, order("bad", "exit 3")),
        "no base": ask(builder, {**order("app"), "base": "absent.tar"}),
        "no order": ask(builder, ["app"]),
    }
    said = {name: list(client.lines()) for name, client in {**clients, **wrong}.items()}
    assert {name: said[name][-1]["digest"] for name in LAYERS} == layers_of(builder)
    for name in LAYERS:
        assert {line.get("stage") for line in said[name]} >= {"run", "write"}
    for name in wrong:
        assert "error" in said[name][-1]
    assert not (builder.home / "bad").exists()
    service.terminate()
    assert service.wait(HANG) == 0
    assert_nothing_left(builder.user)


def test_a_client_that_hangs_up_ends_its_build(builder: Builder, service: subprocess.Popen[bytes]) -> None:
    """What it asked for ends, and nothing else does; the output is as it was."""
    ask(builder, order("app", "sleep infinity")).reads(stage="run", script="script")
    assert until(lambda: len(processes(builder.user)) == 1)
    assert not (builder.home / "app").exists()
    ask(builder, order("notes")).reads(stage="done")
    assert service.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_service_that_ends_ends_its_builds(builder: Builder, service: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Whatever ends it: the workers end, and leave nothing."""
    lines = ask(builder, order("app", "sleep infinity")).lines()
    assert any(line["script"] == "script" for line in lines)
    service.send_signal(number)
    assert service.wait(HANG) == (-number if number == signal.SIGKILL else 0)
    assert not list(lines)
    assert_nothing_left(builder.user, patiently=True)
    assert not (builder.home / "app").exists()


# --- other engines ---


def test_a_hook_of_mkosi(builder: Builder) -> None:
    """mkosi calls it as root of a user namespace, in the sources, with the outputs in a staging directory."""
    work = builder.home / "work"
    good(builder.run("mkdir", "-p", work / "src", work / "out"))
    good(builder.run("cp", inputs() / "root.tar", work / "out/app.tar"))
    good(builder.run("cp", "app.sh", work / "src"))
    variables = {"SRCDIR": f"{work}/src", "OUTPUTDIR": f"{work}/out", "MKOSI_UID": "0", "MKOSI_GID": "0"}
    hook = ["unshare", "--user", "--map-root-user", "--mount", builder.home / "mkosi.postoutput"]
    good(builder.run(*hook, cwd=work / "src", **variables))
    assert sorted(os.listdir(work / "out")) == ["app.oci.tar", "app.tar"]
    good(builder.run(*COMMAND, "validate", work / "out/app.oci.tar"))
    assert len(layers_in(work / "out/app.oci.tar")) == 2
    assert_nothing_left(builder.user)


OSBUILD = """
import json

def arguments():
    with open("arguments.json", encoding="utf8") as file:
        return json.load(file)
"""


def test_a_stage_of_osbuild(builder: Builder) -> None:
    """osbuild gives it the tree of another pipeline, its own tree, and the options of the manifest."""
    [manifest] = [json.loads(block.text) for block in blocks("docs/builders.md") if block.kind == "json"]
    [stage] = manifest["pipelines"][1]["stages"]
    assert stage["type"] == "org.example.layers"
    plant(builder.home / "library/osbuild", {"__init__.py": "", "api.py": OSBUILD})
    good(builder.run("mkdir", "packages", "image"))
    good(builder.run("tar", "-xf", inputs() / "root.tar", "-C", "packages"))
    arguments = {
        "inputs": {"tree": {"path": f"{builder.home}/packages"}}, "tree": f"{builder.home}/image",
        "options": stage["options"], "meta": {"id": "0"},
    }  # fmt: skip
    builder.user.script(json.dumps(arguments), "arguments.json")
    good(builder.run(builder.home / "org.example.layers", PYTHONPATH=f"{builder.home}/library"))
    assert os.listdir(builder.home / "image") == ["app.tar"]
    assert len(layers_in(builder.home / "image/app.tar")) == 2
    assert_nothing_left(builder.user)


def test_rules_of_bazel(builder: Builder) -> None:
    """Bazel builds each layer by an action in its sandbox, of the inputs that the rule names: the same bytes as the command."""
    bazel = shutil.which("bazel")
    if bazel is None:
        pytest.skip("bazel is not installed: ROOTLESS_LAYER_TEST_BUILDERS=1 has scripts/test install it")
    builder.user.script("", "WORKSPACE")
    expected = layers_of(builder)
    start = [bazel, "--batch", f"--output_user_root={builder.home}/bazel", "--max_idle_secs=1"]
    build = ["build", "--spawn_strategy=linux-sandbox", f"--action_env=PATH={builder.variables['PATH']}", "//:image"]
    try:
        good(builder.run(*start, *build))
        assert layers_in(builder.home / "bazel-bin/image.tar")[-2:] == list(expected.values())
    finally:
        good(builder.run("chmod", "-R", "u+rwX", builder.home / "bazel"))
    assert_nothing_left(builder.user, patiently=True)
