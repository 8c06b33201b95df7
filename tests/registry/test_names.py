"""Names of images in registries, and what a registry asks for, as they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.registry.challenge import Challenge, read_token, token_request
from rootless_layer.registry.credentials import Credentials
from rootless_layer.registry.name import RegistryName, is_loopback

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("debian", "docker.io", "library/debian", "latest", ""),
        ("debian:12", "docker.io", "library/debian", "12", ""),
        ("me/app:1", "docker.io", "me/app", "1", ""),
        ("docker.io/debian", "docker.io", "library/debian", "latest", ""),
        ("index.docker.io/library/debian:12", "docker.io", "library/debian", "12", ""),
        ("quay.io/a/b-c__d.e:V_1.x", "quay.io", "a/b-c__d.e", "V_1.x", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("localhost:5000/app", "localhost:5000", "app", "latest", ""),
        ("host:5000/a/b", "host:5000", "a/b", "latest", ""),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1", ""),
        (f"quay.io/app@{DIGEST}", "quay.io", "app", "", DIGEST),
        (f"quay.io/app:1@{DIGEST}", "quay.io", "app", "1", DIGEST),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, host: str, repository: str, tag: str, digest: str) -> None:
    """Docker Hub is meant where the first part is no host; a digest needs no tag. What is written is read again."""
    name = RegistryName.parse(f"docker://{text}")
    assert (name.host, name.repository, name.tag, name.digest) == (host, repository, tag, digest)
    assert RegistryName.parse(str(name)) == name
    assert name.reference == (digest or tag)
    assert name.address == ("registry-1.docker.io" if host == "docker.io" else host)


@pytest.mark.parametrize(
    "text",
    ["", "App", "a//b", "/a", "a/", "a:", "a:.x", "a b", "a%2fb", "../a", "host:5000/../a", "host:99999/a", "host:port/a", "a@b", "a@sha256:0",
     f"a@{DIGEST}0", "a@sha256:../../etc/passwd", "me:secret@host.example/a", "host.example/a?b", "host.example/a#b", "host.example\\a/b",
     "-host.example/a", "a\n", "[::1/a", f"{'a' * 256}", f"a.{'b' * 64}.example/a", "[:::::]/a"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    """Escapes, paths, passwords, queries, and what the grammar does not have."""
    with pytest.raises(InputError, match="is not the name of an image in a registry"):
        RegistryName.parse(f"docker://{text}")


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    """What is taken holds nothing that could lead elsewhere in an address."""
    try:
        name = RegistryName.parse(f"docker://{text}")
    except InputError:
        return
    assert not set(f"{name.host}/{name.repository}/{name.reference}") & set("?#%@\\ \n")
    assert ".." not in name.repository.split("/")


def test_this_machine_is_known() -> None:
    """Only what is this machine by its own word may be spoken to without TLS."""
    assert all(map(is_loopback, ("localhost", "localhost:5000", "127.0.0.1:1", "127.1.2.3", "[::1]:5000")))
    assert not any(map(is_loopback, ("localhost.example", "128.0.0.1", "example.com:80", "127.0.0.1.example", "[::2]:1")))


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ('Basic realm="x"', Challenge("basic", "x")),
        ("basic", Challenge("basic")),
        ('Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"', Challenge("bearer", "https://a/t", "s")),
        ('bearer service=s, realm="https://a/t"', Challenge("bearer", "https://a/t", "s")),
        ('Basic realm="x", Bearer realm="https://a/t",service="s"', Challenge("bearer", "https://a/t", "s")),
        ('Bearer realm="https://a/t", Basic realm="x"', Challenge("bearer", "https://a/t")),
        (r'Basic realm="a\"b"', Challenge("basic", 'a"b')),
        ("Digest realm=x", None),
        ("", None),
    ],
)
def test_a_challenge_is_read(header: str, wanted: Challenge | None) -> None:
    """A token counts more than a password, wherever it stands; other schemes are none."""
    assert Challenge.parse(header) == wanted


def test_a_token_is_asked_for() -> None:
    """By a GET with a password, by a POST with an identity token; and nothing secret goes without TLS or to no address."""
    challenge, scopes = Challenge("bearer", "https://a.example/t?x=1", "s p"), ["repository:a:pull"]
    asked = token_request(challenge, scopes, Credentials("me", "secret"), plain=False)
    assert (asked.method, asked.address) == ("GET", "https://a.example/t?x=1&service=s+p&scope=repository%3Aa%3Apull&account=me")
    assert asked.headers == {"Authorization": "Basic bWU6c2VjcmV0"}
    asked = token_request(challenge, scopes, Credentials("<token>", "refresh", is_token=True), plain=False)
    assert (asked.method, asked.address, "Authorization" in asked.headers) == ("POST", challenge.realm, False)
    assert asked.body is not None
    assert b"refresh_token=refresh" in asked.body
    for realm in ("http://a.example/t", "file:///etc/passwd", "", "https://", "https://[", "https://a..b/", "https://a:99999/"):
        with pytest.raises(InputError):
            token_request(Challenge("bearer", realm), scopes, Credentials("me", "secret"), plain=False)


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: b"}', b'{"token": "\xc3\xa4"}', b"\xff"]
)
def test_what_is_no_token_is_refused(answer: bytes) -> None:
    """A token goes into a header as it is."""
    with pytest.raises(InputError, match="no token"):
        read_token(answer)
