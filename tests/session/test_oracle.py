"""Real root says what is right: the corpus in a real chroot, and the layers in other readers' hands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.cases import Inputs, first_layer
from helpers.corpus import BY_NAME, CORPUS, Case, options_of
from helpers.oracle import Chroot, Node, Snapshot, differences, in_blob, in_listing, listed, on_disk, unpack
from helpers.real_root import both, build, by_real_root
from helpers.users import HANG, SOMEBODY, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, Script, build_layer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="only real root can be the oracle")]


@attrs.frozen
class Difference:
    """A thing that real root does otherwise than a session without privilege can.

    ``found`` has what the two leave, as :func:`oracle.differences` says it: a path and a
    field, what real root has, what the layer has.
    """

    name: str
    reason: str
    text: str
    found: Mapping[str, tuple[object, object]]


def _digests(real: bytes, ours: bytes) -> tuple[object, object]:
    return hashlib.sha256(real).hexdigest(), hashlib.sha256(ours).hexdigest()


_ALICE = "setpriv --reuid 1000 --regid 1000 --clear-groups"
DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "capabilities after bytes are written over others",
        "The kernel takes a capability from a file that is written to; a session sees writes by the length alone.",
        "setcap cap_net_raw+ep srv/tool\nprintf '#' 1<> srv/tool\n",
        {"/srv/tool: xattrs": ((), (("security.capability", bytes.fromhex("0100000200200000000000000000000000000000")),))},
    ),
    Difference(
        "hard links of links and devices",
        "Only regular files are hard links in a layer: the names of one symbolic link, device or fifo stand each for themselves.",
        "ln -P srv/link srv/link2\nmkfifo srv/pipe\nln srv/pipe srv/pipe2\n",
        {
            "group of b'srv/link'": ([b"srv/link", b"srv/link2"], None),
            "group of b'srv/pipe'": ([b"srv/pipe", b"srv/pipe2"], None),
        },
    ),
    Difference(
        "what another user may read",
        "Opening a file that is there is the kernel's: it asks for the user who builds, whom all files are.",
        f"chmod 600 srv/text\n{_ALICE} cat srv/text > srv/read 2>/dev/null || true\n",
        {"/srv/read: digest": _digests(b"", b"one\ntwo\nthree\n")},
    ),
    Difference(
        "directories that another user may not search",
        "To read a file, its path is looked up for the user who builds, whatever mode the directories on the way have.",
        f"chmod 700 srv/dir\necho seen > srv/dir/there\n{_ALICE} cat srv/dir/there > srv/read 2>/dev/null || true\n",
        {"/srv/read: digest": _digests(b"", b"seen\n")},
    ),
    Difference(
        "devices are not devices inside",
        "A device that a script makes is a record and an empty file: what is written to it comes back.",
        "mknod dev/mine c 1 3\necho back > dev/mine\ncat dev/mine > srv/text\nrm dev/mine\n",
        {"/srv/text: digest": _digests(b"", b"back\n")},
    ),
)
"""What cannot be as real root has it. Each has its test; everything else is compared exactly."""

OTHERWISE: dict[str, Mapping[str, tuple[object, object]]] = {}
"""Scripts of the corpus that show such a difference, and what they leave."""


@pytest.mark.parametrize("case", [case for case in CORPUS if "root" in case.views], ids=lambda case: case.name)
def test_real_root_leaves_the_same(case: Case, chroot: Chroot, inputs: Inputs, shared: Path, work: Path) -> None:
    """A layer holds what the same script, run by real root in a real chroot, leaves.

    The same paths, types, contents, owners, modes, devices, targets, hard links,
    capabilities and user attributes. (That everybody's layer is the same is tested by the corpus.)
    """
    real = by_real_root(case, chroot, work)
    assert differences(real, first_layer(case, inputs, shared).outside) == OTHERWISE.get(case.name, {})


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.name)
def test_each_difference_is_as_it_is_told(case: Difference, somebody: User, chroot: Chroot, inputs: Inputs, work: Path) -> None:
    """Where real root does otherwise, the difference is the one that is told, and no other."""
    script = Case("difference", case.reason, case.text, ("root",))
    real, ours = both(script, somebody, chroot, inputs, work)
    assert differences(real, ours) == case.found


def test_store_paths_are_on_another_file_system(somebody: User, chroot: Chroot, inputs: Inputs, work: Path) -> None:
    """Hard links and renames into a store path fail with EXDEV or EROFS, where it is mounted for real root as well."""
    path = chroot.store.path("coreutils")
    text = f"ln {path}/bin/true srv/true && exit 9\nmv {path}/bin/true srv/ && exit 9\nmv srv/text {path}/ && exit 9\ntrue\n"
    real, ours = both(Case("links", "", text, ("root",)), somebody, chroot, inputs, work)
    assert differences(real, ours) == {}


def test_store_paths_are_as_they_were(somebody: User, chroot: Chroot, inputs: Inputs) -> None:
    """In a layer with a script the store paths are canonical: root's, read-only, at the first second."""
    script = somebody.script(BY_NAME["root-copy-owner"].text)
    blob = build(somebody, [*options_of(BY_NAME["nothing"], "root", chroot.store, inputs.contents), "--script", script])
    prefixes = tuple(path + "/" for path in chroot.store_paths)
    with tarfile.open(blob) as tar:
        stored = [member for member in tar if member.name.startswith(prefixes)]
    assert len(stored) > 1000
    assert {(member.uid, member.gid, member.mtime, member.mode & ~0o111) for member in stored if not member.issym()} == {
        (0, 0, 1, 0o444)
    }


# --- random scripts ---

FILES = ("a", "b", "d/c", "d/e/f", "d/g", "l", "h")
FOLDERS = ("d", "d/e", "n", "d/n")
PATHS = (*FILES, *FOLDERS)
IDS = st.sampled_from((0, 1, 33, 1000, 65534, 3_000_000_000))


def _line(program: str, *words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*words).map(lambda chosen: " ".join((program, *chosen)))


PATH = st.sampled_from(PATHS)
OWNER = st.tuples(IDS, IDS).map(lambda pair: f"{pair[0]}:{pair[1]}")
# Devices and fifos are left to the corpus: what comes of reading one differs. Every path is relative and goes down, so
# nothing leaves the tree.
MODE = st.integers(0, 0o7777).map(lambda mode: f"{mode:o}")
LINES = st.lists(
    st.one_of(
        _line("chown", OWNER, PATH), _line("chown -h", OWNER, PATH), _line("chown -R", OWNER, PATH), _line("chmod", MODE, PATH),
        _line("mv -f -T", PATH, PATH), _line("mv -f", PATH, PATH), _line("ln -f -L -T", PATH, PATH), _line("ln -sfn", PATH, PATH),
        _line("rm -rf", PATH), _line("rmdir", PATH), _line("mkdir -p", PATH), _line("mkdir -m", MODE, PATH), _line("cp -a -T", PATH, PATH),
        _line("cp -f -T", PATH, PATH), _line("echo x >>", PATH), _line("touch", PATH), _line("chmod -R", MODE, PATH),
        _line("setfattr -n user.x -v y", PATH), _line("sed -i s/x/y/", PATH), _line("truncate -s 7", PATH),
    ),
    min_size=3, max_size=25,
)  # fmt: skip


def plant(tree: Path) -> None:
    """Make the tree that random scripts work on."""
    (tree / "d/e").mkdir(parents=True)
    for name in ("a", "b", "d/c", "d/e/f"):
        (tree / name).write_text(f"{name} x\n")
    (tree / "l").symlink_to("d/c")


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=LINES)
def test_random_scripts_leave_what_real_root_leaves(lines: list[str], work: Path) -> None:
    """For any script of file operations, the layer holds what real root leaves on disk."""
    text = "exec 2>/dev/null\n" + "".join(f"{line} || true\n" for line in lines)
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
        for name in ("real", "content"):
            os.mkdir(f"{folder}/{name}", 0o755)
            plant(Path(folder, name))
        subprocess.run(["sh", "-c", text], cwd=f"{folder}/real", check=True, umask=0o022, stdin=subprocess.DEVNULL, timeout=HANG)
        spec = LayerSpec(copy_to_root=(f"{folder}/content",), scripts=(Script.text(text),), view="directory")
        layer = build_layer(spec, f"{folder}/layer")
        blob = Path(folder, "layer/blobs/sha256", layer.descriptor.digest.removeprefix("sha256:"))
        assert differences(on_disk(f"{folder}/real"), in_blob(blob)) == {}


# --- the layer, unpacked by others ---

READ = (
    "redis-prefix", "mode-000", "root-both", "deep-paths", "long-names", "non-utf8", "odd-names", "symbolic-link-odd", "setfattr",
    "setcap", "large-ids", "mknod-numbers", "tar", "set-id-directories", "hard-link-moved", "python", "sparse", "root-copy-capability",
)  # fmt: skip


@pytest.fixture(scope="session")
def small(shared: Path, inputs: Inputs) -> list[str]:
    """The inputs with a store of two small files instead of the closure, which a directory view does not need."""
    folder = shared / "little"
    path = f"/nix/store/{'0' * 32}-little"
    (folder / path.lstrip("/") / "bin").mkdir(parents=True)
    for name in ("true", "false", "cat", "ls"):
        program = folder / path.lstrip("/") / "bin" / name
        program.write_text(f"#!/bin/sh\n# {name}\n")
        program.chmod(0o555)
        os.utime(program, (1, 1))
    return ["--store-root", str(folder), "--store-path", path, "--view", "directory"] + [
        word for content in (path, *inputs.contents[1:]) for word in ("--copy-to-root", content)
    ]


def gnu_tar(blob: Path, folder: Path) -> str:
    """Unpack by GNU tar; it gives everything back."""
    unpack(blob, folder)
    return ""


def bsdtar(blob: Path, folder: Path) -> str:
    """Unpack by bsdtar; it gives everything back."""
    folder.mkdir()
    subprocess.run(
        ["bsdtar", "--numeric-owner", "-xpf", blob, "-C", folder],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return ""


def python(blob: Path, folder: Path) -> str:
    """Unpack by Python's tarfile, which knows of no extended attribute."""
    folder.mkdir()
    with tarfile.open(blob, encoding="utf-8", errors="surrogateescape") as tar:
        # Python before 3.11.4 has no filters, and trusts every archive.
        trusted: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        tar.extractall(folder, numeric_owner=True, **trusted)
    return "xattrs"


def umoci(blob: Path, folder: Path) -> str:
    """Unpack by umoci, as root; it gives everything back."""
    image = image_of(blob, folder.parent / "image")
    subprocess.run(["umoci", "unpack", "--image", f"{image}:test", folder.parent / "bundle"], check=True, capture_output=True)
    (folder.parent / "bundle/rootfs").rename(folder)
    return ""


def image_of(blob: Path, image: Path) -> Path:
    """Make an OCI image layout of one layer."""
    blobs = image / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(value: object, kind: str) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    shutil.copyfile(blob, blobs / blob.name)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{blob.name}", "size": blob.stat().st_size}
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = put(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, "application/vnd.oci.image.config.v1+json"
    )
    manifest = put(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]},
        "application/vnd.oci.image.manifest.v1+json",
    )
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (image / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return image


LOST = {("umoci", "setfattr"): {"/srv/dir: xattrs": ((), (("user.empty", b""),))}}
"""What a reader loses: in a pax header Go's archive/tar takes an empty value for no value."""
READERS: dict[str, Callable[[Path, Path], str]] = {"GNU tar": gnu_tar, "bsdtar": bsdtar, "tarfile": python, "umoci": umoci}


def small_layer(name: str, user: User, small: list[str]) -> Path:
    """Build a script's layer in the directory view."""
    case = BY_NAME[name]
    return build(user, [*small, *case.options, "--script", user.script(case.text)])


@pytest.mark.parametrize("name", READ)
def test_every_reader_finds_the_same(name: str, somebody: User, small: list[str], work: Path) -> None:
    """GNU tar, bsdtar, tarfile and umoci unpack, entry by entry, what the layer and its listing say."""
    blob = small_layer(name, somebody, small)
    ours = in_blob(blob)
    assert listed(ours) == in_listing(somebody.home / "layer/layer.mtree")
    for reader, unpacked_by in READERS.items():
        if shutil.which({"GNU tar": "tar", "tarfile": "sh"}.get(reader, reader)) is None:
            continue
        folder = work / reader.replace(" ", "-") / "tree"
        folder.parent.mkdir()
        missing = unpacked_by(blob, folder)
        found = {
            path: pair
            for path, pair in differences(on_disk(folder), ours).items()
            if not (missing and path.endswith(f": {missing}"))
        }
        assert found == LOST.get((reader, name), {}), reader


@pytest.mark.parametrize("name", ["odd-names", "tar", "hard-link-moved"])
def test_umoci_unpacks_without_root(name: str, somebody: User, small: list[str], work: Path) -> None:
    """umoci unpack --rootless gives the same paths, types, modes, contents and hard links to somebody."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed")
    blob = small_layer(name, somebody, small)
    image = image_of(blob, work / "image")
    result = somebody.run(["umoci", "unpack", "--rootless", "--image", f"{image}:test", somebody.home / "bundle"])
    assert result.status == 0, result.err
    found = on_disk(somebody.home / "bundle/rootfs", attributes=False)
    ours = in_blob(blob)
    assert {node.uid for node in found.nodes.values()} == {SOMEBODY}

    def owned(node: Node) -> Node:
        kind = "file" if "device" in node.kind else node.kind
        digest = hashlib.sha256(b"").hexdigest() if kind != node.kind else node.digest
        return attrs.evolve(node, uid=SOMEBODY, gid=SOMEBODY, xattrs=(), kind=kind, device=None, digest=digest)

    expected = Snapshot({path: owned(node) for path, node in ours.nodes.items() if path}, ours.groups)
    assert differences(Snapshot({path: node for path, node in found.nodes.items() if path}, found.groups), expected) == {}


@pytest.mark.parametrize("reader", ["GNU tar", "bsdtar", "umoci"])
def test_getcap_reads_what_setcap_gave(reader: str, somebody: User, small: list[str], work: Path) -> None:
    """The real getcap reads in the unpacked layer the capabilities that a script gave without privilege."""
    if shutil.which({"GNU tar": "tar"}.get(reader, reader)) is None or shutil.which("getcap") is None:
        pytest.skip(f"{reader} or getcap is not installed")
    READERS[reader](small_layer("setcap", somebody, small), work / "tree")
    said = subprocess.run(["getcap", "-r", "."], cwd=work / "tree", check=True, capture_output=True, text=True).stdout
    assert sorted(said.splitlines()) == [
        "./srv/other cap_net_admin,cap_net_raw=eip",
        "./srv/tool cap_net_bind_service=ep",
    ] or sorted(said.splitlines()) == ["srv/other cap_net_admin,cap_net_raw=eip", "srv/tool cap_net_bind_service=ep"]
