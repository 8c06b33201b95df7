"""Bills of materials: what is in an image, by layer, in two forms that the specifications' own schemas take."""

from __future__ import annotations

import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest
from helpers.closure_forms import A, B, C, records
from helpers.image_commands import image
from helpers.image_layouts import layout_of, tar_of
from helpers.images import sha256
from helpers.registries import run
from helpers.rpm import header, rpm_database
from helpers.users import User, good

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u4
Provides: libc6-2.36
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Description: library
 of many
 lines

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Pre-Depends: libc6-2.36, dash | missing (>= 1)

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
DASH = """
Package: dash
Status: install ok installed
Architecture: all
Version: 1:0.5.12-2
Depends: libc6:any (>= 2.36)
"""
INSTALLED = """\
C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
L:MIT
p:so:libc.musl-x86_64.so.1=1

P:busybox
V:1.36.1-r5
A:x86_64
o:busybox
D:so:libc.musl-x86_64.so.1 !uclibc
F:bin
R:busybox
a:0:0:755
"""
RELEASE = 'NAME="A system"\nID=debian\nVERSION_ID="12"\n'
CONFIG = {"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09.123456789Z", "rootfs": {"diff_ids": []}}


def bill(user: User, subject: str | Path, *words: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write both forms of a bill, check them against the specifications, and give them."""
    from cyclonedx.schema import SchemaVersion  # each takes long to import, and all processes collect this file
    from cyclonedx.validation.json import JsonStrictValidator
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    good(run(user, "sbom", subject, *words, "-o", user.home / "a.spdx.json"))
    document = parse_file(str(user.home / "a.spdx.json"))
    assert validate_full_spdx_document(document) == []
    text = good(run(user, "sbom", subject, *words, "--format", "cyclonedx")).out
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads((user.home / "a.spdx.json").read_text()), json.loads(text)


def layers_by(spdx: dict[str, Any]) -> dict[str, str]:
    """Give the digest of the layer that has each package, by the package's name."""
    names = {package["SPDXID"]: package["name"] for package in spdx["packages"]}
    rows = [row for row in spdx["relationships"] if row["relationshipType"] == "CONTAINS"]
    return {names[row["relatedSpdxElement"]]: names[row["spdxElementId"]] for row in rows if "Layer" in row["spdxElementId"]}


def needs(spdx: dict[str, Any]) -> set[tuple[str, str]]:
    """Give the names of packages that depend on each other."""
    names = {package["SPDXID"]: package["name"] for package in spdx["packages"]}
    rows = [row for row in spdx["relationships"] if row["relationshipType"] == "DEPENDS_ON"]
    return {(names[row["spdxElementId"]], names[row["relatedSpdxElement"]]) for row in rows}


def urls(cyclonedx: dict[str, Any]) -> dict[str, str]:
    """Give the URL of each component, by its name."""
    return {component["name"]: component["purl"] for component in cyclonedx["components"]}


def test_packages_of_dpkg_come_with_the_layers_that_bring_them(user: User) -> None:
    """A package is of the layer in whose database it stands first, and depends on what its own fields name and is there."""
    below = {"etc/os-release": RELEASE.encode(), "var/lib/dpkg/status": STATUS.encode()}
    above = {
        "var/lib/dpkg/status": (STATUS + DASH).encode(),
        "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\n",
    }
    layers = [tar_of(**below), tar_of(**above), tar_of(nothing=b"")]
    spdx, cyclonedx = bill(user, layout_of(user.home / "image", CONFIG, layers))
    digests = [sha256(layer) for layer in layers]
    assert layers_by(spdx) == {"libc6": digests[0], "bash": digests[0], "dash": digests[1], "tzdata": digests[1]}
    assert needs(spdx) == {("bash", "libc6"), ("bash", "dash"), ("dash", "libc6")}
    assert urls(cyclonedx) == {
        "libc6": "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc",
        "bash": "pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12",
        "dash": "pkg:deb/debian/dash@1:0.5.12-2?arch=all&distro=debian-12",
        "tzdata": "pkg:deb/debian/tzdata@2024a?distro=debian-12",
    }
    assert spdx["creationInfo"]["created"] == cyclonedx["metadata"]["timestamp"] == "2024-05-06T07:08:09Z"
    properties = {one["name"]: {each["name"]: each["value"] for each in one["properties"]} for one in cyclonedx["components"]}
    assert properties["dash"]["rootless-layer:layer:diff-id"] == digests[1]
    assert spdx["packages"][0]["versionInfo"] == cyclonedx["metadata"]["component"]["version"]


def test_a_name_of_many_packages_leads_to_one(user: User) -> None:
    """Of packages that all provide a name whoever needs it depends on one: itself, else one of its own architecture."""
    stanza = "Package: {}\nStatus: install ok installed\nArchitecture: {}\nVersion: 1\nProvides: {}\nDepends: {}\n\n"
    providers = [stanza.format(f"a{number}", "amd64", "thing", "thing") for number in range(20)]
    needing = [stanza.format(f"b{number}", "i386" if number else "amd64", "nothing", "thing | other") for number in range(20)]
    status = "".join([*providers, stanza.format("c", "i386", "thing", "thing, b1"), *needing])
    spdx, _ = bill(user, layout_of(user.home / "image", CONFIG, [tar_of(**{"var/lib/dpkg/status": status.encode()})]))
    assert needs(spdx) == {("b0", "a0"), ("c", "b1"), *((f"b{number}", "c") for number in range(1, 20))}


def test_packages_that_are_gone_are_not_told(user: User) -> None:
    """What counts is the tree that the layers come to: a database that is replaced or removed has none of its packages."""
    layers = [
        tar_of(**{"var/lib/dpkg/status": (STATUS + DASH).encode(), "lib/apk/db/installed": INSTALLED.encode()}),
        tar_of(**{"var/lib/dpkg/status": STATUS.encode(), "lib/apk/db/.wh.installed": b""}),
    ]
    spdx, _ = bill(user, layout_of(user.home / "image", CONFIG, layers))
    assert set(layers_by(spdx)) == {"libc6", "bash"}


def test_packages_of_apk(user: User) -> None:
    """Names that are provided, as those of libraries, are found; conflicts are no dependencies."""
    files = {"usr/lib/apk/db/installed": INSTALLED.encode(), "etc/os-release": b"ID=alpine\nVERSION_ID=3.20.1\n"}
    spdx, cyclonedx = bill(user, layout_of(user.home / "image", CONFIG, [tar_of(**files)]))
    assert needs(spdx) == {("busybox", "musl")}
    assert urls(cyclonedx)["busybox"] == "pkg:apk/alpine/busybox@1.36.1-r5?arch=x86_64&distro=alpine-3.20.1"
    licenses = {one["name"]: one.get("licenses") for one in cyclonedx["components"]}
    assert licenses == {"musl": [{"license": {"name": "MIT"}}], "busybox": None}


def test_packages_of_rpm(user: User) -> None:
    """A database in SQLite is read, whose log is empty; of an older form it is said that nobody read it."""
    glibc: dict[int, str | int] = {273: "ab" * 32, 1000: "glibc", 1001: "2.34", 1002: "100.el9", 1014: "LGPLv2+", 1022: "x86_64"}
    rows = [
        header(glibc),
        header(glibc | {1022: "i686"}),
        header({1000: "dbus", 1001: "1.12", 1002: "8", 1003: 1, 1022: "x86_64"}),
    ]
    rows += [header({1000: "gpg-pubkey", 1001: "8483c65d", 1002: "5ccc5b19"})]
    files = {"var/lib/rpm/rpmdb.sqlite": rpm_database(user.home / "rpm", *rows), "etc/os-release": b"ID=centos\nVERSION_ID=9\n"}
    spdx, cyclonedx = bill(user, layout_of(user.home / "image", CONFIG, [tar_of(**files)]))
    assert sorted(one["purl"] for one in cyclonedx["components"]) == [
        "pkg:rpm/centos/dbus@1.12-8?arch=x86_64&distro=centos-9&epoch=1",
        "pkg:rpm/centos/glibc@2.34-100.el9?arch=i686&distro=centos-9",
        "pkg:rpm/centos/glibc@2.34-100.el9?arch=x86_64&distro=centos-9",
    ]
    assert [one["checksums"][0]["checksumValue"] for one in spdx["packages"] if one["name"] == "glibc"] == ["ab" * 32] * 2
    old = layout_of(user.home / "old", CONFIG, [tar_of(**{"var/lib/rpm/Packages": b"x" * 100})])
    spdx, cyclonedx = bill(user, old)
    assert "var/lib/rpm/Packages" in spdx["creationInfo"]["comment"]
    assert "var/lib/rpm/Packages" in cyclonedx["metadata"]["properties"][0]["value"]
    assert "var/lib/rpm/Packages" in run(user, "sbom", old).err


@pytest.mark.parametrize("data", [b"no database", header({1000: "x"}), b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_database_is_named(user: User, data: bytes) -> None:
    """An error, and no bill."""
    made = layout_of(user.home / "image", CONFIG, [tar_of(**{"var/lib/rpm/rpmdb.sqlite": data})])
    done = run(user, "sbom", made, "-o", user.home / "out")
    assert (done.status, "var/lib/rpm/rpmdb.sqlite" in done.err) == (65, True), done.err
    assert not (user.home / "out").exists()


@pytest.mark.parametrize(
    "made",
    [
        "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS hnum, x AS blob FROM n",
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob AS (zeroblob(900000000)))",
    ],
)
def test_a_database_that_computes_its_rows_is_none(somebody: User, made: str) -> None:
    """What stands in an image neither runs without end nor takes the machine's memory."""
    path = somebody.home / "computed"
    with sqlite3.connect(path) as database:
        database.execute(made)
    database.close()
    image = layout_of(somebody.home / "image", CONFIG, [tar_of(**{"var/lib/rpm/rpmdb.sqlite": path.read_bytes()})])
    done = run(somebody, "sbom", image)
    assert (done.status, "var/lib/rpm/rpmdb.sqlite" in done.err) == (65, True), done.err


def test_a_tag_of_an_rpm_header_is_read_once(somebody: User) -> None:
    """A header that says a tag again and again, before megabytes of data, takes no longer than any other."""
    count = 60_000
    row = struct.pack(">II", count, 20_000_000) + count * struct.pack(">IIiI", 1000, 6, 0, 1) + b"a".ljust(20_000_000, b"\0")
    data = rpm_database(somebody.home / "rpm", row)
    image = layout_of(somebody.home / "image", CONFIG, [tar_of(**{"var/lib/rpm/rpmdb.sqlite": data})])
    assert "pkg:rpm/redhat/a" in good(run(somebody, "sbom", image)).out


def test_ids_are_unique(user: User) -> None:
    """So they are where a name is what another's ID would be made of."""
    status = b"".join(b"Package: %s\n\n" % name for name in (b"a+", b"a-", b"a-..2"))
    image = layout_of(user.home / "image", CONFIG, [tar_of(**{"var/lib/dpkg/status": status})])
    assert len({package["SPDXID"] for package in bill(user, image)[0]["packages"]}) == 5


def test_store_paths_are_packages(user: User) -> None:
    """A store path has a name, a version, the hash of its NAR and what it refers to, as far as a graph is given."""
    layers = [tar_of(**{f"{path[1:]}/bin/x": b"x"}) for path in (A, B, C)]
    made = layout_of(user.home / "image", CONFIG, layers)
    spdx, cyclonedx = bill(user, made)
    assert (layers_by(spdx), needs(spdx)) == ({"a": sha256(layers[0]), "b": sha256(layers[1]), "c": sha256(layers[2])}, set())
    assert urls(cyclonedx)["b"] == f"pkg:nix/b@1.0?hash={B[11:43]}"
    graph = user.home / "graph"
    graph.write_text(records({A: [B], B: [C], C: []}, f"sha256:{'0' * 50}5z", "100"))
    spdx, cyclonedx = bill(user, made, "--closure", graph)
    assert needs(spdx) == {("a", "b"), ("b", "c")}
    hashes = [{"alg": "SHA-256", "content": "bf" + "00" * 31}]  # Nix writes the lowest digits last
    assert [one["hashes"] for one in cyclonedx["components"]] == [hashes] * 3
    refs = {row["ref"]: row.get("dependsOn") for row in cyclonedx["dependencies"] if row["ref"].startswith("/")}
    assert refs == {A: [B], B: [C], C: None}


def test_everybody_writes_the_same(users: list[User], folder: Path) -> None:
    """A bill has no clock and nothing by chance in it, and a layer that is made again as it is read has the same as a stored one."""
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    found = set()
    for user in users:
        for blob in ("stored", "derived"):
            good(user.build("--copy-to-root", folder, "--blob", blob, output=blob))
            good(image(user, "--layer", user.home / blob, "-t", "app:1", output=f"{blob}-image"))
            found |= {
                good(run(user, "sbom", user.home / f"{blob}-image")).out,
                good(run(user, "sbom", user.home / f"{blob}-image")).out,
            }
    [text] = found
    said = json.loads(text)
    assert {"bash", "libc6"} <= {package["name"] for package in said["packages"]}
    assert said["name"] == "docker.io/library/app:1"
    assert good(run(users[0], "sbom", users[0].home / "derived")).out
