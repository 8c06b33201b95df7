"""The options of an image: those of ``image``, of ``[image.NAME]`` in a file of ``make``, and some of ``nix-image``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.image.format import BY_IMAGE, BillForm, Format
from rootless_layer.oci.config import exposed
from rootless_layer.registry.name import is_registry
from rootless_layer.store.layering import MOST_LAYERS

from .kinds import COMPRESSION, COUNT, EPOCH, FLAG, ID, LIMIT, PLATFORM, TEXT, TIME, OneOf
from .lists import DOCUMENTS, PAIRS, PORTS, SHELL, TEXTS, VARIABLES, WORDS
from .option import WRITTEN, Face, option, rows

if TYPE_CHECKING:
    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.tar.compression import Compression

    from .lists import Document, Pairs


@attrs.frozen(kw_only=True, slots=True)
class ImageOptions:
    """What was asked for of an image; of what was not, the default. Paths are not looked at.

    Of options that go with a closure, ``None`` is that nobody gave them.
    """

    base: str | None = option(
        TEXT, metavar="IMAGE", reads="image", section="What it is made of",
        help="Build upon this: an image layout, an archive or a layer's directory; PATH#NAME for one of several.",
    )  # fmt: skip
    closure: tuple[str, ...] = option(
        TEXTS, default=(), metavar="FILE|DIR", reads="file",
        help="Store paths, in any form that `build --closure` reads: split into layers, between the base and --layer.",
    )  # fmt: skip
    store_root: str = option(
        TEXT, default="/", metavar="DIR", faces=WRITTEN, help="Where the store lies, as in `nix --store DIR`."
    )  # fmt: skip
    max_layers: int | None = option(
        COUNT, metavar="N", shown=str(MOST_LAYERS), with_closure=True,
        help="How many layers the image may have with a --closure, the base's and --layer's too.",
    )  # fmt: skip
    layering: str | None = option(
        TEXT, metavar="balanced|popularity|size|FILE", shown="balanced", faces=WRITTEN, with_closure=True, reads="file",
        help="How the closure is split; FILE is JSON, a list of groups of store paths and name patterns, or nixpkgs'"
        " layeringPipeline.",
    )  # fmt: skip
    compression: Compression | None = option(
        COMPRESSION, metavar="KIND[:LEVEL]", shown="none", faces=WRITTEN, with_closure=True, field="compression",
        help="The closure's layers: as in build.",
    )  # fmt: skip
    source_date_epoch: int | None = option(
        EPOCH, metavar="SECONDS", attribute="Epoch", nix_default=1, with_closure=True, field="source_date_epoch",
        help="As in build, for the closure.",
    )  # fmt: skip
    uid: int | None = option(ID, shown="0", with_closure=True, field="uid", help="Who owns the closure's files.")
    gid: int | None = option(ID, shown="0", with_closure=True, field="gid", help="Which group owns them.")
    uname: str | None = option(
        TEXT, metavar="NAME", shown="none", with_closure=True, field="uname",
        help="What the headers of the closure's layers call that user.",
    )  # fmt: skip
    gname: str | None = option(
        TEXT, metavar="NAME", shown="none", with_closure=True, field="gname", help="What they call that group."
    )  # fmt: skip
    allow_sparse: bool | None = option(
        FLAG, with_closure=True, field="allow_sparse", help="Write files with more than 1 GiB of holes, every byte of them."
    )  # fmt: skip
    link_identical: bool | None = option(
        FLAG, with_closure=True, field="link_identical",
        help="Make hard links of a layer's files that are one another's bytes once more.",
    )  # fmt: skip
    cache: bool | None = option(
        FLAG, negative="no-cache", shown="no-cache", faces=Face.COMMAND, with_closure=True,
        help="Take the closure's layers from the cache, and keep there those that are not.",
    )  # fmt: skip
    cache_size: str | None = option(
        LIMIT, metavar="SIZE", shown="ROOTLESS_LAYER_CACHE_SIZE, else 20G", faces=Face.COMMAND,
        help="What the cache may hold: bytes, or with K, M, G or T; none is no limit.",
    )  # fmt: skip
    layers: tuple[str, ...] = option(
        TEXTS, default=(), name="layer", key="layers", attribute="Layers", metavar="DIR", reads="image",
        help="Put this layer on top, as `build -o` made it; repeatable.",
    )  # fmt: skip
    tag: tuple[str, ...] = option(
        TEXTS, default=(), short="t", metavar="NAME:TAG", faces=WRITTEN, each_its_own=True, section="What it says of itself",
        help="Name the image; repeatable."
    )  # fmt: skip
    documents: tuple[Document, ...] = option(
        DOCUMENTS, default=(), name="config", metavar="JSON|FILE", reads="file",
        help="Properties of the image-spec's config, as {\"Healthcheck\": …}; repeatable.",
    )  # fmt: skip
    env: Pairs = option(
        PAIRS, default={}, metavar="NAME=VALUE", faces=WRITTEN, config="Env", help="A variable of the container; repeatable."
    )  # fmt: skip
    entrypoint: tuple[str, ...] | None = option(
        WORDS, metavar="JSON|WORD", faces=WRITTEN, config="Entrypoint",
        help="The program that the container runs: a JSON list, or one word without blanks.",
    )  # fmt: skip
    cmd: tuple[str, ...] | None = option(
        WORDS, metavar="JSON|WORD", faces=WRITTEN, config="Cmd",
        help="Its arguments, or the program where there is no entrypoint: a JSON list, or one word without blanks.",
    )  # fmt: skip
    user: str | None = option(
        TEXT, metavar="USER[:GROUP]", faces=WRITTEN, config="User", may_be_empty=True, help="The user that the container runs as."
    )  # fmt: skip
    workdir: str | None = option(
        TEXT, metavar="DIR", faces=WRITTEN, config="WorkingDir", may_be_empty=True, help="The directory that it starts in."
    )  # fmt: skip
    expose: tuple[str, ...] = option(
        PORTS, default=(), metavar="PORT[-PORT][/PROTOCOL]", faces=WRITTEN, config="ExposedPorts",
        help="A port that it listens on; repeatable.",
    )  # fmt: skip
    volume: tuple[str, ...] = option(
        TEXTS, default=(), metavar="DIR", faces=WRITTEN, config="Volumes", help="A directory in which it keeps data; repeatable."
    )  # fmt: skip
    label: Pairs = option(PAIRS, default={}, metavar="NAME=VALUE", faces=WRITTEN, config="Labels", help="A label; repeatable.")
    annotation: Pairs = option(
        VARIABLES, default={}, metavar="KEY=VALUE", help="An annotation of the manifest; repeatable."
    )  # fmt: skip
    stop_signal: str | None = option(TEXT, metavar="SIGNAL", faces=WRITTEN, config="StopSignal", help="The signal that ends it.")
    author: str = option(
        TEXT, default="", metavar="TEXT", faces=WRITTEN, may_be_empty=True, help="Who is responsible for the image."
    )  # fmt: skip
    created_by: str = option(
        TEXT, default="", metavar="TEXT", faces=WRITTEN, help="What the history says made the image of its layers."
    )  # fmt: skip
    comment: str = option(TEXT, default="", metavar="TEXT", faces=WRITTEN, help="A comment beside that, in the history.")
    created: str | None = option(
        TIME, metavar="TIME", shown="SOURCE_DATE_EPOCH, else 1 second after 1970", nix_default="1970-01-01T00:00:01Z",
        help="RFC 3339, seconds since 1970, or `now`.",
    )  # fmt: skip
    platform: Platform | None = option(
        PLATFORM, metavar="OS/ARCH[/VARIANT]", shown="the base's, else this machine's", faces=WRITTEN,
        help="The platform that it is for.",
    )  # fmt: skip
    output: str | None = option(
        TEXT, short="o", metavar="OUT", faces=WRITTEN, required=True, each_its_own=True, section="Output",
        help="Write it there; - is stdout. A layout replaces a layout, an archive any file.",
    )  # fmt: skip
    format: Format | None = option(
        OneOf(Format), short="f", shown="an archive for - and *.tar, else a layout", faces=WRITTEN,
        help="An image layout (a directory), one archive for docker, podman and skopeo, or a docker-archive of the old shape.",
    )  # fmt: skip
    sbom: BillForm | None = option(
        OneOf(BillForm), help="Attach a bill of materials: the packages and store paths, by layer."
    )  # fmt: skip
    sign_by: tuple[str, ...] | None = option(
        SHELL, metavar="PROGRAM", faces=WRITTEN,
        help="Run this once the image is in a registry, with NAME@DIGEST as its last argument, as `cosign sign` takes it.",
    )  # fmt: skip
    as_json: bool = option(
        FLAG, default=False, name="json", faces=Face.COMMAND, help="Print what was written: digests, names, platforms."
    )  # fmt: skip
    quiet: bool = option(FLAG, default=False, short="q", faces=Face.COMMAND, help="Say nothing but errors.")
    verbose: bool = option(
        FLAG, default=False, short="v", faces=Face.COMMAND, help="Say each step with its seconds, on a terminal or not."
    )  # fmt: skip

    @property
    def step(self) -> tuple[str, str] | None:
        """Give what a row of the history says of the image itself: who made it, and a comment; nothing without any."""
        return (self.created_by or BY_IMAGE, self.comment) if self.created_by or self.comment else None

    @property
    def annotations(self) -> dict[str, str]:
        """Give the annotations, each of which has a value."""
        return {key: value or "" for key, value in self.annotation.items()}

    @property
    def copied(self) -> tuple[str, ...]:
        """Give nothing: an image has no files but its layers'."""
        return ()

    @property
    def bases(self) -> tuple[str, ...]:
        """Give what it is built upon, as a layer has it, which may have several."""
        return () if self.base is None else (self.base,)


OUTPUT = ("output", "format", "json", "quiet", "verbose")
"""The options of whatever writes images, by the command's words."""


def properties_of(options: ImageOptions) -> dict[str, dict[str, Any]]:
    """Give what the options say of the config but ``config`` itself: by each one's name, the properties that it sets."""
    return {
        row.name: {row.config: _property(row.config, value)}
        for row in rows(ImageOptions)
        if row.config and (value := getattr(options, row.variable)) is not None and (value != row.default)
    }


def _property(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    """Write an option's value as the config has it."""
    match name:
        case "Env":
            return [key if each is None else f"{key}={each}" for key, each in value.items()]
        case "Labels":
            return {key: each or "" for key, each in value.items()}
        case "Volumes":
            return {each: {} for each in value}
        case "ExposedPorts":
            return exposed(value)
        case "Entrypoint" | "Cmd":
            return list(value)
        case _:
            return value


def check_something(options: ImageOptions) -> None:
    """Refuse an image of nothing; raises :class:`InputError`."""
    if not (options.base or options.closure or options.layers):
        message = "there is nothing to make an image of: name a base, a closure or a layer"
        raise InputError(message)
    check_written(options)


def check_written(options: ImageOptions) -> None:
    """Refuse what cannot be written to the output that is named; raises :class:`InputError`."""
    given = "an annotation" if options.annotation else "a bill of materials" if options.sbom else ""
    if given and options.format == "docker-archive":
        message = f"a docker-archive has no manifest, so that nothing in it can have {given}"
        raise InputError(message, hint="Write another form.")
    if options.sign_by is not None and not is_registry(options.output or ""):
        message = "what is signed is in a registry, and the output is none"
        raise InputError(message, hint="Write it to docker://NAME.")
