"""``registries.conf``: mirrors, other locations, blocked registries and those without TLS, as podman and skopeo read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.image_commands import skopeo
from helpers.registries import Registry, run
from helpers.serving import Serving, serving
from helpers.users import User, good

from rootless_layer.errors import InputError
from rootless_layer.registry.conf import endpoints, written_to
from rootless_layer.registry.name import RegistryName

RULES = """\
unqualified-search-registries = ["example.com"]
short-name-mode = "enforcing"
[aliases]
"debian" = "quay.io/other/debian"
[[registry]]
location = "plain.example"
insecure = true
[[registry]]
prefix = "docker.io"
location = "hub.example:5000/copies"
[[registry]]
prefix = "docker.io/team"
location = "docker.io/team"
[[registry.mirror]]
location = "near.example/team"
insecure = true
[[registry.mirror]]
location = "digests.example/team"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example/team"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.blocked.example"
blocked = true
[[registry]]
prefix = "*.wild.example:443"
location = "tame.example"
"""
DIGEST = "sha256:" + 64 * "0"


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, str]:
    """The variable that names a file with these rules."""
    (tmp_path / "registries.conf").write_text(RULES)
    return {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("debian:12", ["hub.example:5000/copies/library/debian:12"]),
        ("docker.io/library/debian:12", ["hub.example:5000/copies/library/debian:12"]),
        ("team/app:1", ["near.example/team/app:1", "tags.example/team/app:1", "docker.io/team/app:1"]),
        (f"team/app@{DIGEST}", [f"near.example/team/app@{DIGEST}", f"digests.example/team/app@{DIGEST}", f"docker.io/team/app@{DIGEST}"]),
        ("teams/app:1", ["hub.example:5000/copies/teams/app:1"]),
        ("plain.example/app:1", ["plain.example/app:1"]),
        ("plain.example:5000/app:1", ["plain.example:5000/app:1"]),
        ("quay.io/app:1", ["quay.io/app:1"]),
    ],
)  # fmt: skip
def test_where_an_image_is_looked_for(rules: dict[str, str], name: str, places: list[str]) -> None:
    """The longest prefix counts, which ends at a part of the name; mirrors come first, each for the names that it is for."""
    parsed = RegistryName.parse(f"docker://{name}")
    found = endpoints(parsed, rules)
    assert [str(each.name) for each in found] == [f"docker://{place}" for place in places]
    assert [each.insecure for each in found] == [place.startswith(("near.example/", "plain.example")) for place in places]
    assert written_to(parsed, rules).name == parsed


@pytest.mark.parametrize("name", ["docker://a.blocked.example/app:1", "docker://a.b.blocked.example:5000/app:1"])
def test_what_is_blocked(rules: dict[str, str], name: str) -> None:
    """A registry that the file blocks is neither read nor written; the message names the file."""
    for asked in (endpoints, written_to):
        with pytest.raises(InputError, match=rules["CONTAINERS_REGISTRIES_CONF"]):
            asked(RegistryName.parse(name), rules)
    assert endpoints(RegistryName.parse("docker://blocked.example/app:1"), rules)


def test_which_files_are_read(tmp_path: Path) -> None:
    """The user's own file is read, and what lies beside it in ``registries.conf.d``: the later one of two counts."""
    folder = tmp_path / ".config/containers"
    (folder / "registries.conf.d").mkdir(parents=True)
    rule = '[[registry]]\nprefix = "a.example"\nlocation = "{}.example"\n'
    name, environment = RegistryName.parse("docker://a.example/app:1"), {"HOME": str(tmp_path)}
    for file, location in (("registries.conf", "b"), ("registries.conf.d/1.conf", "c"), ("registries.conf.d/2.conf", "d")):
        (folder / file).write_text(rule.format(location))
        [found] = endpoints(name, environment)
        assert found.name.host == f"{location}.example"
    (folder / "registries.conf").write_text('[registries.block]\nregistries = ["old.example"]\n')
    with pytest.raises(InputError, match=r"old\.example"):
        endpoints(RegistryName.parse("docker://old.example/app:1"), environment)


@pytest.mark.parametrize(
    "text",
    ["[[registry", "registry = 1", "[[registry]]\nblocked = true", '[[registry]]\nlocation = "A b"', "\xff", "registries = 1",
     "[[registry]]\nlocation = 1", '[[registry]]\nlocation = "a.example"\nmirror = [1]',
     pytest.param("a = " + 50_000 * "[" + 50_000 * "]", id="nested"), "[registries.insecure]\nregistries = [1]"],
)  # fmt: skip
def test_what_is_no_such_file(user: User, text: str) -> None:
    """A file that cannot be read is named, and nothing is asked."""
    path = user.home / "registries.conf"
    path.write_bytes(text.encode("latin-1"))
    (user.home / "auth.json").write_text("{}")
    for named, status in ((path, 65), (user.home / "none", 66)):
        env = {"CONTAINERS_REGISTRIES_CONF": str(named)}
        done = run(user, "inspect", "docker://127.0.0.1:1/A" if text == "A" else "docker://127.0.0.1:1/app:1", env=env)
        if '"A b"' in text and named == path:  # is for no name that there is
            assert done.status == 66
        else:
            assert (done.status, str(named) in done.err) == (status, True), done.err


def test_a_mirror_is_asked_first(user: User, registry: Registry, layout: Path) -> None:
    """What a mirror has is pulled from there; what it has not, or where it does not answer, comes from the registry itself."""
    good(run(user, "push", layout, registry.name("team/app:1")))
    with serving(user, f"app:1={layout}") as served:
        _mirrored(user, registry, served)
        before = len(registry.requests())
        good(run(user, "pull", registry.name("team/app:1"), "-o", user.home / "near"))
        assert len(registry.requests()) == before
        good(run(user, "push", layout, registry.name("team/other:1")))
        good(run(user, "pull", registry.name("team/other:1"), "-o", user.home / "far"))
    good(run(user, "pull", registry.name("team/app:1"), "-o", user.home / "again"))
    assert len(registry.requests()) > before
    # skopeo reads the file in the same way.
    good(skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name("team/app:1")))


def _mirrored(user: User, registry: Registry, served: Serving) -> None:
    """Write the user's own file, by which the repositories below ``team`` have a mirror, and one that is not there."""
    folder = user.home / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{registry.host}/team"\n'
        f'[[registry.mirror]]\nlocation = "127.0.0.1:1"\n[[registry.mirror]]\nlocation = "{served.host}"\ninsecure = true\n'
    )
