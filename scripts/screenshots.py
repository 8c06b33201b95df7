"""Take the pictures of a report's page that the documentation shows: light and dark, by Debian's Chromium and playwright.

ROOTLESS_LAYER_TEST_BROWSER=1 scripts/check installs both. The page is that of two images, as docs/start.md makes it:
rootless-layer report hello.tar hello2.tar -o report.html
python scripts/screenshots.py report.html docs/screenshots
"""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

SIZE = {"width": 1120, "height": 1080}
QUALITY = 0.8
CONVERT = """async ([data, quality]) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${data}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""
"""Has the browser make WebP of a PNG: a picture has a third of the bytes then."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def take(browser: Browser, page: Path, folder: Path) -> None:
    """Take a picture in each scheme of colours, of the map as it is first seen."""
    for scheme in SCHEMES:
        seen = browser.new_page(viewport=SIZE, color_scheme=scheme)
        seen.goto(page.resolve().as_uri())
        seen.wait_for_selector("html[data-ready=yes]")
        box = seen.locator("#map").bounding_box()
        if box is not None:
            seen.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        taken = base64.b64encode(seen.screenshot()).decode()
        picture = base64.b64decode(seen.evaluate(CONVERT, [taken, QUALITY]))
        (folder / f"report-{scheme}.webp").write_bytes(picture)
        seen.close()


def main(page: str, folder: str) -> None:
    """Take the pictures."""
    Path(folder).mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        take(browser, Path(page), Path(folder))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
