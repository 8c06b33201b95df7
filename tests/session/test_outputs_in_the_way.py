"""An output that cannot be put in its place is refused, and is never damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.aftermath import CLOSED, assert_said, assert_whole_or_absent, marked
from helpers.stores import fingerprint
from helpers.users import COMMAND, SOMEBODY, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


def test_an_output_that_is_in_the_way(user: User, content: Path) -> None:
    """What is no layer is never replaced: 73, it is named and stays; an empty directory or an earlier layer is."""
    home = user.home
    (home / "full").mkdir()
    (home / "full/mine").write_text("mine\n")
    (home / "file").write_text("mine\n")
    (home / "dangling").symlink_to(home / "nowhere")
    (home / "empty").mkdir()
    if os.geteuid() == 0 and not user.is_root:
        os.chown(home / "empty", SOMEBODY, SOMEBODY)
    options = ["--copy-to-root", str(content), *marked(user)]
    for name in ("full", "file", "dangling"):
        before = fingerprint(home / "full"), os.lstat(home / name).st_ino
        assert_said(user.build(*options, output=name), 73, f"{name}: ", "-o")
        assert (fingerprint(home / "full"), os.lstat(home / name).st_ino) == before
    for name in ("none/layer", "file/layer"):
        assert_said(user.build(*options, output=name), 73, name.split("/")[0], "-o")
    assert user.build(*options, output="empty").status == 0
    assert user.build(*options, output="empty").status == 0
    assert assert_whole_or_absent(home / "empty")


def test_an_output_that_may_not_be_written(user: User, content: Path) -> None:
    """A place that the user may not write to is named: 73."""
    if user.is_root:
        pytest.skip("root writes everywhere")
    (user.home / "closed").mkdir()
    (user.home / "closed").chmod(0o555)
    assert_said(user.build("--copy-to-root", content, *marked(user), output="closed/layer"), 73, "closed/layer", CLOSED, "-o")


def test_a_link_to_an_earlier_layer(user: User, content: Path) -> None:
    """Where the output is a link to a layer, either the layer or the link is replaced, or it is refused: in order."""
    options = ["--copy-to-root", str(content), *marked(user)]
    assert user.build(*options, output="layer").status == 0
    (user.home / "link").symlink_to("layer")
    result = user.build(*options, output="link")
    assert "Traceback" not in result.err, result.err
    assert result.status in {0, 73}, result.err
    assert assert_whole_or_absent(user.home / "layer")


def test_nobody_takes_the_data(user: User, content: Path) -> None:
    """A closed stdout is no crash: the layer is whole, and no traceback is printed."""
    for redirection in (">&-", "> /dev/full", "| true"):
        for words in ("--json", "--list"):
            command = " ".join(
                map(str, [*COMMAND, "build", "-o", user.home / "layer", "--copy-to-root", content, *marked(user), words])
            )
            result = user.run(["sh", "-c", f"{command} {redirection}"])
            assert "Traceback" not in result.err, (redirection, result.err)
            assert "Exception" not in result.err, (redirection, result.err)
            assert assert_whole_or_absent(user.home / "layer")
