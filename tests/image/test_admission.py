"""One piece says what a valid image is: whatever is written is valid, and what a layer hides by accident is said."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import zstandard
from helpers.aftermath import assert_said
from helpers.effort import examples
from helpers.images import BAD_LAYERS, DIRECTORY, FILE, LAYER, LOWER, ODD_LAYERS, SYMBOLIC, UPPER, Made, no_spool, notes, tar
from helpers.users import COMMAND, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, build_layer
from rootless_layer.check.inspect import inspect
from rootless_layer.check.validate import validate
from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.image.admission import admit
from rootless_layer.image.image import Image
from rootless_layer.image.read import NamedImage, read_images
from rootless_layer.image.write import write_images
from rootless_layer.layer.attributes import unsettable
from rootless_layer.layer.blob import LayerBlob, open_layer
from rootless_layer.oci.config import check_config, exposed, problems, word_problem
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import is_reference, path_and_name, tag_of
from rootless_layer.tree.hiding import unusual
from rootless_layer.tree.tree import Entry

# --- properties, names, platforms ---

RIGHT: dict[str, list[Any]] = {
    "User": ["", "0", "root", "33:44", "app:staff", "2147483647", "NT AUTHORITY\\SYSTEM"],
    "ExposedPorts": [{"80": {}}, {"1/tcp": {}, "65535/udp": {}, "9/sctp": {}}, {"8000-8010/tcp": {}}],
    "Env": [["A=b", "B=", "C=d=e", "a b=c"], []],
    "Volumes": [{"/data": {}}, {"C:\\data": {}}],
    "WorkingDir": ["", "/", "/srv/app", "C:\\app"],
    "StopSignal": ["", "SIGTERM", "term", "KILL", "9", "64", "SIGRTMIN", "SIGRTMIN+3", "RTMAX-14"],
    "Labels": [{"a": None}, {"a": "", "org.example/x": "\n"}],
    "Healthcheck": [{"Test": ["NONE"]}, {"Test": ["CMD", "x"], "Interval": 1_000_000_000, "Retries": 3}],
    "Cmd": [[], ["a b"], None],
}
WRONG: dict[str, list[Any]] = {
    "User": [0, "a b", "a:b:c", "a\nb", "2147483648", "a\0"],
    "ExposedPorts": [
        {"abc": {}},
        {"0/tcp": {}},
        {"65536/tcp": {}},
        {"99999": {}},
        {"80/icmp": {}},
        {"9-8/tcp": {}},
        {"-1": {}},
        {"": {}},
        {"90-90/tcp": {}},
    ],
    "Env": [["A"], ["=b"], [""], ["A=\0"], "A=b"],
    "Volumes": [{"data": {}}, {"/": {}}, {"": {}}, {"./x": {}}],
    "WorkingDir": ["srv", ".", "./x", "/a\0"],
    "StopSignal": ["SIGFOO", "0", "65", "-9", "SIGRTMIN+16", "RTMAX-15", "SIG", "٩", "SIGUNUSED"],
    "Labels": [{"": "x"}, {"a": 1}],
    "Healthcheck": [{"Test": "x"}, {"Test": [1]}, {"Interval": "1s"}, {"interval": 1}, {"Retries": True}],
    "Memory": [2**63, 1.5, True],
    "Cmd": ["a", [1], ["\0"], ["\ud800"]],
    "Unknown": [1],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_a_property_may_be(name: str) -> None:
    """What docker and podman run is taken."""
    assert [problems(name, value) for value in RIGHT[name]] == [[] for _ in RIGHT[name]]


@pytest.mark.parametrize("name", WRONG)
def test_what_a_property_may_not_be(name: str) -> None:
    """What no engine could run is a problem that names the property, one for each value."""
    for value in WRONG[name]:
        [problem] = problems(name, value)
        assert name in problem


def test_a_member_that_engines_pass_over() -> None:
    """Whoever asks for a member that there is not is told so; an image that has one runs, so that it is a note there."""
    given = {"Healthcheck": {"Test": ["NONE"], "Intervall": 1}}
    with pytest.raises(InputError, match="no 'Intervall': it has Test, Interval"):
        check_config(given)
    assert problems("Healthcheck", given["Healthcheck"]) == []


def test_ports_are_written_as_a_dockerfile_has_them() -> None:
    """A port alone is TCP, a range is each of its ports, and what is none stays as it is, to be refused."""
    given_ = exposed(["80", "053/UDP", "8000-8002/tcp", "x"])
    assert list(given_) == ["80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp", "x"]


def test_one_word_has_no_blanks() -> None:
    """A line for a shell, given as one word, would be the name of a program: the message has both lists that may be meant."""
    assert word_problem("redis-server") == ""
    for text in ("echo hi there", "a\tb", " a", ""):
        assert "[" in word_problem(text)
    said = word_problem("echo 'hi there' 1")
    assert said.index('["echo", "hi there", "1"]') < said.index('["/bin/sh", "-c", ')
    assert all("for a program" not in word_problem(text) for text in ("a | b", "echo $HOME", "it's here"))


NAMES = {
    "a": "a:latest", "a/b:1": "a/b:1", "registry.example:5000/a/b_c__d--e.f:v1.0": None, "localhost/a:1": None,
    "Registry.Example/a:1": None, "UPPER:5000/a:1": None, "a:" + "1" * 128: None, "a" * 255 + ":1": None,
}  # fmt: skip
NO_NAMES = (
    "", "Upper", "UPPER/x", "a/Upper", "a//b", "/a", "a/", ".a", "a.", "a..b", "a___b", "-a", "a:", "a:b:c", "a:-", "a: b", "a\n",
    "a:" + "1" * 129, "a" * 256 + ":1", "é", "a@sha256:" + "0" * 64, "-x.y/a:1",
    "[::1]/a:1", "[::1]:5000/a:1",
)  # fmt: skip


def test_names_of_images() -> None:
    """Names are read by the grammar of distribution's reference package, as of the version that docker 20.10 has."""
    for name, full in NAMES.items():
        assert tag_of(name) == (full or name)
        assert is_reference(full or name)
    for name in NO_NAMES:
        with pytest.raises(InputError, match="is not the name of an image"):
            tag_of(name)


def test_platforms() -> None:
    """A platform has Go's names, an architecture also the kernel's; what is none is refused."""
    for text, read in {"amd64": "linux/amd64", "x86_64": "linux/amd64", "linux/arm/v7": None, "armv7l": "linux/arm/v7",
                       "windows/amd64": None, "linux/arm64/v8": None}.items():  # fmt: skip
        assert str(Platform.parse(text)) == (read or text)
    for text in ("", "foo", "linux", "linux/foo", "foo/amd64", "linux/amd64/foo", "linux/arm/v7/x", "linux//v8", "linux/AMD64"):
        with pytest.raises(InputError, match="is not a platform"):
            Platform.parse(text)


def test_a_path_with_a_number_sign(folder: Path) -> None:
    """What is there under the whole text is meant by it; else the name is what stands behind the last #."""
    (folder / "a#b").mkdir()
    assert path_and_name(f"{folder}/a#b") == (f"{folder}/a#b", "")
    assert path_and_name(f"{folder}/a#b#x:1") == (f"{folder}/a#b", "x:1")
    assert path_and_name("a.tar#x") == ("a.tar", "x")
    assert path_and_name("a.tar") == ("a.tar", "")


# --- what a layer hides ---

PROGRAM = {"mode": 0o755}
USR_MERGED = tar(
    ("usr", DIRECTORY), ("usr/bin", DIRECTORY), ("usr/lib64", DIRECTORY), ("bin", SYMBOLIC, "usr/bin"), ("lib64", SYMBOLIC, "usr/lib64"),
    ("usr/bin/dash", FILE, b"#", PROGRAM), ("usr/bin/sh", SYMBOLIC, "dash"), ("usr/bin/app", FILE, b"#", PROGRAM),
    ("usr/lib64/ld-linux-x86-64.so.2", FILE, b"#", PROGRAM), ("home", DIRECTORY), ("home/app", DIRECTORY, b"", {"uid": 1000, "gid": 1000}),
    ("tmp", DIRECTORY, b"", {"mode": 0o1777}), ("var", DIRECTORY), ("var/tmp", DIRECTORY, b"", {"mode": 0o1777}),
    ("root", DIRECTORY, b"", {"mode": 0o700}), ("etc", DIRECTORY), ("etc/name", FILE), ("srv", DIRECTORY, b"", {"uid": 33}),
    ("opt", DIRECTORY), ("share", SYMBOLIC, "opt"),
)  # fmt: skip


def own_layer(folder: Path, *paths: str) -> LayerBlob:
    """Build a layer of files, and of directories where a path ends with a slash; it knows of no base."""
    for path in paths:
        there = folder / "tree" / path
        (there if path.endswith("/") else there.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            there.write_text("own")
    build_layer(LayerSpec(copy_to_root=(str(folder / "tree"),)), folder / "own")
    return open_layer(str(folder / "own"))


def upon(folder: Path, *layers: bytes, config: dict[str, Any] | None = None) -> Image:
    """Read a base of some layers from a layout that another program could have written."""

    def change(document: Any) -> None:
        document["config"] = config or {}

    Made(folder / "base", list(layers), {"config": change}).write()
    return read_images(str(folder / "base"), no_spool)[0].image


def told(image: Image) -> list[str]:
    """Give what is said of an image that is to be written."""
    said: list[str] = []
    admit([NamedImage(image)], said.append)
    return said


@pytest.mark.parametrize(
    ("paths", "lost"),
    [
        (("bin/mine",), "/bin/sh is in the layers below.*/bin was a link to usr/bin, and is a directory"),
        (("bin",), "/bin/sh .*/bin was a link to usr/bin, and is a file"),
        (("usr",), "/bin/sh .*/usr was a directory, and is a file"),
        (("lib64/mine",), "/lib64/ld-linux-x86-64.so.2 .*/lib64 was a link to usr/lib64"),
        (("usr/bin/dash",), r"/bin/sh .*/usr/bin/dash was a file, and is a file that cannot be run \(0644\)"),
        (("usr/bin/app",), "app .*/usr/bin/app was a file, and is a file that cannot be run"),
        (("usr/lib64/ld-linux-x86-64.so.2",), "/lib64/ld-linux-x86-64.so.2 .* cannot be run"),
        (("usr/bin/app/x",), "app .*/usr/bin/app was a file, and is a directory"),
    ],
)
def test_what_an_image_needs_to_start_is_not_hidden(folder: Path, paths: tuple[str, ...], lost: str) -> None:
    """A shell, a loader and the config's program that are there below, and could not be found any more, are an error."""
    image = upon(folder, USR_MERGED, config={"Cmd": ["app"], "Env": ["PATH=/nowhere:/bin"]}).append(own_layer(folder, *paths))
    with pytest.raises(InputError) as caught:
        told(image)
    assert re.search(lost, str(caught.value)), str(caught.value)
    assert str(folder / "own") in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("tmp/x",), ["/tmp is 1777 0:0 in the layers below, and 0755 0:0 from here on"]),
        (("var/tmp/",), ["/var/tmp is 1777 0:0"]),
        (("root/.profile",), ["/root is 0700 0:0"]),
        (("srv/x",), ["/srv is 0755 33:0 in the layers below, and 0755 0:0 from here on"]),
        (("share/x",), ["/share is a link to opt in the layers below, and a directory"]),
        (("etc",), ["/etc is a directory in the layers below, and a file from here on"]),
        (("etc/name", "usr/bin/new", "new/x"), []),
    ],
)
def test_what_may_be_an_accident_is_a_warning(folder: Path, paths: tuple[str, ...], expected: list[str]) -> None:
    """A mode, an owner or a link that a layer changes without knowing of it is said, with what it was and what it is."""
    image = upon(folder, USR_MERGED).append(own_layer(folder, *paths))
    said = told(image)
    assert len(said) == len(expected), said
    for line, part in zip(said, expected, strict=True):
        assert line.startswith(f"warning: {folder}/own: {part}")
    foreign = folder / "foreign"
    write_images([NamedImage(image)], str(foreign), "layout")
    assert [line for line in notes(foreign).splitlines() if "in the layers below" in line] == [
        line.replace(f"warning: {folder}/own", next(iter(notes(foreign).splitlines())).split(": ")[0]) for line in said
    ]


def test_every_directory_that_changes_is_told(folder: Path) -> None:
    """Whoever changes the owner or the mode of a directory may not know of it, wherever it is; of very many some are named."""
    image = upon(folder, USR_MERGED, tar(("home/app", DIRECTORY, b"", {"uid": 1000, "gid": 1000, "mode": 0o700})))
    [line] = told(attrs.evolve(image, below=1))
    assert line.endswith(": /home/app is 0755 1000:1000 in the layers below, and 0700 1000:1000 from here on")
    names = [f"d{number:02}" for number in range(25)]
    many = [tar(*((name, DIRECTORY, b"", {"mode": mode}) for name in names)) for mode in (0o755, 0o700)]
    lines = told(attrs.evolve(upon(folder / "many", *many), below=1))
    assert len(lines) == 21
    assert lines[-1].endswith(": 5 more of the kind")


def test_what_is_done_to_the_very_base_is_meant(folder: Path) -> None:
    """A layer says what it was built upon: there it changes what it knows, and upon any other base it is built apart."""
    image = upon(folder, USR_MERGED)
    own_layer(folder, "usr/bin/dash", "tmp/x")
    described = folder / "own/layer.json"
    said = json.loads(described.read_text())
    said["madeFrom"]["base"] = image.chain_id
    described.write_text(json.dumps(said))
    layer = open_layer(str(folder / "own"))
    assert told(image.append(layer)) == []
    with pytest.raises(InputError, match="cannot be run"):
        told(image.append(attrs.evolve(layer, upon=layer.diff_id)))


def test_what_a_layer_removes_on_purpose(folder: Path) -> None:
    """A whiteout says that a shell is to go; and what a layer hides a later one may give back."""
    without = tar(("usr/bin/.wh.sh", FILE))
    image = upon(folder, USR_MERGED, without)
    assert told(attrs.evolve(image, below=1)) == []
    hidden = tar(("bin", DIRECTORY), ("bin/x", FILE))
    again = tar(("bin", DIRECTORY), ("bin/sh", FILE, b"#", PROGRAM))
    other = upon(folder / "other", USR_MERGED, hidden, again)
    assert len(told(attrs.evolve(other, below=1))) == 1  # the link is gone


def test_a_foreign_image_that_hides_its_shell_is_noted(folder: Path) -> None:
    """Validate says of another tool's image what ``image`` would refuse to write; it is a note, as engines take it."""
    image = upon(folder, USR_MERGED, tar(("bin", DIRECTORY), ("tmp", DIRECTORY)))
    assert told(image) == []  # it is the base's own business
    found = validate(str(folder / "base"), no_spool)
    assert found.valid
    assert {"/bin/sh is", "/bin is a ", "/tmp is 17"} <= {note.what[:10] for note in found.notes}


def test_the_command_says_what_is_hidden(user: User, folder: Path) -> None:
    """``image`` says a warning on stderr and keeps silent with -q; where no shell would be left it writes nothing: 65."""
    upon(folder, USR_MERGED)
    for name, path in {"tmp": "tmp/x", "bin": "bin/x"}.items():
        (user.home / name / path).parent.mkdir(parents=True)
        (user.home / name / path).write_text("own")
        assert user.build("--copy-to-root", user.home / name, output=f"{name}-layer").status == 0
    words = [*COMMAND, "image", "--base", folder / "base", "--platform", "linux/amd64", "-o", user.home / "image"]
    done = user.run([*words, "--layer", user.home / "tmp-layer"])
    assert_said(done, 0, "rootless-layer: warning: .*tmp-layer: /tmp is 1777 0:0 in the layers below, and 0755 0:0")
    assert user.run([*words, "--layer", user.home / "tmp-layer", "-q"]).err == ""
    (user.home / "none").mkdir()
    done = user.run([*words[:-1], user.home / "none/image", "--layer", user.home / "bin-layer"])
    assert_said(done, 65, "/bin/sh is in the layers below", "build --base")
    assert list((user.home / "none").iterdir()) == []


def test_build_says_what_is_unusual(user: User) -> None:
    """A root that only its owner may enter, as mktemp -d makes it, is a warning; so is a /tmp that is not for everybody."""
    top = user.home / "rootfs"
    assert user.run(["mkdir", "-m", "700", "rootfs"]).status == 0
    assert user.run(["mkdir", "-m", "755", "rootfs/tmp"]).status == 0
    done = user.build("--rootfs", top)
    assert_said(done, 0, f"warning: / is 0700 .* in {top}, and 0755 0:0 everywhere else", "warning: /tmp is 0755", "chmod 1777")
    top.chmod(0o755)
    (top / "tmp").chmod(0o1777)
    assert "warning" not in user.build("--rootfs", top).err
    made = user.build("--rootfs", top, "--view", "directory", "--", "chmod", "700", ".")
    assert (made.status, "warning" in made.err) == (0, False), made.err


def test_what_is_unusual_in_a_tar_is_mended_there() -> None:
    """A file of a tar has no path that chmod takes."""
    entries = {b"": Entry(path=b"", mode=0o40700)}
    [of_tar], [of_folder] = (list(unusual(entries.get, "root.tar", is_tar=is_tar)) for is_tar in (True, False))
    assert "mend it in the tar" in of_tar
    assert "chmod" not in of_tar
    assert "chmod 755 root.tar" in of_folder


CAPABILITY, DEFAULT_ACL = b"security.capability", b"system.posix_acl_default"
NONE = "00000000"
OWNER, OTHERS = bytes.fromhex("01000700ffffffff"), bytes.fromhex("04000500ffffffff20000500ffffffff")
ATTRIBUTES: list[tuple[int, bytes, bytes, str]] = [
    (0o100755, CAPABILITY, bytes.fromhex("0100000200200000" + NONE * 3), ""),
    (0o100755, CAPABILITY, bytes.fromhex("0100000300200000" + NONE * 4), ""),
    (0o100755, CAPABILITY, bytes.fromhex("0100000200200000"), "no set of capabilities"),
    (0o100755, CAPABILITY, b"garbage", "no set of capabilities"),
    (0o40755, DEFAULT_ACL, bytes.fromhex("02000000") + OWNER + OTHERS, ""),
    (0o40755, DEFAULT_ACL, b"garbage", "no access control list"),
    (0o40755, DEFAULT_ACL, bytes.fromhex("02000000") + OWNER, "no access control list"),
    (0o40755, DEFAULT_ACL, bytes.fromhex("0200000003000700ffffffff") + OTHERS, "no access control list"),
    (0o100644, DEFAULT_ACL, bytes.fromhex("02000000") + OWNER + OTHERS, "only a directory"),
    (0o100644, b"user.a", bytes(65536), ""),
    (0o100644, b"user.a", bytes(65537), "65537 bytes"),
    (0o100644, b"user." + b"a" * 250, b"", ""),
    (0o100644, b"user." + b"a" * 251, b"", "256 bytes"),
]


def test_attributes_that_no_engine_can_set(folder: Path) -> None:
    """The kernel refuses some names, sizes and forms, wherever the layer is unpacked: it is a note, as some readers pass over them."""
    for mode, name, value, expected in ATTRIBUTES:
        found = list(unsettable(Entry(path=b"a", mode=mode, xattrs=((name, value),))))
        assert (len(found) == 1) == bool(expected), (name, value)
        assert expected in "".join(found)
    upon(folder, tar(("a", FILE, b"", {"pax_headers": {"SCHILY.xattr.security.capability": "garbage"}})))
    found_here = validate(str(folder / "base"), no_spool)
    assert found_here.valid
    assert "/a: the attribute security.capability cannot be set" in "\n".join(map(str, found_here.notes))


# --- bases that are odd ---


def test_a_base_is_made_to_fit(folder: Path) -> None:
    """A layer's media type follows its bytes, and a history has as many rows as there are layers."""
    made = Made(folder / "base", change={"config": lambda said: said.update(history=[{"created_by": name} for name in "abc"])})
    made.media_type = LAYER + "+zstd"
    made.write()
    [stored] = read_images(str(made.folder), no_spool)
    image = stored.image.configured({})
    assert {layer.descriptor.media_type for layer in image.layers} == {LAYER + "+gzip"}
    assert [row.get("empty_layer", False) for row in image.described["history"]] == [False, False, True]
    write_images([attrs.evolve(stored, image=image)], str(folder / "out"), "layout")
    assert validate(str(folder / "out"), no_spool).valid


@pytest.mark.parametrize("stored", [bytes, lambda data: gzip.compress(data, mtime=0)])
def test_a_wrong_diff_id_is_refused(folder: Path, stored: Any) -> None:
    """An image is not written upon a layer whose tar is not what its config says: no engine would load it."""
    media_type = LAYER if stored is bytes else LAYER + "+gzip"
    made = Made(folder / "base", stored=stored, media_type=media_type)
    made.change["config"] = lambda said: said["rootfs"].update(diff_ids=["sha256:" + "0" * 64, said["rootfs"]["diff_ids"][1]])
    made.write()
    with pytest.raises(InputError, match="0000"):
        write_images(read_images(str(made.folder), no_spool), str(folder / "out"), "layout")
    assert not (folder / "out").exists()


def test_more_layers_than_engines_take(folder: Path) -> None:
    """Docker takes 125 layers, of which a warning tells; more than 500 nobody takes, which is an error."""
    layer = own_layer(folder, "x")
    image = Image.empty(Platform.host())
    for _ in range(126):
        image = image.append(layer)
    assert told(image) == ["warning: the image has 126 layers, and docker takes 125 at most"]
    for _ in range(375):
        image = image.append(layer)
    with pytest.raises(InputError, match="501 layers, and no engine takes more than 500"):
        told(image)


def test_zstd_layers_stand_twice_in_an_archive(folder: Path) -> None:
    """Docker before 23 finds the plain tar of a zstd layer by manifest.json; index.json has what it always had."""
    (folder / "tree").mkdir()
    spec = LayerSpec(
        copy_to_root=(str(folder / "tree"),), compression=attrs.evolve(LayerSpec().compression, kind="zstd", level=3)
    )
    build_layer(spec, folder / "zstd")
    image = Image.empty(Platform.host()).append(open_layer(str(folder / "zstd")))
    said: list[str] = []
    write_images([NamedImage(image, ("x:1",))], str(folder / "a.tar"), "archive", progress=lambda at: said.append(at.note))
    assert [note[:20] for note in said if note] == ["warning: docker befo"]
    found = read_images(str(folder / "a.tar"), no_spool)
    assert [stored.image.manifest_digest for stored in found] == [image.manifest_digest]
    assert validate(str(folder / "a.tar"), no_spool).problems == ()


def test_inspect_says_a_derived_images_manifest_digest(folder: Path) -> None:
    """It stands in the image's own description, by which the image is read."""
    from rootless_layer.image.derived import write_derived

    image = Image.empty(Platform.host()).append(own_layer(folder, "x"))
    (folder / "derived").mkdir()
    write_derived(image, ("x:1",), folder / "derived")
    assert inspect(str(folder / "derived"), no_spool)[0].manifest_digest == image.manifest_digest


# --- whatever is accepted is valid ---

PROPERTIES = {name: RIGHT.get(name, []) + WRONG.get(name, []) for name in {**RIGHT, **WRONG}}
CONFIGS = st.dictionaries(st.sampled_from(sorted(PROPERTIES)), st.integers(0, 7), max_size=3).map(
    lambda chosen: {name: PROPERTIES[name][number % len(PROPERTIES[name])] for name, number in chosen.items()}
)
LAYERS = st.lists(
    st.sampled_from([LOWER, UPPER, USR_MERGED, *(layer for layer, _ in {**BAD_LAYERS, **ODD_LAYERS}.values())]),
    min_size=1,
    max_size=3,
)
STORED = {
    "": bytes, "+gzip": lambda data: gzip.compress(data, 1, mtime=0), "+zstd": lambda data: zstandard.compress(data, 1),
}  # fmt: skip
ODD: list[Any] = [None, "", "x", "a b", "\x1b", 7, [], {}, [{}], ["x"], "2020-01-01T00:00:00Z"]
TEXTS = st.sampled_from([*NAMES, *NO_NAMES, "1", "tag", "a@b"])


@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    layers=LAYERS, of=st.sampled_from(sorted(STORED)), said=st.sampled_from(sorted(STORED)), rows=st.integers(0, 5), base=CONFIGS,
    changes=CONFIGS, odd=st.dictionaries(st.sampled_from(["os", "architecture", "variant", "created", "author", "history"]), st.sampled_from(ODD), max_size=1),
    names=st.lists(TEXTS, max_size=2), kind=st.sampled_from(["layout", "archive", "docker-archive"]), top=st.booleans(),
)  # fmt: skip
def test_what_is_written_is_valid(
    shared: Path, layers: list[bytes], of: str, said: str, rows: int, base: dict[str, Any], changes: dict[str, Any],
    odd: dict[str, Any], names: list[str], kind: Any, top: bool,  # noqa: FBT001 - hypothesis's
) -> None:  # fmt: skip
    """Whatever base, config and names: an image that is written is valid, and what is refused is told by an error of ours."""
    with tempfile.TemporaryDirectory(dir=shared) as place:
        folder = Path(place)

        def change(config: Any) -> None:
            config["config"] = json.loads(json.dumps(base))
            config["history"] = [{"created_by": str(number)} for number in range(rows)]
            config.update(odd)

        made = Made(folder / "base", layers, {"config": change}, STORED[of], LAYER + said).write()
        try:
            [stored] = read_images(str(made.folder), no_spool)
            image = stored.image.configured(changes)
            if top:
                image = image.append(own_layer(folder, "tmp/x"))
            write_images([NamedImage(image, tuple(dict.fromkeys(names)))], str(folder / "out"), kind)
        except RootlessLayerError as error:
            assert error.problems
            assert not (folder / "out").exists()
        else:
            assert validate(str(folder / "out"), no_spool).problems == ()
