"""Values as people write them: what is taken, and how what is not is said, wherever it is given."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pytest

from rootless_layer.cache.room import limit, parse_limit
from rootless_layer.cli.main import main
from rootless_layer.errors import InputError
from rootless_layer.make.file import load
from rootless_layer.oci.number import seconds, whole
from rootless_layer.oci.time import created, environment_epoch, parse_time
from rootless_layer.options.kinds import SIZE
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.session.inside import init
from rootless_layer.tar.compression import Compression

ODD = ("", " 1", "1 ", "+1", "1_000", "²", "٣", "1e3", "0x1", "1.5", "9" * 5000)
"""What Python reads as a number, or says to be digits, and a person does not write."""


@pytest.mark.parametrize("text", ODD)
def test_odd_numbers_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a number of a person's takes ASCII digits alone, and names the text."""
    for read in (whole, lambda text: Compression.parse(f"gzip:{text}"), parse_time, parse_limit):
        with pytest.raises(InputError):
            read(text)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(InputError):
        environment_epoch()
    for option in ("--uid", "--gid", "--most-bytes", "--source-date-epoch", "--cache-size", "--compression"):
        with pytest.raises(click.UsageError):
            main(["build", "-o", "never", option, f"gzip:{text}" if option == "--compression" else text], standalone_mode=False)
    for option in ("--max-layers", "--uid", "--gid", "--source-date-epoch", "--cache-size", "--compression"):
        words = ["image", "-o", "never", "--closure", "none", option, f"zstd:{text}" if option == "--compression" else text]
        with pytest.raises(click.UsageError):
            main(words, standalone_mode=False)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1_0", "٣", "1e3", " 1", "0.0"])
def test_odd_times_are_refused(text: str) -> None:
    """A timeout is a number of seconds above 0."""
    with pytest.raises(InputError):
        seconds(text)
    with pytest.raises(click.UsageError):
        main(["build", "-o", "never", "--timeout", text], standalone_mode=False)


def test_the_kernel_is_asked_for_no_more_than_it_counts(tmp_path: Path) -> None:
    """A time of years is waited for in parts, each a number of milliseconds that poll(2) takes; one that no float holds is refused."""
    for timeout in (0.5, 2147484, 1e10, 999999999999999, 1e300):
        wait = init._milliseconds(time.monotonic() + LayerSpec(timeout=timeout).timeout)  # type: ignore[operator]
        assert wait is not None
        assert 0 <= wait < 2**31
    assert init._milliseconds(None) is None
    with pytest.raises(InputError, match="timeout"):
        LayerSpec(timeout=10**400)
    (tmp_path / "make.toml").write_text(f"[layer.a]\ntimeout = 1{'0' * 400}\n")
    with pytest.raises(InputError, match="timeout"):
        load(str(tmp_path / "make.toml"))


def test_numbers_are_read() -> None:
    """Bounds count; a time is whole seconds or parts of them."""
    assert [whole("0"), whole("007"), whole("5", 5, 5), whole("-3", -3)] == [0, 7, 5, -3]
    assert [seconds("30"), seconds("0.25")] == [30, 0.25]
    for text, lowest, highest in (("4", 5, 9), ("10", 5, 9), ("-1", 0, 9), (str(2**63), 0, 2**63 - 1)):
        with pytest.raises(InputError, match=text):
            whole(text, lowest, highest)


def test_a_size_of_make_is_one_of_the_commands() -> None:
    """A size is bytes, or with a unit, in a file as on the command line; nothing is none."""
    assert [SIZE.of_toml(given) for given in (5, "5", "2K", "1G")] == [5, 5, 2048, 1 << 30]
    for given in (0, "0", "", "2X", True):
        with pytest.raises(InputError):
            SIZE.of_toml(given)
    assert [SIZE.of_text(given) for given in ("2K", "7")] == [2048, 7]
    with pytest.raises(InputError):
        SIZE.of_text("0K")


def test_compressions_are_read() -> None:
    """A kind has its own level, or the one that is given; others are refused by name."""
    assert [Compression.parse(text) for text in ("none", "gzip", "gzip:0", "zstd:19")] == [
        Compression(), Compression("gzip", 2), Compression("gzip", 0), Compression("zstd", 19),
    ]  # fmt: skip
    for text in ("lz4", "gzip:9", "gzip:x", "gzip:", "gzip:-1", ":2", "gzip:1:2", "none:1"):
        with pytest.raises(InputError, match=r"lz4|gzip|not a compression|none"):
            Compression.parse(text)


def test_the_epoch_is_no_time_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOURCE_DATE_EPOCH is seconds since 1970 for layers and images alike; ``now`` counts where an option says it."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert (environment_epoch(), created(None)) == (1, "1970-01-01T00:00:01Z")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert (environment_epoch(), created(None), created("0")) == (86400, "1970-01-02T00:00:00Z", "1970-01-01T00:00:00Z")
    assert created("now") > "2020"
    for text in ("now", "253402300800"):  # the year 10000 is none of RFC 3339
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        for read in (environment_epoch, lambda: created(None)):
            with pytest.raises(InputError, match=text):
                read()
        for words in (["build", "-o", "never"], ["image", "-o", "never"], ["make", "never"]):
            with pytest.raises(click.UsageError, match=text):
                main(words, standalone_mode=False)


def test_the_caches_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 20 GiB where nobody says anything else, and may be none; a variable that says nothing is refused by name."""
    monkeypatch.delenv("ROOTLESS_LAYER_CACHE_SIZE", raising=False)
    assert limit() == 20 << 30
    for text, most in (("none", None), ("0", 0), ("3M", 3 << 20), ("", 20 << 30)):
        monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", text)
        assert limit() == most
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "much")
    for words in (["build", "-o", "never"], ["image", "-o", "never"], ["make", "never"], ["cache", "ls"], ["cache", "gc"]):
        with pytest.raises(click.UsageError, match="much"):
            main(words, standalone_mode=False)


def test_a_wrong_value_in_a_file_names_its_key(tmp_path: Path) -> None:
    """What is a usage error of an option is a fault of the file in one."""
    path = tmp_path / "make.toml"
    path.write_text("[layer.a]\nmost-bytes = 0\ntimeout = 'x'\n")
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert [problem.split(": ")[1:3] for problem in caught.value.problems] == [["layer.a", "most-bytes"], ["layer.a", "timeout"]]
