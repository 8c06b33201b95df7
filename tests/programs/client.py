"""A builder that uses the library: a root filesystem becomes a base, an app goes on top, and both an archive.

client.py ROOTFS APP FOLDER: the archive is FOLDER/app.tar.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rootless_layer as rl
from rootless_layer.errors import ScriptError


def show(step: rl.Progress) -> None:
    """Tell a person how far it is."""
    if step.note or step.script:
        print(f"{step.stage}: {step.note or step.script}", file=sys.stderr)


def build(rootfs: Path, app: Path, folder: Path) -> rl.NamedImage:
    """Build a base, a layer upon it, and the image of both."""
    cache = folder / "cache"
    base: rl.Layer = rl.build_layer(rl.LayerSpec(rootfs=rootfs), folder / "base", cache=cache, progress=show)
    with rl.open_base(base, cache=cache, progress=show) as below:
        spec = rl.LayerSpec(
            base=below,
            copy_to_root=[app],
            scripts=[rl.Script.text("chown 12:34 app\n", "owners")],
            view="directory",
            compression=rl.Compression.parse("zstd:3"),
        )
        change = rl.build_layer(spec, folder / "change", cache=cache, progress=show)
    image = rl.Image.empty(rl.Platform.host()).append(rl.open_layer(base.directory), rl.open_layer(change.directory))
    return rl.NamedImage(image.configured({"Cmd": ["/app/run"]}), ("app:1",))


def main() -> int:
    """Be the program."""
    rootfs, app, folder = map(Path, sys.argv[1:])
    same = False
    try:
        named = build(rootfs, app, folder)
        rl.write_images([named], folder / "app.tar", "archive", progress=show)
        with rl.open_images(folder / "app.tar") as images, open(folder / "again.tar", "wb") as file:
            rl.write_images(images, file, "archive")
        same = rl.compare(folder / "app.tar", folder / "again.tar").equal and rl.validate(folder / "app.tar").valid
        for report in rl.inspect(folder / "app.tar"):
            print("\n".join(report.lines()))
        rl.build_layer(rl.LayerSpec(rootfs=rootfs, scripts=[rl.Script.text("exit 3")], view="directory"), folder / "bad")
    except ScriptError as error:
        print(f"as it should be: {error}", file=sys.stderr)
        return 0 if same and error.status == 3 else 1
    except rl.RootlessLayerError as error:
        print(error, error.hint, file=sys.stderr)
        return error.exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main())
