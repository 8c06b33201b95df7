"""The options of a layer: those of ``build``, of ``[layer.NAME]`` in a file of ``make``, and of ``nix-build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from rootless_layer.errors import InputError
from rootless_layer.plan.spec import Blob, Conflict, LayerSpec, Link, Network, Stage, View
from rootless_layer.tar.compression import Compression
from rootless_layer.tar.decompression import MOST_BYTES

from .copies import COPIES, COPIES_FROM
from .kinds import COMPRESSION, EPOCH, FLAG, ID, LIMIT, PLATFORM, SECONDS, SIZE, TEXT, OneOf
from .lists import COMMAND, SCRIPTS, SHELL, TEXTS, VARIABLES
from .mounts import MOUNTS
from .option import WRITTEN, Face, option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.plan.copies import Copy
    from rootless_layer.plan.mount import Mount
    from rootless_layer.plan.spec import Script

    from .copies import CopyFrom


OnFailure = Literal["shell"]
"""What is done where a script fails, before the build ends."""


@attrs.frozen(kw_only=True, slots=True)
class LayerOptions:
    """What was asked for of a layer; of what was not, the default. Paths are not looked at."""

    command: tuple[str, ...] = option(
        COMMAND, default=(), metavar="[-- COMMAND...]", is_argument=True, may_be_empty=True,
        help="Run this command, after the scripts.",
    )  # fmt: skip
    closure: tuple[str, ...] = option(
        TEXTS, default=(), metavar="FILE|DIR", reads="file", section="Store paths",
        help="Store paths with their references: an exportReferencesGraph file, JSON of structured attributes or"
        " `nix path-info --json -r`, closureInfo's directory, or a list of store paths.",
    )  # fmt: skip
    tools: tuple[str, ...] = option(
        TEXTS, default=(), metavar="FILE|DIR", reads="file",
        help="Store paths, in any of these forms, that scripts in the root view see and that are not in the layer; repeatable.",
    )  # fmt: skip
    store_path: tuple[str, ...] = option(
        TEXTS, default=(), metavar="PATH", faces=WRITTEN, help="One more store path; repeatable."
    )  # fmt: skip
    store_root: str = option(
        TEXT, default="/", metavar="DIR", faces=WRITTEN, help="Where the store lies, as in `nix --store DIR`."
    )  # fmt: skip
    copy_to_root: tuple[str, ...] = option(
        TEXTS, default=(), metavar="PATH", attribute="Contents", field="copy_to_root", section="Trees and files",
        help="Merge this tree into the root; repeatable."
    )  # fmt: skip
    copies: tuple[Copy, ...] = option(
        COPIES, default=(), name="copy", metavar="SRC:DEST[:chown=USER[:GROUP]][:chmod=MODE]", faces=WRITTEN, field="copies",
        help="Copy files, a directory's contents, or what fits a pattern, as a Dockerfile's COPY does; repeatable, in order.",
    )  # fmt: skip
    copies_from: tuple[CopyFrom, ...] = option(
        COPIES_FROM, default=(), name="copy-from", metavar="IMAGE:PATH:DEST[:chown=USER[:GROUP]][:chmod=MODE]", faces=WRITTEN,
        help="Copy files of an image or layer, after those of --copy; in a file of make it may be a target. Repeatable.",
    )  # fmt: skip
    ignore_file: str | None = option(
        TEXT, metavar="FILE", shown=".dockerignore, where there is one", faces=WRITTEN, reads="file",
        help="What --copy leaves out of the working directory, in the language of .dockerignore.",
    )  # fmt: skip
    link: Link = option(
        OneOf(Link), default="hard", shown="hard", field="link", help="How a root file stands for a store file."
    )  # fmt: skip
    follow_dirlinks: bool = option(
        FLAG, default=False, field="follow_dirlinks",
        help="A tree's link to a directory becomes a directory of what is in that one."
    )  # fmt: skip
    conflict: Conflict = option(
        OneOf(Conflict), default="error", shown="error", field="conflict",
        help="Which file counts where two trees have one at the same path.",
    )  # fmt: skip
    keep_dirlinks: bool = option(
        FLAG, default=False, field="keep_dirlinks", help="A directory goes where another tree has a link to a directory."
    )  # fmt: skip
    base: tuple[str, ...] = option(
        TEXTS, default=(), metavar="IMAGE", attribute="Bases", reads="image", section="Base and root filesystem",
        help="Build upon this image (PATH#NAME for one of several) or layer's directory; repeatable, lowest first.",
    )  # fmt: skip
    platform: Platform | None = option(
        PLATFORM, metavar="OS/ARCH[/VARIANT]", shown="this machine's", field="platform",
        help="Which image of a base that has several, and for which machine the scripts' programs are.",
    )  # fmt: skip
    most_bytes: int = option(
        SIZE, default=MOST_BYTES, metavar="SIZE", shown="16G", faces=WRITTEN,
        help="What a base's layer may unpack to, as 20G.",
    )  # fmt: skip
    rootfs: str | None = option(
        TEXT, metavar="DIR|TAR", field="rootfs", help="Start from this root filesystem, all of which is in the layer."
    )  # fmt: skip
    rootfs_listing: str | None = option(
        TEXT, metavar="MTREE", field="rootfs_listing", reads="file",
        help="Owners, modes and devices of a --rootfs DIR, as an mtree file.",
    )  # fmt: skip
    script: tuple[str | Script, ...] = option(
        SCRIPTS, default=(), metavar="FILE", attribute="Scripts", reads="file", section="Scripts",
        help="Run this script; repeatable, in order. A command behind -- is run last.",
    )  # fmt: skip
    run: str | None = option(
        TEXT, faces=Face.TOML | Face.NIX, attribute="Script", may_be_empty=True,
        help="Run this text, a script's, after the scripts and before the command.",
    )  # fmt: skip
    view: View = option(
        OneOf(View), default="root", shown="root", field="view",
        help="What a script sees: the tree as /, or this machine with the tree as working directory.",
    )  # fmt: skip
    emulator: str | None = option(
        TEXT, metavar="FILE", shown="qemu-user-static's", field="emulator",
        help="What runs the scripts' programs of another architecture in the root view: a static qemu-user.",
    )  # fmt: skip
    env: Mapping[str, str] = option(
        VARIABLES, default={}, metavar="NAME=VALUE", attribute="Environment", field="environment",
        help="Add to the scripts' environment; repeatable.",
    )  # fmt: skip
    user: str = option(
        TEXT, default="", metavar="USER[:GROUP]", shown="root", field="user",
        help="Run the scripts as this user: numbers, or names that the tree has.",
    )  # fmt: skip
    workdir: str = option(
        TEXT, default="", metavar="DIR", shown="the base's, else /", field="workdir",
        help="Start the scripts in this directory of the tree, which is made where it is missing.",
    )  # fmt: skip
    shell: tuple[str, ...] = option(
        SHELL, default=(), metavar="JSON|WORDS", shown="the base's, else sh -e", field="shell",
        help="What runs a script without #!: its text follows a last word like -c, else its path.",
    )  # fmt: skip
    network: Network = option(
        OneOf(Network), default="none", shown="none", faces=WRITTEN, field="network",
        help="Which network a script has: none but its own 127.0.0.1, or this machine's.",
    )  # fmt: skip
    mount: tuple[Mount, ...] = option(
        MOUNTS, default=(), metavar="type=TYPE,NAME=VALUE", attribute="Mounts", field="mounts",
        help="Show the scripts a bind, cache, secret or tmpfs, which is not in the layer; repeatable.",
    )  # fmt: skip
    timeout: float | None = option(SECONDS, metavar="SECONDS", field="timeout", help="Kill a script that takes longer.")
    allow_sparse: bool = option(
        FLAG, default=False, field="allow_sparse", section="The layer",
        help="Write files with more than 1 GiB of holes, every byte of them."
    )  # fmt: skip
    tidy: bool = option(
        FLAG, default=False, field="tidy",
        help="Leave out what is another in each build: logs and caches of package managers, machine-id and their like.",
    )  # fmt: skip
    link_identical: bool = option(
        FLAG, default=False, field="link_identical",
        help="Make hard links of the closure's files that are one another's bytes once more.",
    )  # fmt: skip
    closure_writable: bool = option(
        FLAG, default=False, field="closure_writable", section="Scripts",
        help="Give the scripts copies of the store paths, to change."
    )  # fmt: skip
    stage: Stage = option(
        OneOf(Stage), default="auto", shown="auto",
        help="How store paths get in front of a script; hardlink is for trusted scripts only.",
    )  # fmt: skip
    compression: Compression = option(
        COMPRESSION, default=Compression(), shown="none", metavar="KIND[:LEVEL]", field="compression", section="The layer",
        help="none, gzip (0 to 3) or zstd (1 to 19).",
    )  # fmt: skip
    blob: Blob = option(
        OneOf(Blob), default="stored", shown="stored", nix_default="derived",
        help="Write the blob, or only what makes it again of the files: these have to stay where they are.",
    )  # fmt: skip
    source_date_epoch: int | None = option(
        EPOCH, metavar="SECONDS", shown="the variable, else 1", attribute="Epoch", nix_default=1, field="source_date_epoch",
        help="Later times become this one.",
    )  # fmt: skip
    uid: int = option(ID, default=0, shown="0", field="uid", help="Who owns what no script made.")
    gid: int = option(ID, default=0, shown="0", field="gid", help="Which group owns it.")
    uname: str = option(
        TEXT, default="", metavar="NAME", shown="none", field="uname",
        help="What the tar's headers call that user; engines go by the number.",
    )  # fmt: skip
    gname: str = option(TEXT, default="", metavar="NAME", shown="none", field="gname", help="What they call that group.")
    created_by: str = option(
        TEXT, default="", metavar="TEXT", shown="rootless-layer build", faces=WRITTEN, field="created_by",
        help="What an image's history says made the layer.",
    )  # fmt: skip
    comment: str = option(
        TEXT, default="", metavar="TEXT", faces=WRITTEN, field="comment", help="What the history says of the layer besides."
    )  # fmt: skip
    cache: bool = option(
        FLAG, default=False, negative="no-cache", shown="no-cache", faces=Face.COMMAND, section="Output",
        help="Take the layer from the cache where nothing changed, else keep it there.",
    )  # fmt: skip
    cache_size: str | None = option(
        LIMIT, metavar="SIZE", shown="ROOTLESS_LAYER_CACHE_SIZE, else 20G", faces=Face.COMMAND,
        help="What the cache may hold: bytes, or with K, M, G or T; none is no limit.",
    )  # fmt: skip
    output: str | None = option(
        TEXT, short="o", metavar="DIR", faces=WRITTEN, required=True, each_its_own=True,
        help="Put the layer here, in the place of an earlier one.",
    )  # fmt: skip
    as_json: bool = option(FLAG, default=False, name="json", faces=Face.COMMAND, help="Print layer.json.")
    as_list: bool = option(
        FLAG, default=False, name="list", faces=Face.COMMAND, help="Print the layer's paths, with owners and modes."
    )  # fmt: skip
    on_failure: OnFailure | None = option(
        OneOf(OnFailure), faces=Face.COMMAND, help="Open a shell in the view of a script that fails; it needs a terminal."
    )  # fmt: skip
    quiet: bool = option(FLAG, default=False, short="q", faces=Face.COMMAND, help="Say nothing but errors.")
    verbose: bool = option(
        FLAG, default=False, short="v", faces=Face.COMMAND, help="Say each step with its seconds, on a terminal or not."
    )  # fmt: skip

    @property
    def bases(self) -> tuple[str, ...]:
        """Give what it is built upon, as an image has it, too."""
        return self.base

    @property
    def copied(self) -> tuple[str, ...]:
        """Give the images that files are copied from, each once."""
        return tuple(dict.fromkeys(each.image for each in self.copies_from))

    @property
    def layers(self) -> tuple[str, ...]:
        """Give no layers: a layer has none on top."""
        return ()


def check_something(spec: LayerSpec, options: LayerOptions) -> None:
    """Refuse a layer of nothing; raises :class:`InputError`."""
    trees = spec.closure or spec.copy_to_root or spec.copies or spec.rootfs or spec.rootfs_listing
    if not (trees or spec.scripts or spec.workdir or options.base or options.copied):
        message = "there is nothing to make a layer of: name a closure, a tree, a root filesystem, a base or a script"
        raise InputError(message)
