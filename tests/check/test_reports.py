"""What images and layers hold, told and compared: the trees are those that other programs unpack."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_said
from helpers.effort import examples
from helpers.images import DIRECTORY, FILE, LINK, LOWER, SYMBOLIC, UPPER, Made, docker_archive, put, sha256, tar
from helpers.place import PLACE, remove
from helpers.users import COMMAND, User
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rootless_layer.check.validate import validate
from rootless_layer.image.read import read_images
from rootless_layer.layer.contents import apply_layers, read_contents


def inspected(user: User, subject: str | Path, *words: str) -> list[dict[str, Any]]:
    """Run ``rootless-layer inspect --json``."""
    done = user.run([*COMMAND, "inspect", "--json", subject, *words])
    assert done.status == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def compared(user: User, one: Path, other: Path, *words: str) -> dict[str, Any]:
    """Run ``rootless-layer diff --json``; the status says the same as the output."""
    done = user.run([*COMMAND, "diff", "--json", one, other, "--platform", "linux/amd64", *words])
    assert done.err == ""
    found: dict[str, Any] = json.loads(done.out)
    assert done.status == (0 if found["equal"] else 1)
    return found


# --- inspect ---


def test_what_an_image_is(user: User, folder: Path) -> None:
    """An image's names, platform, digests and config are those that stand in it, though another program wrote them."""
    name = put("manifests", 0, "annotations", to={"org.opencontainers.image.ref.name": "a:1"})
    made = Made(folder / "layout", change={"index": name}).write()
    index = json.loads((made.folder / "index.json").read_bytes())
    (one,) = inspected(user, made.folder)
    assert one["manifestDigest"] == index["manifests"][0]["digest"]
    manifest = json.loads((made.folder / "blobs/sha256" / one["manifestDigest"][7:]).read_bytes())
    assert one["configDigest"] == manifest["config"]["digest"]
    assert (one["kind"], one["names"], one["platform"]) == ("image", ["a:1"], "linux/amd64")
    assert one["config"] == {"Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}}
    for layer, stored, plain in zip(one["layers"], manifest["layers"], (LOWER, UPPER), strict=True):
        assert {key: layer[key] for key in stored} == stored
        assert (layer["diffId"], layer["uncompressedSize"]) == (sha256(plain), len(plain))
    assert inspected(user, f"{made.folder}#a:1") == [one]
    assert_said(user.run([*COMMAND, "inspect", f"{made.folder}#b:1"]), 65, "has no image of the name b:1")
    archive = made.archive(folder / "archive.tar")
    subprocess.run(["gzip", "-k", archive], check=True)
    assert inspected(user, archive) == inspected(user, f"{archive}.gz") == [one]
    assert user.leftovers() == []


def test_skopeo_knows_it_by_the_same_digest(user: User, folder: Path) -> None:
    """The digest is the one by which other programs know the image."""
    made = Made(folder / "layout").write()
    said = user.run(["skopeo", "--insecure-policy", "--tmpdir", user.home / "tmp", "inspect", f"oci:{made.folder}"])
    assert said.status == 0, said.err
    assert json.loads(said.out)["Digest"] == inspected(user, made.folder)[0]["manifestDigest"]


def test_a_docker_archive_has_no_manifest(user: User, folder: Path) -> None:
    """A docker-archive is told as well; it has no manifest whose digest could be told."""
    (one,) = inspected(user, docker_archive(folder / "docker.tar", lambda _: None))
    assert one["manifestDigest"] is None
    assert [layer["diffId"] for layer in one["layers"]] == [sha256(LOWER), sha256(UPPER)]


def test_what_each_layer_does(user: User, folder: Path) -> None:
    """Of each layer is told what it adds, changes, has again as it was, and removes, by whatever means."""
    upper = tar(
        ("etc", DIRECTORY), ("etc/a", FILE, b"two"), ("etc/c", SYMBOLIC, "a"), (".wh.old", FILE), ("gone", FILE),
        ("sub/new", FILE), ("sub/.wh..wh..opq", FILE),
    )  # fmt: skip
    lower = LOWER[:-1024] + tar(
        ("gone", DIRECTORY), ("gone/x", FILE), ("sub", DIRECTORY), ("sub/y", DIRECTORY), ("sub/y/z", FILE)
    )
    (one,) = inspected(user, Made(folder / "layout", [lower, upper]).write().folder, "--list")
    first, second = one["layers"]
    assert [first[key] for key in ("entries", "added", "changed", "same", "removed")] == [10, 10, 0, 0, 0]
    assert {row["path"]: row["change"] for row in second["list"]} == {
        "/etc": "same", "/etc/a": "changed", "/etc/c": "same", "/old": "removed", "/gone": "changed", "/gone/x": "removed",
        "/sub/new": "added", "/sub/y": "removed", "/sub/y/z": "removed",
    }  # fmt: skip
    assert [second[key] for key in ("entries", "added", "changed", "same", "removed")] == [7, 1, 2, 2, 4]
    a = next(row for row in second["list"] if row["path"] == "/etc/a")
    assert a == {"path": "/etc/a", "change": "changed", "mode": "100644", "uid": 0, "gid": 0, "mtime": 1, "size": 3}
    text = user.run([*COMMAND, "inspect", "--list", folder / "layout"]).out
    assert "  entries    7: 1 added, 2 changed, 2 the same, 4 removed\n" in text
    assert "  ~ -rw-r--r--       0:0          3 /etc/a\n" in text
    assert "  - /old\n" in text


def test_data_that_stands_twice(user: User, folder: Path) -> None:
    """Copies within a layer and across layers are told with what they waste; hard links and empty files waste nothing."""
    lower = tar(
        ("a", FILE, b"x" * 100), ("b", FILE, b"x" * 100), ("c", LINK, "a"), ("e", FILE), ("f", FILE), ("g", FILE, b"y" * 7)
    )
    upper = tar(("a", FILE, b"x" * 100, {"mode": 0o600}), ("h", FILE, b"y" * 7), ("i", FILE, b"z"))
    (one,) = inspected(user, Made(folder / "layout", [lower, upper]).write().folder)
    assert one["wasted"] == {"within": 100, "across": 107}
    assert [(copy["size"], copy["wasted"], copy["digest"]) for copy in one["copies"]] == [
        (100, 200, sha256(b"x" * 100)),
        (7, 7, sha256(b"y" * 7)),
    ]
    places = [{"layer": 0, "path": "/a"}, {"layer": 0, "path": "/b"}, {"layer": 1, "path": "/a"}]
    assert one["copies"][0]["places"] == places
    text = user.run([*COMMAND, "inspect", folder / "layout"]).out
    assert "data twice   100 bytes within a layer, 107 bytes across layers\n" in text


def test_a_layers_directory(user: User) -> None:
    """A layer's directory, stored or derived, is told as a layer: every entry with its owner; its data is there once."""
    tree = user.home / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/a").write_text("a" * 9)
    os.symlink("a", tree / "d/l")
    reports = []
    for blob in ("stored", "derived"):
        layer = user.build("--copy-to-root", tree, "--uid", "7", "--blob", blob, "--compression", "zstd", output=blob).layer
        (one,) = inspected(user, user.home / blob, "--list")
        assert (one["kind"], one["copies"], one["wasted"]) == ("layer", [], {"within": 0, "across": 0})
        assert {key: one["layers"][0][key] for key in ("digest", "size", "diffId", "uncompressedSize")} == {
            key: layer[key] for key in ("digest", "size", "diffId", "uncompressedSize")
        }
        assert {row["path"]: row["uid"] for row in one["layers"][0]["list"]} == dict.fromkeys(["/d", "/d/a", "/d/l"], 7)
        reports.append(one)
    assert reports[0] == reports[1]


def test_names_do_no_harm_to_a_terminal(user: User, folder: Path) -> None:
    """What an image says is shown escaped: no name of a file, nor of a person, reaches the terminal as it is."""
    change = {"config": put("author", to="\x1b[2J")}
    made = Made(folder / "layout", [tar(("\x1b[31mred\n", FILE))], change).write()
    for words in (["inspect", "--list"], ["inspect", "--list", "--json"], ["validate"]):
        done = user.run([*COMMAND, *words, made.folder])
        assert done.status == 0
        assert "\x1b" not in done.out + done.err
        assert "red\n" not in done.out + done.err


@pytest.mark.parametrize("command", ["inspect", "diff"])
def test_what_is_damaged_cannot_be_told(user: User, folder: Path, command: str) -> None:
    """A layer that is not what its digest says, or that leaves the root, is an error of status 65 or 66 that names it."""
    made = Made(folder / "layout").write()
    made.layer(1).write_bytes(made.layer(1).read_bytes()[:-20] + bytes(20))
    bad = Made(folder / "bad", [tar(("../x", FILE))]).write()
    platform = ["--platform", "linux/amd64"] if command == "diff" else []
    for path, word in ((made.folder, made.layer(1).name), (bad.folder, "leaves the root")):
        words = [path, path] if command == "diff" else [path]
        done = user.run([*COMMAND, command, *words, *platform])
        assert done.status in {65, 66}
        assert_said(done, done.status, word)
        assert done.out == ""


def test_a_reader_that_goes_away(user: User, folder: Path) -> None:
    """``inspect | head`` ends quietly."""
    made = Made(folder / "layout", [tar(*((f"file-{n}", FILE) for n in range(20000)))]).write()
    line = 'set -o pipefail; "$@" inspect --list "$LAYOUT" | head -n 1; echo ${PIPESTATUS[0]}'
    done = user.run(["bash", "-c", line, "-", *COMMAND], env={"LAYOUT": str(made.folder)})
    assert done.err == ""
    assert done.out.splitlines()[-1] == "141"


# --- diff ---

A = ("a", FILE, b"one")
DIFFERENT: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "data": (("a", FILE, b"two"), {"data": [sha256(b"one"), sha256(b"two")]}),
    "size": (("a", FILE, b"three"), {"size": [3, 5], "data": [sha256(b"one"), sha256(b"three")]}),
    "mode": (("a", FILE, b"one", {"mode": 0o4755}), {"mode": ["0644", "4755"]}),
    "owner": (("a", FILE, b"one", {"uid": 3, "gid": 4}), {"owner": ["0:0", "3:4"]}),
    "time": (("a", FILE, b"one", {"mtime": 5}), {"mtime": [1, 5]}),
    "xattrs": (("a", FILE, b"one", {"pax_headers": {"SCHILY.xattr.user.a": "b"}}), {"xattrs": [{}, {"user.a": "62"}]}),
    "type": (("a", SYMBOLIC, "b"), {"type": ["file", "symbolic link"]}),
    "a directory": (("a", DIRECTORY), {"type": ["file", "directory"], "mode": ["0644", "0755"]}),
    "a device": (("a", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}), {"type": ["file", "character device"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_difference_is_told(user: User, folder: Path, name: str) -> None:
    """What differs of a path is named, with what it is on either side; the status is 1."""
    other, expected = DIFFERENT[name]
    one, two = (Made(folder / str(n), [tar(member)]).write().folder for n, member in enumerate((A, other)))
    assert compared(user, one, two) == {
        "version": 1, "equal": False, "onlyInA": [], "onlyInB": [], "changed": [{"path": "/a", "differences": expected}],
    }  # fmt: skip
    line = user.run([*COMMAND, "diff", one, two, "--platform", "linux/amd64"]).out
    assert line.startswith("~ /a  ")
    assert all(word in line for word in expected)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("s", SYMBOLIC, "a"), ("s", SYMBOLIC, "b"), {"target": ["a", "b"]}),
        (("d", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}), ("d", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 5}),
         {"device": ["1,3", "1,5"]}),
    ],
)  # fmt: skip
def test_targets_and_devices(
    user: User, folder: Path, one: tuple[Any, ...], other: tuple[Any, ...], expected: dict[str, Any]
) -> None:
    """What a link points to, and which device one is, are compared."""
    left, right = (Made(folder / str(n), [tar(member)]).write().folder for n, member in enumerate((one, other)))
    assert [change["differences"] for change in compared(user, left, right)["changed"]] == [expected]


def test_what_only_one_has(user: User, folder: Path) -> None:
    """What only one has is told, in the order of the paths; --ignore-times leaves out times alone."""
    one = Made(folder / "one", [tar(A, ("b", FILE), ("d", FILE, b"", {"mtime": 9}))]).write().folder
    two = Made(folder / "two", [tar(A, ("c", FILE), ("d", FILE))]).write().folder
    done = user.run([*COMMAND, "diff", one, two, "--platform", "linux/amd64"])
    assert (done.status, done.out) == (1, "- /b\n+ /c\n~ /d  mtime 9 → 1\n")
    found = compared(user, one, two, "--ignore-times")
    assert (found["onlyInA"], found["onlyInB"], found["changed"]) == (["/b"], ["/c"], [])


def test_how_files_got_there_does_not_matter(user: User, folder: Path) -> None:
    """The same tree is equal, from one layer or several, with the links the other way around, compressed or not."""
    one = tar(("a", FILE, b"one"), ("b", LINK, "a"), ("d", DIRECTORY), ("d/x", FILE))
    several = [
        tar(("b", FILE, b"one"), ("c", FILE), ("d", DIRECTORY, b"", {"mode": 0o700}), ("d/y", FILE)),
        tar(("d", DIRECTORY), ("d/x", FILE), ("d/.wh..wh..opq", FILE), ("a", LINK, "b"), (".wh.c", FILE)),
    ]
    left = Made(folder / "one", [one], stored=lambda data: data, media_type="application/vnd.oci.image.layer.v1.tar").write()
    right = Made(folder / "two", several).write()
    assert compared(user, left.folder, right.folder)["equal"]
    apart = tar(("a", FILE, b"one"), ("b", FILE, b"one"), ("d", DIRECTORY), ("d/x", FILE))
    found = compared(user, left.folder, Made(folder / "apart", [apart]).write().folder)
    assert found["changed"] == [{"path": "/b", "differences": {"link": ["/a", None]}}]


def test_layers_and_images_together(user: User) -> None:
    """A layer's directory is compared with an image of it, in every format; with another layer on top it differs."""
    for name in ("lower", "upper"):
        (user.home / f"{name}-tree").mkdir()
        (user.home / f"{name}-tree" / name).write_text(name)
        assert user.build("--copy-to-root", user.home / f"{name}-tree", output=name).status == 0
    layer = ["--layer", user.home / "lower"]
    for kind in ("layout", "archive", "docker-archive"):
        assert user.run([*COMMAND, "image", *layer, "-f", kind, "-o", user.home / kind]).status == 0
        assert user.run([*COMMAND, "diff", user.home / "lower", user.home / kind]).status == 0
    assert user.run([*COMMAND, "image", *layer, "--layer", user.home / "upper", "-o", user.home / "both"]).status == 0
    done = user.run([*COMMAND, "diff", user.home / "both", user.home / "archive"])
    assert (done.status, done.out) == (1, "- /upper\n")


def test_what_cannot_be_compared(user: User, folder: Path) -> None:
    """What is no image, or has none for the platform, ends with a status above 1."""
    made = Made(folder / "layout").write()
    assert_said(user.run([*COMMAND, "diff", made.folder, folder / "absent", "--platform", "linux/amd64"]), 66, "absent")
    assert_said(
        user.run([*COMMAND, "diff", made.folder, made.folder, "--platform", "linux/s390x"]), 65, "no image for linux/s390x"
    )
    assert user.run([*COMMAND, "diff", made.folder]).status == 2


# --- the trees are those that others unpack ---

NAMES = ["a", "a/a", "a/a/a", "a/b", "b", "b/a"]
KINDS = ["file", "file", "file", "dir", "link", "hard", "gone", "emptied"]
Row = tuple[str, str, int]


@st.composite
def drawn(draw: st.DrawFn) -> list[list[Row]]:
    """Draw layers of few names, each with a kind and a number: what has something below it is a directory."""
    made = []
    for _ in range(draw(st.integers(2, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
        above = {name.rpartition("/")[0] for name in names} | {name.partition("/")[0] for name in names if "/" in name}
        rows = []
        for name in sorted({*names, *above} - {""}):
            kind = "dir" if name in above else draw(st.sampled_from(KINDS))
            rows.append((name, kind, draw(st.integers(0, 3))))
        made.append(rows)
    return made


def layer_of(rows: list[Row]) -> bytes:
    """Make a layer: whiteouts come before what is there instead, opaque ones and links behind all else."""
    gone, plain, late = [], [], []
    for name, kind, number in rows:
        above, slash, last = name.rpartition("/")
        header = {"mode": 0o600 + number, "uid": number, "mtime": 10 + number}
        if kind == "file":
            plain.append((name, FILE, b"x" * number, header))
        elif kind == "dir":
            plain.append((name, DIRECTORY, b"", {"mode": 0o700 + number, "uid": number}))
        elif kind == "link":
            plain.append((name, SYMBOLIC, f"to-{number}"))
        elif kind == "hard":
            late.append((name, LINK, NAMES[number], header))
        elif kind == "gone":
            gone.append((f"{above}{slash}.wh.{last}", FILE))
        else:
            plain.append((name, DIRECTORY))
            late.append((f"{name}/.wh..wh..opq", FILE))
    return tar(*gone, *plain, *late)


def ours(layout: Path) -> dict[str, tuple[Any, ...]]:
    """Tell the tree that we merge."""
    (stored,) = read_images(str(layout), lambda: "")
    tree = apply_layers(map(read_contents, stored.image.layers))
    told = {}
    for path, member in tree.items():
        entry = member.entry
        names = sorted(other for other, one in tree.items() if one is member) if entry.is_regular else []
        mode = stat.S_IFMT(entry.mode) if entry.target is not None else entry.mode
        time = entry.mtime if entry.is_regular else 0
        told[os.fsdecode(path)] = (mode, entry.uid, entry.gid, time, entry.target or b"", member.digest, names)
    return told


def on_disk(root: Path) -> dict[str, tuple[Any, ...]]:
    """Tell a tree on disk in the same way."""
    paths = [os.path.relpath(os.path.join(here, name), root) for here, dirs, files in os.walk(root) for name in (*dirs, *files)]
    inodes: dict[int, list[bytes]] = {}
    for path in paths:
        inodes.setdefault(os.lstat(root / path).st_ino, []).append(os.fsencode(path))
    told: dict[str, tuple[Any, ...]] = {}
    for path in (".", *paths):
        status = os.lstat(root / path)
        regular, link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        told[path if path != "." else ""] = (
            stat.S_IFMT(status.st_mode) if link else status.st_mode, status.st_uid, status.st_gid,
            int(status.st_mtime) if regular else 0, os.fsencode(os.readlink(root / path)) if link else b"",
            f"sha256:{hashlib.sha256((root / path).read_bytes()).hexdigest()}" if regular else "",
            sorted(inodes[status.st_ino]) if regular else [],
        )  # fmt: skip
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are unpacked by root alone")
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(layers=drawn())
def test_umoci_unpacks_the_same_tree(shared: Path, layers: list[list[Row]]) -> None:
    """What validate passes, umoci unpacks to the tree that inspect and diff tell of."""
    with tempfile.TemporaryDirectory(dir=shared) as name:
        name_it = put("manifests", 0, "annotations", to={"org.opencontainers.image.ref.name": "x"})
        made = Made(Path(name, "layout"), list(map(layer_of, layers)), {"index": name_it}).write()
        findings = validate(str(made.folder), lambda: "")
        assume(findings.valid and not any("some readers refuse" in str(found) for found in (*findings.notes, *findings.unusual)))
        bundle = Path(name, "bundle")
        command = ["umoci", "unpack", "--image", f"{made.folder}:x", bundle]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found, expected = ours(made.folder), on_disk(bundle / "rootfs")
        del found[""], expected[""]  # umoci's own root has a mode of its own where no layer says it
        assert found == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="buildah mounts as root")
def test_buildahs_images_are_valid(users: list[User], folder: Path) -> None:
    """An image that buildah made, with whiteouts, is valid, and each layer is told as what was done."""
    user = users[0]
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])
    script = """\
set -e
b() { buildah --root "$STORAGE/root" --runroot "$STORAGE/run" --storage-driver vfs "$@"; }
first=$(b from scratch); root=$(b mount $first); mkdir $root/d; echo 1 > $root/d/a; echo 2 > $root/b; b umount $first >&2
b commit -q $first one >&2
second=$(b from one); root=$(b mount $second); rm -r $root/d/a $root/b; echo 3 > $root/c; chown 7 $root/c; b umount $second >&2
b commit -q $second "oci:$OUT:two" >&2
b rm --all >&2; b rmi --all --force >&2
"""
    try:
        out = folder / "out"
        done = user.run(["bash", "-c", script], env={"STORAGE": storage, "OUT": str(out), "BUILDAH_ISOLATION": "chroot"})
        assert done.status == 0, done.err
        valid = user.run([*COMMAND, "validate", out])
        assert (valid.status, valid.err) == (0, "")
        (one,) = inspected(user, out, "--list")
        done_to = {row["path"]: row["change"] for row in one["layers"][1]["list"]}
        assert [done_to.get(path) for path in ("/d/a", "/b", "/c")] == ["removed", "removed", "added"]
    finally:
        remove(Path(storage))
