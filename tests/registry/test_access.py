"""Who somebody is to a registry, and whom a registry is taken for: passwords, files, helpers and certificates."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.registries import Registry, certificate, docker_registry, password_file, run
from helpers.users import User, good

PAIR = "me:secret"
ENCODED = base64.b64encode(PAIR.encode()).decode()


@pytest.fixture
def closed(user: User) -> Iterator[Registry]:
    """A registry that asks for a password."""
    passwords = user.home / "passwords"
    password_file(passwords, "me", "secret")
    with docker_registry(user, auth={"htpasswd": {"realm": "here", "path": str(passwords)}}) as running:
        yield running


def test_a_password_is_asked_for(user: User, closed: Registry, layout: Path) -> None:
    """Nobody, or somebody with another password, is let in; the message does not repeat it."""
    for words in ([], ["--creds", "me:other-word"], ["--creds", f"elsewhere.example={PAIR}"]):
        done = run(user, "push", layout, closed.name("app:1"), *words)
        assert (done.status, "--creds" in done.err, "other-word" in done.err) == (65, True, False), done.err
    good(run(user, "push", layout, closed.name("app:1"), "--creds", PAIR))
    good(run(user, "pull", closed.name("app:1"), "-o", user.home / "out", "--creds", f"{closed.host}={PAIR}"))


@pytest.mark.parametrize("place", ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "HOME", "DOCKER_CONFIG", "docker", "repository"])
def test_the_files_of_others_are_read(user: User, closed: Registry, layout: Path, place: str) -> None:
    """What `podman login` and `docker login` keep is found where they keep it, for a registry or one of its repositories."""
    path, env = {
        "REGISTRY_AUTH_FILE": (user.home / "mine.json", {"REGISTRY_AUTH_FILE": str(user.home / "mine.json")}),
        "XDG_RUNTIME_DIR": (user.home / "run/containers/auth.json", {"XDG_RUNTIME_DIR": str(user.home / "run")}),
        "HOME": (user.home / ".config/containers/auth.json", {}),
        "DOCKER_CONFIG": (user.home / "d/config.json", {"DOCKER_CONFIG": str(user.home / "d")}),
        "docker": (user.home / ".docker/config.json", {}),
        "repository": (user.home / ".config/containers/auth.json", {}),
    }[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    key = f"{closed.host}/app" if place == "repository" else f"https://{closed.host}/v1/" if place == "docker" else closed.host
    path.write_text(json.dumps({"auths": {key: {"auth": ENCODED}}}))
    good(run(user, "push", layout, closed.name("app:1"), env=env))
    other = run(user, "push", layout, closed.name("other:1"), env=env)
    assert other.status == (65 if place == "repository" else 0)


@pytest.mark.parametrize("said", [{"credsStore": "mine"}, {"credHelpers": {"HOST": "mine"}}])
def test_a_helper_is_asked(user: User, closed: Registry, layout: Path, said: dict[str, object]) -> None:
    """A program docker-credential-NAME is told the registry, and tells the user and the password."""
    programs = user.home / "programs"
    programs.mkdir()
    helper = programs / "docker-credential-mine"
    helper.write_text(
        f'#!/bin/sh\nread -r host\n[ "$1 $host" = "get {closed.host}" ] || {{ echo credentials not found; exit 1; }}\n'
        """echo '{"ServerURL": "x", "Username": "me", "Secret": "secret"}'\n"""
    )
    helper.chmod(0o755)
    (user.home / ".docker").mkdir()
    (user.home / ".docker/config.json").write_text(json.dumps(said).replace("HOST", closed.host))
    path = {"PATH": f"{programs}:{user.environment()['PATH']}"}
    good(run(user, "push", layout, closed.name("app:1"), env=path))
    missing = run(user, "push", layout, closed.name("app:1"))
    assert (missing.status, "docker-credential-mine" in missing.err) == (69, True), missing.err


@pytest.mark.parametrize("text", ["[]", "{", '{"auths": {"HOST": {"auth": "%%%"}}}', '{"credsStore": "../mine"}'])
def test_a_file_that_is_none_is_named(user: User, closed: Registry, layout: Path, text: str) -> None:
    """A file that cannot be read as one of credentials is the error, and not that nobody is let in."""
    path = user.home / "auth.json"
    path.write_text(text.replace("HOST", closed.host))
    done = run(user, "push", layout, closed.name("app:1"), env={"REGISTRY_AUTH_FILE": str(path)})
    assert (done.status, f"{path}: " in done.err) == (65, True), done.err


def test_a_certificate_is_looked_at(user: User, layout: Path) -> None:
    """A registry whose certificate nobody trusts is not spoken to, but where its authority is named, or nobody is to look."""
    key, made = certificate(user.home)
    with docker_registry(user, http={"tls": {"certificate": str(made), "key": str(key)}}) as registry:
        name = registry.name("app:1")
        done = run(user, "push", layout, name)
        assert (done.status, "--ca-file" in done.err) == (73, True), done.err
        good(run(user, "push", layout, name, "--ca-file", made))
        good(run(user, "pull", name, "-o", user.home / "out", "--tls-verify=false"))
        wrong = run(user, "pull", name, "-o", user.home / "other", "--ca-file", user.home / "absent")
        assert (wrong.status, "absent" in wrong.err) == (66, True), wrong.err
        (user.home / "text").write_text("no certificate")
        wrong = run(user, "pull", name, "-o", user.home / "other", "--ca-file", user.home / "text")
        assert (wrong.status, "text" in wrong.err) == (65, True), wrong.err
        assert not (user.home / "other").exists()
