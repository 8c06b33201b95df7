"""The images of ``tests/nix``, as they are read from the archive of all."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from helpers.nix_pkgs import Nix
from helpers.place import HERE
from helpers.users import User

EXAMPLES = HERE / "nix" / "all.nix"


@attrs.define(slots=False)
class Loaded:
    """An image of the archive of all, as it is read from there."""

    name: str
    config: dict[str, Any]
    blobs: list[Path]
    layout: Path
    user: User
    """Whoever runs the tests."""

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that says how it is run."""
        settings: dict[str, Any] = self.config["config"]
        return settings

    @cached_property
    def layers(self) -> list[dict[str, tarfile.TarInfo]]:
        """Each layer's members by name, the lowest first."""
        found = []
        for blob in self.blobs:
            with tarfile.open(blob) as archive:
                found.append({member.name.removesuffix("/"): member for member in archive})
        return found

    @cached_property
    def members(self) -> dict[str, tarfile.TarInfo]:
        """What the layers come to, where nothing is removed."""
        return {name: member for layer in self.layers for name, member in layer.items()}

    def owner(self, path: str) -> str:
        """Owner, group and permissions, as ``stat -c %u:%g:%a`` writes them."""
        member = self.members[path]
        return f"{member.uid}:{member.gid}:{member.mode:o}"

    @cached_property
    def root(self) -> Path:
        """The root filesystem, as umoci unpacks it."""
        bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=self.user.home)) / "bundle"
        rootless = [] if os.geteuid() == 0 else ["--rootless"]
        done = self.user.run(["umoci", "unpack", *rootless, "--image", f"{self.layout}:{self.name}", bundle])
        assert done.status == 0, done.err
        return bundle / "rootfs"

    def text(self, path: str) -> str:
        """Read a file by its path in the image, through links."""
        return self.resolved(path).read_text()

    def resolved(self, path: str) -> Path:
        """Follow the links of a path, absolute ones within the image."""
        parts, current = path.strip("/").split("/")[::-1], self.root
        while parts:
            there = current / parts.pop()
            if there.is_symlink():
                target = os.readlink(there)
                current = self.root if target.startswith("/") else current
                parts += [part for part in target.split("/")[::-1] if part]
            else:
                current = there.resolve() if there.name == ".." else there
        return current

    @property
    def store(self) -> set[str]:
        """The names of the store paths in it, without their digests."""
        return {name.split("/")[2][33:] for name in self.members if name.startswith("nix/store/")}


@attrs.define(slots=False)
class Built:
    """All examples: what their evaluation says, and where the images are."""

    nix: Nix
    index: dict[str, Any]
    layout: Path
    warnings: str
    loaded: dict[str, Loaded] = attrs.field(factory=dict)

    def __getitem__(self, example: str) -> Loaded:
        """Give the image of an example."""
        if example not in self.loaded:
            said = self.index["images"][example]
            name = f"{said['imageName']}:{said['imageTag']}"
            rows = json.loads((self.layout / "index.json").read_bytes())["manifests"]
            digests = {row["digest"] for row in rows if row["annotations"]["org.opencontainers.image.ref.name"] == name}
            assert len(digests) == 1, name
            manifest = json.loads(self.blob(digests.pop()).read_bytes())
            config = json.loads(self.blob(manifest["config"]["digest"]).read_bytes())
            blobs = [self.blob(layer["digest"]) for layer in manifest["layers"]]
            self.loaded[example] = Loaded(name, config, blobs, self.layout, self.myself)
        return self.loaded[example]

    @property
    def myself(self) -> User:
        """Whoever runs the tests, with the builder's directory."""
        return attrs.evolve(self.nix.user, name="root" if os.geteuid() == 0 else "somebody")

    def blob(self, digest: str) -> Path:
        """Find a blob of the layout."""
        return self.layout / "blobs/sha256" / digest.removeprefix("sha256:")

    def archive(self, name: str) -> Path:
        """Find a file that was made of images."""
        return self.nix.on_disk(self.index["archives"][name])


def store_paths(layer: Mapping[str, object]) -> int:
    """Count the store paths in a layer."""
    return sum(name.startswith("nix/store/") and name.count("/") == 2 for name in layer)
