"""docs/ci.md: the image for jobs is made and used in a container, and the shell steps of its jobs run as they stand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.aftermath import assert_nothing_left
from helpers.builders import Builder, builder_with
from helpers.pages import ROOT, STAND_INS, files, make_inputs
from helpers.place import once
from helpers.podman import podman_of
from helpers.registries import Registry, docker_registry, password_file
from helpers.roots import debian_root
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow

FILES = files("docs/ci.md")
TARGETS = """
[layer.greeting]
base = "base.tar"
run = "echo hello > /greeting"

[image.hello]
layers = ["greeting"]
tag = "hello:1"
output = "hello.tar"
"""
"""The file of make that the jobs build."""
NAME = "docker.io/library/rootless-layer:0.1.0"
"""The image's name, as podman has it."""
EXPRESSIONS = {"${{ github.sha }}": "0123abcd", "${{ github.actor }}": "me", "${{ secrets.GITHUB_TOKEN }}": "secret"}
"""What GitHub puts into a workflow."""


@pytest.fixture(params=["root", "somebody"])
def job(request: pytest.FixtureRequest, shared: Path) -> Iterator[Builder]:
    """Whom a job runs as, in a checkout with a file of make."""
    with builder_with(shared, request.param, {"images.toml": TARGETS}, STAND_INS, once("docs-inputs", make_inputs)) as made:
        yield made


@pytest.fixture
def registry(job: Builder) -> Iterator[Registry]:
    """A registry that lets in whoever has a password."""
    passwords = job.home / "passwords"
    password_file(passwords, "me", "secret")
    with docker_registry(job.user, auth={"htpasswd": {"realm": "here", "path": str(passwords)}}) as running:
        yield running


def run(job: Builder, shell: list[str], text: str, variables: Mapping[str, str]) -> str:
    """Run a step as a runner does; give what it says."""
    result = job.run(*shell, text, **variables)
    assert result.status == 0, f"{text}\n{result.out}\n{result.err}"
    return result.out + result.err


def assert_pushed(job: Builder, registry: Registry, name: str) -> None:
    """Check that the image of the job is in the registry."""
    words = ["diff", "hello.tar", registry.name(name), "--creds", "me:secret"]
    good(job.run(*COMMAND, *words))


def test_a_workflow_of_github(job: Builder, registry: Registry) -> None:
    """Its steps build an image and push it; the token is in no argument and in no file that others may read."""
    workflow: dict[Any, Any] = yaml.safe_load(FILES[".github/workflows/image.yml"])
    assert set(workflow) == {"name", True, "permissions", "jobs"}  # YAML reads `on` so, and GitHub does not
    [described] = workflow["jobs"].values()
    assert described["container"]["options"].count("=unconfined") == 3
    (job.home / "temporary").mkdir(mode=0o777)
    (job.home / "temporary").chmod(0o777)
    variables = {"RUNNER_TEMP": f"{job.home}/temporary"}

    def resolved(env: Mapping[str, str]) -> dict[str, str]:
        text = json.dumps(env).replace("ghcr.io", registry.host)
        for expression, value in EXPRESSIONS.items():
            text = text.replace(expression, value)
        assert "${{" not in text
        return dict(json.loads(text))

    variables |= resolved(described["env"])
    steps = [step for step in described["steps"] if "run" in step]
    assert len(steps) == len(described["steps"]) - 1
    for step in steps:
        said = run(job, ["sh", "-ec"], step["run"], variables | resolved(step.get("env", {})))
        assert "secret" not in said
    assert_pushed(job, registry, "example/hello:0123abcd")
    assert (job.home / "temporary/auth.json").stat().st_mode & 0o077 == 0
    assert not job.user.leftovers()


@pytest.mark.parametrize("name", [".gitlab-ci.yml", "cached.gitlab-ci.yml"])
def test_a_job_of_gitlab(job: Builder, registry: Registry, name: str) -> None:
    """Its script builds an image, and pushes it with the password of a file; the cache is below the project."""
    [described] = yaml.safe_load(FILES[name]).values()
    auth = job.user.script(json.dumps({"auths": {registry.host: {"auth": "bWU6c2VjcmV0"}}}), "auth.json")
    variables = {
        "CI_PROJECT_DIR": str(job.home), "CI_REGISTRY_IMAGE": f"{registry.host}/hello", "CI_COMMIT_REF_SLUG": "main",
        "REGISTRY_AUTH_FILE": str(auth),
    }  # fmt: skip
    for key, value in described["variables"].items():
        if key != "TMPDIR":  # which the image has
            variables[key] = value.replace("$CI_PROJECT_DIR", variables["CI_PROJECT_DIR"])
    run(job, ["bash", "-eo", "pipefail", "-c"], "\n".join(described["script"]), variables)
    if "cache" in described:
        assert (job.home / described["cache"]["paths"][0]).is_dir()
    else:
        assert_pushed(job, registry, "hello:main")
    assert not job.user.leftovers()


def test_the_image_for_jobs(users: list[User]) -> None:
    """The command makes it of a root filesystem and wheels; in its containers nothing lacks, and layers and images are built."""
    root = users[0]
    with podman_of(root) as podman:
        packages = ("ca-certificates", "fakeroot", "libarchive13", "python3-venv")
        shutil.copy(debian_root("bookworm", *packages), root.home / "debian.tar")
        wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--wheel-dir", root.home / "wheels", ROOT]
        subprocess.run(wheel, check=True, capture_output=True)
        root.script(FILES["ci.toml"], "ci.toml")
        good(root.run([*COMMAND, "make", "ci.toml"]))
        good(podman("load", "-i", root.home / "ci.tar"))
        script = (  # in one container, of which podman makes a copy of all files
            "pwd; rootless-layer doctor --json | tr -d '\\n'; echo; mkdir tree; echo hello > tree/file;"
            " rootless-layer build -q --copy-to-root tree -o base;"
            " rootless-layer build -q --base base --view directory -o layer -- chown 33:44 file;"
            " rootless-layer image -q --base base --layer layer -t hello:1 -o hello.tar;"
            " rootless-layer validate -q hello.tar; rootless-layer diff base layer || true"
        )
        place, doctor, *different = podman.says(NAME, script)
    points = {point["name"]: point["state"] for point in json.loads(doctor)["points"]}
    assert "lacks" not in points.values()
    assert (points["overlay in TMPDIR"], points["user namespaces"]) == ("has", "has")
    assert place == "/builds"
    assert [line.split()[:2] for line in different] == [["~", "/file"]]
    assert_nothing_left(root)
