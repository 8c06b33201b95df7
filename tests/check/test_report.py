"""``rootless-layer report``: a page that holds all of an image, and shows it without a network."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.image_layouts import layout_of, tar_of
from helpers.images import DIRECTORY, SYMBOLIC, tar
from helpers.roots import busybox_root
from helpers.rpm import header, rpm_database
from helpers.users import COMMAND, User, good

LOWER = "mkdir srv/keep srv/gone && head -c 300000 /dev/urandom > srv/keep/one && cp srv/keep/one srv/keep/two && echo x > srv/gone/file"
UPPER = """
rm -r srv/gone
head -c 5000 /dev/urandom > srv/keep/two
cp bin/busybox srv/tool && chown 0:44 srv/tool && chmod u+s srv/tool
mknod srv/null c 1 3
mkdir srv/open && chmod 777 srv/open
touch 'srv/<script>&"'
"""


@pytest.fixture
def images(somebody: User) -> tuple[str, str]:
    """An image of one layer, and one of that and another layer."""
    home = somebody.home
    good(somebody.build("--rootfs", busybox_root(), "--", "sh", "-ec", LOWER, output="lower"))
    good(somebody.run([*COMMAND, "image", "--layer", home / "lower", "-t", "one:1", "-o", home / "one.tar"]))
    good(somebody.build("--base", home / "one.tar", "--", "sh", "-ec", UPPER, output="upper"))
    layers = ["--base", home / "one.tar", "--layer", home / "upper"]
    good(somebody.run([*COMMAND, "image", *layers, "-t", "two:1", "-o", home / "two.tar"]))
    return str(home / "one.tar"), str(home / "two.tar")


def reported(somebody: User, *images: str) -> tuple[Path, dict[str, Any]]:
    """Write a page, and give it with the data that is in it."""
    path = somebody.home / "report.html"
    good(somebody.run([*COMMAND, "report", *images, "-o", path]))
    found = re.search(r'<script id="data"[^>]*>([A-Za-z0-9+/=]+)</script>', path.read_text())
    assert found
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return path, data


def paths(data: dict[str, Any], image: int = -1) -> dict[tuple[int, str], dict[str, Any]]:
    """Give each file of an image by its layer and path."""
    names = [""]
    for name, parent in zip(data["names"][1:], data["parents"][1:], strict=True):
        names.append(f"{names[parent]}/{name}")
    rows = data["images"][image]["rows"]
    columns = ("size", "mode", "owner", "flags")
    return {
        (layer, names[path]): {column: rows[column][number] for column in columns}
        | {"owner": rows["owners"][rows["owner"][number]]}
        for number, (path, layer) in enumerate(zip(rows["path"], rows["layer"], strict=True))
    }


def test_the_page_has_each_file_of_each_layer(somebody: User, images: tuple[str, str]) -> None:
    """Sizes, modes and owners are those of the layers; what is hidden, stands twice or is gone is marked."""
    path, data = reported(somebody, images[1])
    [image] = data["images"]
    said = json.loads(good(somebody.run([*COMMAND, "inspect", "--json", "--list", images[1]])).out)[0]
    found = paths(data)
    listed = [row for layer in said["layers"] for row in layer["list"] if row["change"] != "removed"]
    assert len(found) == len(listed)
    assert [layer["digest"] for layer in image["layers"]] == [layer["digest"] for layer in said["layers"]]
    tool = found[1, "/srv/tool"]
    assert (tool["mode"] & 0o7777, tool["owner"]) == (0o4755, "0:44")
    assert found[0, "/srv/keep/two"]["flags"] & 1  # hidden by the layer above
    assert not found[1, "/srv/keep/two"]["flags"] & 1
    assert found[0, "/srv/gone/file"]["flags"] & 1
    assert found[0, "/srv/keep/one"]["flags"] & 2  # its data stands twice
    assert image["layers"][1]["hides"]["bytes"] == 300000 + 2
    assert image["wasted"]["within"] >= 300000
    text = path.read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert not re.search(r"(src|href)=|https?://|@import|url\(", text)


def test_two_images(somebody: User, images: tuple[str, str]) -> None:
    """What one has more than the other is told; three are too many, and nothing is written then."""
    _, data = reported(somebody, *images)
    assert [image["names"] for image in data["images"]] == [["docker.io/library/one:1"], ["docker.io/library/two:1"]]
    assert data["changes"]["count"]["-"] == 2
    assert {sign for sign, *_ in data["changes"]["largest"]} == {"+", "-", "~"}
    done = somebody.run([*COMMAND, "report", *images, images[0], "-o", somebody.home / "three.html"])
    assert done.status == 2
    assert "these are 3" in done.err
    assert not (somebody.home / "three.html").exists()


def test_the_page_is_the_same_each_time(somebody: User, images: tuple[str, str]) -> None:
    """It has no clock in it; a layer's directory has a page as well, and stdout takes one."""
    path, _ = reported(somebody, images[1])
    before = path.read_bytes()
    assert reported(somebody, images[1])[0].read_bytes() == before
    text = good(somebody.run([*COMMAND, "report", somebody.home / "upper", "-o", "-"])).out
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")


CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}


def packages(somebody: User, *layers: bytes) -> dict[str, str]:
    """Give the package of each file of an image that has one, as the page of it has it."""
    folder = layout_of(Path(tempfile.mkdtemp(dir=somebody.home)), CONFIG, list(layers))
    folder.chmod(0o755)
    _, data = reported(somebody, str(folder))
    rows = data["images"][0]["rows"]
    named = [rows["packages"][number] for number in rows["package"]]
    return {path: name for (_, path), name in zip(paths(data), named, strict=True) if name}


def test_files_are_of_packages(somebody: User) -> None:
    """dpkg's lists name paths through links to directories; apk's and rpm's databases are read; a damaged one names nothing."""
    merged = tar(("usr", DIRECTORY), ("usr/lib", DIRECTORY), ("lib", SYMBOLIC, "usr/lib"))
    files = {"usr/lib/libc.so.6": b"c", "usr/bin/tool": b"t", "srv/own": b"o"}
    libc = {"var/lib/dpkg/info/libc6:amd64.list": b"/.\n/lib/libc.so.6\n/usr/bin/tool\n"}
    tool = {"var/lib/dpkg/info/tool.list": b"/usr\n/usr/bin\n/usr/bin/tool\n/usr/share/absent\n"}
    found = packages(somebody, merged, tar_of(**files, **libc), tar_of(**tool))
    assert found == {"/usr/lib/libc.so.6": "libc6", "/usr/bin/tool": "tool"}
    small = {"var/lib/dpkg/status.d/tool.md5sums": b"d41d8cd98f00b204e9800998ecf8427e  usr/bin/tool\n"}
    assert packages(somebody, tar_of(**files, **small)) == {"/usr/bin/tool": "tool"}
    apk = {"usr/lib/apk/db/installed": b"P:musl\nF:lib\n\nP:tool\nV:1\nF:usr\nF:usr/bin\nR:tool\na:0:0:755\n"}
    assert packages(somebody, tar_of(**files, **apk)) == {"/usr/bin/tool": "tool"}
    row = header({1000: "glibc", 1116: [0, 1, 9], 1117: ["libc.so.6", "tool", "lost"], 1118: ["/usr/lib/", "/usr/bin/"]})
    database = rpm_database(somebody.home / "rpm", header({1000: "without"}), row)
    rpm = {"var/lib/rpm/rpmdb.sqlite": database}
    assert packages(somebody, tar_of(**files, **rpm)) == {"/usr/lib/libc.so.6": "glibc", "/usr/bin/tool": "glibc"}
    damaged = {"var/lib/rpm/rpmdb.sqlite": b"SQLite format 3\0" + bytes(200)}
    assert packages(somebody, tar_of(**files, **damaged)) == {}


@pytest.fixture
def browser() -> Iterator[Any]:
    """A real Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("ROOTLESS_LAYER_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


def test_a_person_looks_around(somebody: User, images: tuple[str, str], browser: Any) -> None:
    """A click on a layer shows that, a search finds, keys and clicks go into directories and out; the console says nothing."""
    path, _ = reported(somebody, *images)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert "pulls 1 layer of 2" in page.inner_text("#pull")
    crumbs = page.locator("#crumbs button")
    assert crumbs.all_inner_texts() == ["/"]
    page.locator("#children button").first.click()
    assert crumbs.count() == 2
    page.locator("#map").focus()
    page.keyboard.press("Backspace")
    assert crumbs.count() == 1
    page.keyboard.press("Enter")
    assert crumbs.count() == 2
    page.keyboard.press("Escape")
    page.locator("#map").click()
    assert crumbs.count() == 2
    page.fill("#search", "SRV/TOOL")
    assert page.inner_text("#found") == "1 path"
    page.locator("#hits button").click()
    assert crumbs.last.inner_text() == "srv"
    assert "/srv/tool" in page.inner_text("#tip")
    assert "-rwsr-xr-x 0:44" in page.inner_text("#tip")
    page.fill("#search", "<script>")
    assert page.inner_text("#found") == "1 path"
    page.locator(".layer").nth(1).click()  # the lowest layer, where another file stands
    assert page.locator(".layer").nth(1).get_attribute("aria-pressed") == "true"
    for colour in ("owner", "waste", "group"):
        page.select_option("#colour", colour)
    page.emulate_media(color_scheme="dark")
    page.locator(".images button").first.click()
    assert page.locator(".layer").count() == 2
    assert said == []
    page.close()


def test_a_person_sees_packages(somebody: User, browser: Any) -> None:
    """A file's package stands beside it, and in the table of packages with the bytes of all its files."""
    files = {"usr/bin/tool": b"t" * 3000, "usr/bin/other": b"o" * 2000, "srv/own": b"o" * 70}
    lists = {"var/lib/dpkg/info/tool.list": b"/usr/bin/tool\n/usr/bin/other\n"}
    folder = layout_of(somebody.home / "packages", CONFIG, [tar_of(**files, **lists)])
    path, _ = reported(somebody, str(folder))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.fill("#search", "bin/tool")
    page.locator("#hits button").click()
    assert "package tool" in page.inner_text("#tip")
    row = page.locator("#more details").first.locator("tbody tr").first
    assert row.locator("td").all_inner_texts() == ["4.9 KiB", "tool"]
    page.close()
