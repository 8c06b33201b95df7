"""Why targets are made, what would be made, and targets that are made anew although nothing changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.caches import place
from helpers.make import CHAIN, DIRECTORY, chain, ends, events, make
from helpers.place import remove
from helpers.users import COMMAND, User

pytestmark = pytest.mark.slow

# Each run of `one` has another digest, and `two` has what it saw of it.
STEPS = (
    DIRECTORY
    + """
[layer.one]
run = "echo ONE; cat /proc/sys/kernel/random/uuid > one"
output = "one"
[layer.two]
base = "one"
copy-to-root = "tree"
env = { A = "1" }
run = "echo TWO >&2; cp one two"
[layer.apart]
run = "mkdir apart"
[image.all]
layers = ["two"]
output = "all.tar"
"""
)


def prepare(user: User) -> None:
    """Write what that file names."""
    (user.home / "tree/etc").mkdir(parents=True)
    (user.home / "tree/etc/name").write_text("1")


def whys(said: list[dict[str, Any]], event: str = "done") -> dict[str, str]:
    """Say why each node was made, or would be."""
    return {each["name"]: each["why"] for each in said if each["event"] == event}


def digests(said: list[dict[str, Any]]) -> dict[str, str]:
    """Give the digest of each node."""
    return {each["name"]: each["digest"] for each in said if each["event"] == "done"}


def test_it_is_said_why_each_is_made(user: User) -> None:
    """The first part of the key that changed is the reason; an unchanged node has none; the details name the path."""
    prepare(user)
    first = events(user, STEPS)
    assert whys(first) == {"one": "not built before", "two": "not built before", "apart": "not built before",
                           "all": "not written before"}  # fmt: skip
    assert set(whys(events(user, STEPS)).values()) == {""}
    (user.home / "tree/etc/name").write_text("2")
    changed = events(user, STEPS.replace('A = "1"', 'A = "2"').replace("mkdir apart", "mkdir -p apart"), "-j", "1")
    assert whys(changed) == {"one": "", "two": "copy-to-root, env changed", "apart": "script changed",
                             "all": "what it is made of changed"}  # fmt: skip
    details = {each["name"]: each["details"] for each in changed if each["event"] == "start"}
    assert details["two"] == ["copy-to-root: the 1. of 1: etc/name is another", "env: A is another"]
    user.run([*COMMAND, "cache", "gc", "--keep", "0"])
    remove(user.home / "one")
    (user.home / "all.tar").write_bytes(b"")
    again = events(user, STEPS.replace('A = "1"', 'A = "2"'))
    assert whys(again)["one"] == "not in the cache any more"
    assert whys(again)["apart"] == "changed"  # in what cannot be known, as its layer is gone


def test_a_person_is_told_why(user: User) -> None:
    """The summary has the reason of each, and --explain the details."""
    prepare(user)
    said = make(user, STEPS, "one").err
    assert "one: build: not built before" in said
    assert "one: built (not built before): sha256:" in said
    plain, explained = (
        make(user, STEPS.replace("ONE", word), "one", *words).err for word, words in (("X", ()), ("Y", ["--explain"]))
    )
    assert "script changed" in plain
    assert ("its text is another" in plain, "its text is another" in explained) == (False, True)


def test_a_target_is_built_anew_with_what_needs_it(users: list[User]) -> None:
    """--refresh builds a layer and all upon it although nothing changed; others stay, outputs follow, and the rest is kept."""
    for user in users:
        prepare(user)
        first = digests(events(user, STEPS))
        said = events(user, STEPS, "--refresh", "one")
        assert ends(said) == {"one": "built", "two": "built", "apart": "unchanged", "all": "written"}
        assert whys(said)["one"] == "refreshed"
        anew = digests(said)
        assert {name for name in first if first[name] != anew[name]} == {"one", "two", "all"}
        assert json.loads((user.home / "one/layer.json").read_text())["digest"] == anew["one"]
        assert digests(events(user, STEPS)) == anew
        assert set(ends(events(user, STEPS)).values()) == {"unchanged"}
        only = events(user, STEPS, "--refresh", "two")
        assert ends(only) == {"one": "unchanged", "two": "built", "apart": "unchanged", "all": "unchanged"}
        assert digests(only) == anew
        assert user.run([*COMMAND, "validate", "all.tar"]).status == 0


def test_what_a_tidy_layer_would_be_without_is_pointed_to(users: list[User]) -> None:
    """A layer that is refreshed says so where nothing differs but logs; one that differs elsewhere, or not at all, says nothing."""
    logs = DIRECTORY + '[layer.logs]\nrun = "mkdir -p var/log; cat /proc/sys/kernel/random/uuid > var/log/dpkg.log; echo %s"\n'
    for user in users:
        for text, notes in (
            (logs % "same", True), (logs % "more | cat - /proc/sys/kernel/random/uuid > more", False),
            (logs.replace("run", "tidy = true\nrun") % "tidy", False),
        ):  # fmt: skip
            first, said = events(user, text), events(user, text, "--refresh", "logs")
            assert any("tidy = true" in each.get("note", "") for each in said) == notes
            assert not any("tidy" in each.get("note", "") for each in first)
            assert (digests(first) == digests(said)) == ("tidy = true" in text)


def test_without_the_cache_all_is_built(user: User) -> None:
    """--no-cache builds every target, one layer that two have once; then the cache has what was built."""
    prepare(user)
    text = STEPS + '[layer.same]\nrun = "mkdir apart"\n'
    events(user, text)
    for jobs in "12":
        said = events(user, text, "--no-cache", "-j", jobs)
        assert sorted(each["name"] for each in said if each["event"] == "start" and each["action"] == "build") in [
            ["apart", "one", "two"], ["one", "same", "two"],
        ]  # fmt: skip
    assert set(ends(events(user, text)).values()) == {"unchanged"}


def test_what_another_target_uses_cannot_be_built_anew(user: User) -> None:
    """Where a layer is two targets', both are named or neither: else one of them would lose its own."""
    text = DIRECTORY + '[layer.a]\nrun = "mkdir a"\n[layer.b]\nrun = "mkdir a"\n'
    events(user, text)
    assert ends(events(user, text, "--refresh", "b", status=65)) == {"a": "unchanged", "b": "failed"}
    assert sorted(ends(events(user, text, "--refresh", "b", "--refresh", "a")).values()) == ["built", "unchanged"]


@pytest.mark.parametrize("words", [["--refresh", "nine"], ["one", "--refresh", "apart"], ["--refresh", ""]])
def test_a_refreshed_target_is_one_that_is_made(user: User, words: list[str]) -> None:
    """A name that is no target, or none of those that are made, is refused before anything is made."""
    prepare(user)
    assert make(user, STEPS, *words).status == 2
    assert not place(user).exists()


def test_a_dry_run_makes_nothing(user: User) -> None:
    """--dry-run says what would be made, and why, and ends with 0; it starts nothing, and writes nothing."""
    chain(user)
    before = sorted(os.listdir(user.home))
    said = events(user, CHAIN, "--dry-run")
    assert whys(said, "planned") == {"files": "not built before", "users": "files is made anew", "more": "users is made anew",
                                     "other": "not built before", "all": "more is made anew", "above": "all is made anew"}  # fmt: skip
    assert said[-1] == {"version": 1, "event": "end", "exitStatus": 0, "planned": 6} | dict.fromkeys(
        ("built", "placed", "written", "unchanged", "failed", "skipped"), 0
    )
    assert sorted({*os.listdir(user.home)} - {"make.toml", ".cache"}) == before
    assert not place(user).exists()
    make(user, CHAIN)
    kept = {path: path.lstat().st_mtime_ns for path in place(user).rglob("*.json")}
    remove(user.home / "files")
    (user.home / "above.tar").unlink()
    planned = events(user, CHAIN.replace("rm etc/name", "rm -f etc/name"), "-n")
    assert {each["name"]: (each["action"], each["why"]) for each in planned if each["event"] == "planned"} == {
        "files": ("place", "the output is gone"), "more": ("build", "script changed"), "all": ("write", "more is made anew"),
        "above": ("write", "all is made anew"),
    }  # fmt: skip
    assert ends(planned) == {"users": "unchanged", "other": "unchanged"}
    assert {path: path.lstat().st_mtime_ns for path in place(user).rglob("*.json")} == kept
    assert not (user.home / "files").exists()
    people = make(user, CHAIN, "-n")
    assert (people.status, "files: would be taken from the cache: the output is gone" in people.err) == (0, True)
    assert set(whys(events(user, CHAIN, "-n", "--no-cache"), "planned")) == {"files", "users", "more", "other", "all", "above"}


def log_of(said: list[dict[str, Any]], name: str) -> Path:
    """Give the path of a node's log, as its last event has it."""
    [last] = [each for each in said if each.get("name") == name and each["event"] in {"done", "failed"}]
    return Path(last["log"])


def test_what_scripts_say_is_logged(users: list[User]) -> None:
    """Each target has a log with the words of its scripts and their seconds; it is kept where the target fails, and begins anew."""
    for user in users:
        prepare(user)
        said = events(user, STEPS)
        for name, word in (("one", "ONE"), ("two", "TWO")):
            [line] = log_of(said, name).read_text().splitlines()
            seconds, text = line.split()
            assert (float(seconds) > 0, text) == (True, word)
        assert [each["log"] for each in said if each["event"] == "done" and each["name"] in {"apart", "all"}] == ["", ""]
        failed = events(user, STEPS.replace("cat /proc", "echo WHY >&2; exit 5; cat /proc"), "one", status=5)
        assert [line.split()[1] for line in log_of(failed, "one").read_text().splitlines()] == ["ONE", "WHY"]
        told = make(user, STEPS.replace("cat /proc", "echo WHY >&2; exit 6; cat /proc"), "one")
        assert (told.status, str(log_of(failed, "one")) in told.err) == (6, True)
        (user.home / "make.toml").unlink()
        assert user.run([*COMMAND, "cache", "gc", "--keep", "none"]).status == 0
        assert not log_of(failed, "one").exists()


def test_a_log_is_bounded(user: User) -> None:
    """Of very much the beginning and the end are kept, and it is said how much is not."""
    text = DIRECTORY + '[layer.a]\nrun = "echo FIRST; seq -f %0100.0f 60000; echo LAST"\n'
    log = log_of(events(user, text), "a")
    lines = log.read_text().splitlines()
    assert log.stat().st_size < 3 << 20
    assert (lines[0].split()[1], lines[-1].split()[1]) == ("FIRST", "LAST")
    assert len([line for line in lines if "left out" in line]) == 1


def test_words_have_their_time(user: User) -> None:
    """With -v, and in events, what a script says has the seconds of its target."""
    text = DIRECTORY + '[layer.a]\nrun = "echo HERE"\n'
    [line] = [line for line in make(user, text, "-v").err.splitlines() if "HERE" in line]
    assert line.startswith("rootless-layer: a ")
    assert line.endswith(" s| HERE")
    [spoken] = [each for each in events(user, text, "--no-cache") if each["event"] == "output"]
    assert (spoken["text"], spoken["seconds"] > 0) == ("HERE", True)
