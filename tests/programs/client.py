"""A builder that uses the library: a root filesystem becomes a base, an app goes on top, and both an archive.

client.py ROOTFS APP FOLDER: the archive is FOLDER/app.tar.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rootless_layer import (
    Compression,
    Image,
    Layer,
    LayerSpec,
    NamedImage,
    Platform,
    Progress,
    RootlessLayerError,
    Script,
    build_layer,
    compare,
    inspect,
    open_base,
    open_images,
    open_layer,
    validate,
    write_images,
)
from rootless_layer.errors import ScriptError


def show(step: Progress) -> None:
    """Tell a person how far it is."""
    if step.note or step.script:
        print(f"{step.stage}: {step.note or step.script}", file=sys.stderr)


def build(rootfs: Path, app: Path, folder: Path) -> NamedImage:
    """Build a base, a layer upon it, and the image of both."""
    cache = folder / "cache"
    base: Layer = build_layer(LayerSpec(rootfs=rootfs), folder / "base", cache=cache, progress=show)
    with open_base(base, cache=cache, progress=show) as below:
        spec = LayerSpec(
            base=below,
            copy_to_root=[app],
            scripts=[Script.text("chown 12:34 app\n", "owners")],
            view="directory",
            compression=Compression.parse("zstd:3"),
        )
        change = build_layer(spec, folder / "change", cache=cache, progress=show)
    image = Image.empty(Platform.host()).append(open_layer(base.directory), open_layer(change.directory))
    return NamedImage(image.configured({"Cmd": ["/app/run"]}), ("app:1",))


def main() -> int:
    """Be the program."""
    rootfs, app, folder = map(Path, sys.argv[1:])
    same = False
    try:
        named = build(rootfs, app, folder)
        write_images([named], folder / "app.tar", "archive", progress=show)
        with open_images(folder / "app.tar") as images, open(folder / "again.tar", "wb") as file:
            write_images(images, file, "archive")
        same = compare(folder / "app.tar", folder / "again.tar").equal and validate(folder / "app.tar").valid
        for report in inspect(folder / "app.tar"):
            print("\n".join(report.lines()))
        build_layer(LayerSpec(rootfs=rootfs, scripts=[Script.text("exit 3")], view="directory"), folder / "bad")
    except ScriptError as error:
        print(f"as it should be: {error}", file=sys.stderr)
        return 0 if same and error.status == 3 else 1
    except RootlessLayerError as error:
        print(error, error.hint, file=sys.stderr)
        return error.exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main())
