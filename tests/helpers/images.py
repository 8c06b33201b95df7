"""Images made by hand, sound and unsound, and the findings about them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from rootless_layer.check.validate import validate
from rootless_layer.oci.findings import Findings

LAYER = "application/vnd.oci.image.layer.v1.tar"

FILE, DIRECTORY, LINK, SYMBOLIC = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE

Change = Callable[[Any], None]


def sha256(data: bytes) -> str:
    """Give a digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(*members: tuple[Any, ...], end: bytes = bytes(1024)) -> bytes:
    """Make a tar of (name, type, data or target, changes of the header)."""
    made = []
    for name, kind, *rest in members:
        header = tarfile.TarInfo(name)
        data = rest[0] if rest and isinstance(rest[0], bytes) else b""
        header.type, header.size, header.mode, header.mtime = kind, len(data), 0o755 if kind == DIRECTORY else 0o644, 1
        if rest and isinstance(rest[0], str):
            header.linkname = rest[0]
        for key, value in (rest[1] if len(rest) > 1 else {}).items():
            setattr(header, key, value)
        made += [header.tobuf(tarfile.PAX_FORMAT), data, bytes(-len(data) % 512)]
    return b"".join(made) + end


def gzipped(data: bytes) -> bytes:
    """Compress as the layers of most images are."""
    return gzip.compress(data, 1, mtime=0)


LOWER = tar(
    ("etc", DIRECTORY), ("etc/a", FILE, b"one"), ("etc/b", LINK, "etc/a"), ("etc/c", SYMBOLIC, "a"), ("old", FILE, b"old")
)

UPPER = tar((".wh.old", FILE), ("etc/a", FILE, b"two"), ("new", FILE, b"new"))


@attrs.define
class Made:
    """An image layout in the making: its documents are changed before anything that names them is written."""

    folder: Path
    layers: list[bytes] = attrs.field(factory=lambda: [LOWER, UPPER])
    change: dict[str, Change] = attrs.field(factory=dict)
    stored: Callable[[bytes], bytes] = gzipped
    media_type: str = LAYER + "+gzip"

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store a blob and give its descriptor."""
        path = self.folder / "blobs/sha256" / sha256(data)[7:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def document(self, name: str, value: Any, media_type: str) -> dict[str, Any]:
        """Store a document as a blob, changed as the test wants it."""
        self.change.get(name, lambda _: None)(value)
        return self.blob(json.dumps(value).encode(), media_type)

    def write(self) -> Made:
        """Write it all."""
        config = {
            "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
            "config": {"Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in self.layers]},
            "history": [{"created": "2020-01-01T00:00:00.5+01:00"}, {"created_by": "x", "empty_layer": True}]
            + [{"created_by": "y"}] * (len(self.layers) - 1),
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.document("config", config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(self.stored(layer), self.media_type) for layer in self.layers],
        }  # fmt: skip
        row = self.document("manifest", manifest, "application/vnd.oci.image.manifest.v1+json")
        index = {"schemaVersion": 2, "manifests": [row | {"platform": {"architecture": "amd64", "os": "linux"}}]}
        self.change.get("index", lambda _: None)(index)
        (self.folder / "index.json").write_text(json.dumps(index))
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return self

    def layer(self, number: int) -> Path:
        """Say where the blob of a layer is."""
        return self.folder / "blobs/sha256" / sha256(self.stored(self.layers[number]))[7:]

    def archive(self, path: Path) -> Path:
        """Write the layout as an archive."""
        with tarfile.open(path, "w") as archive:
            for name in ("oci-layout", "index.json", "blobs"):
                archive.add(self.folder / name, name)
        return path


def docker_archive(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Write a docker-archive of the old shape, changed as a test wants it."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(LOWER), sha256(UPPER)]}}
    ).encode()
    name = sha256(config)[7:] + ".json"
    files = {"1/layer.tar": LOWER, "2/layer.tar": UPPER, name: config}
    files["manifest.json"] = json.dumps([{"Config": name, "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]).encode()
    change(files)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def put(*path: Any, to: Any) -> Change:
    """Make the change that puts a value somewhere in a document; ``...`` removes what is there."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        if to is ...:
            del document[path[-1]]
        else:
            document[path[-1]] = to

    return change


def no_spool() -> str:
    """Nothing is compressed as a whole here."""
    raise AssertionError


def check(path: Path) -> Findings:
    """Validate something that is not compressed as a whole."""
    return validate(str(path), no_spool)


def problems(path: Path) -> str:
    """Give all problems, a line each."""
    return "\n".join(map(str, check(path).problems))


def notes(path: Path) -> str:
    """Give all notes, a line each."""
    return "\n".join(map(str, check(path).notes))


def unusual(path: Path) -> str:
    """Give all that is unusual, a line each."""
    return "\n".join(map(str, check(path).unusual))


BAD_LAYERS: dict[str, tuple[bytes, str]] = {
    "a link to nothing": (tar(("x", LINK, "none")), "/x: the hard link's target /none is not there"),
    "a link before its target": (tar(("x", LINK, "y"), ("y", FILE)), "/x: the hard link's target /y comes after it"),
    "a link to itself": (tar(("x", LINK, "x")), "/x: the hard link's target /x comes after it, or is"),
    "a link to a directory": (tar(("y", DIRECTORY), ("x", LINK, "y")), "/x: the hard link is to a directory, /y"),
    "a link to a directory below": (tar(("x", LINK, "etc")), "/x: the hard link is to a directory, /etc"),
    "a name that goes up": (tar(("../x", FILE)), "the name '../x' leaves the root"),
    "a name that goes up further than down": (tar(("etc/../../x", FILE)), "'etc/../../x' leaves the root"),
    "a link that leads to itself": (tar(("y", SYMBOLIC, "y"), ("y/x", FILE)), "/y goes through too many symbolic links"),
    "a link that leads to a file": (tar(("y", SYMBOLIC, "old"), ("y/x", FILE)), "/old is not a directory"),
    "a link that goes up": (tar(("x", LINK, "../etc/a")), "target '../etc/a' leaves the root"),
    "a parent that is a file": (tar(("etc/a/x", FILE)), "/etc/a/x: /etc/a is not a directory"),
    "a parent that is a link to a file below": (tar(("etc/c/x", FILE)), "/etc/a/x: /etc/a is not a directory"),
    "a root that is a file": (tar((".", FILE)), "/: the root is not a directory"),
    "cut off in a header": (tar(("x", FILE, b"x"), end=b"")[:600] + tar(("y", FILE))[:100], "cannot be read to its end"),
    "cut off in data": (tar(("x", FILE, b"x" * 9000), end=b"")[:2000], "cannot be read to its end"),
    "a header that is damaged": (tar(("x", FILE), end=tar(("y", FILE)).replace(b"y", b"z")), "cannot be read to its end"),
    "no tar": (b"x" * 2000, "cannot be read to its end"),
}  # fmt: skip

ODD_LAYERS: dict[str, tuple[bytes, str]] = {
    "a whiteout of what is not there": (tar((".wh.none", FILE)), "/.wh.none: removes /none, which no lower layer has"),
    "an opaque whiteout of what is new": (
        tar(("x", DIRECTORY), ("x/.wh..wh..opq", FILE)), "empties a directory that no lower layer has"),
    "a link to a lower layer": (tar(("x", LINK, "etc/a")), "/x: the hard link is to /etc/a of a lower layer"),
    "a link to a link": (
        tar(("x", FILE, b"x"), ("y", LINK, "x"), ("z", LINK, "y")), "/z: the hard link is to another, /y"),
    "a link of another owner": (tar(("x", FILE), ("y", LINK, "x", {"uid": 7})), "/y: the hard link's owner"),
    "a whiteout behind its sibling": (tar(("old", FILE, b"x"), (".wh.old", FILE)), "/.wh.old: comes after /old"),
    "a file before its directory": (tar(("x/y", FILE), ("x", DIRECTORY)), "/x/y: comes before its directory /x"),
    "an end of one block": (tar(end=bytes(512)), "the tar's end marker is one block"),
    "something behind the end": (tar(("x", FILE)) + bytes(512) + b"hidden", "518 bytes stand behind the end"),
    "a path twice": (tar(("x", FILE), ("./x", FILE)), "/x: the path occurs twice"),
    "a directory twice": (tar(("x/", DIRECTORY), ("x", DIRECTORY)), "/x: the path occurs twice"),
    "a link to what it replaces": (tar(("etc", LINK, "etc/a")), "/etc: the hard link is to /etc/a, which this layer takes away"),
    "a link to what was removed": (tar((".wh.old", FILE), ("x", LINK, "old")), "/x: the hard link is to /old, which this layer takes away"),
    "a link to what was replaced": (tar(("etc", FILE), ("x", LINK, "etc/a")), "/x: the hard link is to /etc/a, which this layer takes away"),
    "an absolute name": (tar(("/x", FILE)), "/x: the name '/x' is absolute"),
    "an absolute link": (tar(("x", LINK, "/etc/a")), "target '/etc/a' is absolute"),
    "no parent": (tar(("no/x", FILE)), "/no/x: its directory /no is in no layer"),
    "a parent that was removed": (tar((".wh.etc", FILE), ("etc/x", FILE)), "/etc/x: its directory /etc is in no layer"),
    "a parent that is a link": (tar(("y", SYMBOLIC, "etc"), ("y/x", FILE)), "/y/x: /y is a link, or goes through one, which readers follow"),
    "a name that goes up and down": (tar(("etc/../x", FILE)), "the name 'etc/../x' goes up"),
    "a link that goes up and down": (tar(("x", LINK, "old/../etc/a")), "target 'old/../etc/a' goes up"),
    "no bytes at all": (b"", "the tar has no end marker"),
    "a whiteout with data": (tar((".wh.old", FILE, b"x")), "/.wh.old: a whiteout is not empty"),
    "a whiteout directory": (tar((".wh.old", DIRECTORY)), "/.wh.old: a whiteout is not a regular file"),
    "a whiteout link": (tar((".wh.old", LINK, "etc/a")), "/.wh.old: a whiteout is not a regular file"),
    "a whiteout of nothing": (tar((".wh.", FILE)), "/.wh.: a whiteout names nothing"),
    "a whiteout of the directory itself": (tar(("etc/.wh..", FILE)), "a whiteout names nothing"),
    "a whiteout of the parent": (tar(("etc/.wh...", FILE)), "a whiteout names nothing"),
    "a whiteout of a whiteout": (tar((".wh..wh.x", FILE)), "a whiteout names nothing"),
    "an opaque whiteout with data": (tar(("etc/.wh..wh..opq", FILE, b"x")), "a whiteout is not empty"),
    "no end": (tar(("x", FILE, b"x"), end=b""), "the tar has no end marker"),
    "a link through a link": (tar(("y", SYMBOLIC, "etc"), ("x", LINK, "y/a")), "/x: the hard link is to /y/a, which a link leads to"),
    "data that does not fill its block": (tar(("x", FILE, b"x"), end=b"")[:513], "the tar has no end marker"),
    "a file of aufs's": (tar((".wh..wh.plnk", DIRECTORY)), "is a file of aufs's own"),
}  # fmt: skip
