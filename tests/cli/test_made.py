"""What a person is told besides the result: the last line, each step with -v, nothing with -q, and the versions of all that is used."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from helpers.command import Ran
from helpers.person import on_a_terminal
from helpers.roots import busybox_root
from helpers.users import COMMAND, User, good

from rootless_layer import progress
from rootless_layer.check.versions import versions
from rootless_layer.cli.made import of_images
from rootless_layer.cli.main import GROUPS, VERBS, main
from rootless_layer.cli.progress import Shower
from rootless_layer.image.image import Image
from rootless_layer.oci.descriptor import Platform


def shown(user: User, *words: str | Path) -> str:
    """Run a verb on a terminal, and give what is on it in the end, without what a line was before."""
    with on_a_terminal(user, [*COMMAND, *words]) as person:
        assert person.ends() == 0, person.shown
        return re.sub(r"[^\n]*\r\x1b\[K", "", person.shown).replace("\r\n", "\n")


def test_the_last_line_has_the_next_command(user: User) -> None:
    """A layer's is the one that makes an image of it: it does, upon the layer's base as well. An image's loads it."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    layer = shown(user, "build", "--copy-to-root", "tree", "-o", "a layer")
    told, _, following = layer.splitlines()[-1].partition("; next: ")
    assert re.fullmatch(r"rootless-layer: a layer: \d\.\d KiB, 2 entries", told)
    assert shlex.split(following)[:4] == ["rootless-layer", "image", "--layer", "a layer"]
    above = shown(user, "build", "--base", "a layer", "--copy-to-root", "tree", "--compression", "zstd", "-o", "above")
    told, _, following = above.splitlines()[-1].partition("; next: ")
    assert "unpacked), " in told
    words = shlex.split(following.replace("NAME:TAG", "made:1"))
    assert words[2:6] == ["--base", "a layer", "--layer", "above"]
    image = shown(user, *words[1:])
    assert re.fullmatch(r"rootless-layer: image.tar: \d+\.\d KiB, 2 layers; next: \S+ load -i image.tar", image.splitlines()[-1])
    assert "oci:layout" in shown(user, *words[1:-1], "layout").splitlines()[-1]
    (user.home / "make.toml").write_text('[image.made]\nlayers = ["a layer"]\noutput = "made.tar"\n')
    (user.home / "below").mkdir()
    environment = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    with on_a_terminal(user, ["/bin/sh", "-c", f"cd below; {shlex.join(COMMAND)} make ../make.toml"], **environment) as person:
        person.reads("../made.tar: ")
        person.reads(" load -i ../made.tar")
        assert person.ends() == 0


def test_a_program_hears_no_more_than_before(user: User) -> None:
    """In a pipe there is the result alone; with -v there are the steps and the last line on stderr, with -q nothing."""
    root, words = busybox_root(), ["--", "sh", "-c", "echo said"]
    plain = good(user.run([*COMMAND, "build", "--rootfs", root, "-o", "one", *words]))
    assert (plain.out.startswith("sha256:"), plain.err) == (True, "said\n")
    more = good(user.run([*COMMAND, "build", "-v", "--rootfs", root, "-o", "two", *words]))
    assert more.out == plain.out
    lines = more.err.splitlines()
    for step in (r"plan \d.*", "run sh", "scan", r"write .*", r"publish .*"):
        assert any(re.fullmatch(rf"rootless-layer: {step}: \d+\.\d s", line) for line in lines), (step, lines)
    assert any(re.fullmatch(r"sh \d+\.\d s\| said", line) for line in lines)
    assert lines[-1].startswith("rootless-layer: two: ")
    quiet = shown(user, "image", "-q", "--layer", "one", "-t", "a:1", "-o", "quiet.tar")
    assert quiet == ""
    assert "write" in good(user.run([*COMMAND, "merge", "-v", "quiet.tar", "-o", "merged.tar"])).err
    (user.home / "make.toml").write_text(f'[layer.made]\nrootfs = "{root}"\nrun = "echo said"\n')
    environment = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    made = good(user.run([*COMMAND, "make", "-v", "make.toml"], env=environment)).err
    assert re.search(r"^rootless-layer: made: scan: \d+\.\d s$", made, re.MULTILINE)
    assert re.search(r"^rootless-layer: made \d+\.\d s\| said$", made, re.MULTILINE)


def test_the_steps_of_a_build(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step has a line when the next one begins, with the last of its numbers; a note is no step, and the end is none."""
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    show = Shower(verbose=True)
    for step in (
        progress.Progress("plan"), progress.Progress("plan", entries=2), progress.Progress("check", note="a note"),
        progress.Progress("run", script="setup"), progress.Progress("done"),
    ):  # fmt: skip
        show(step)
    show.finish()
    said = capsys.readouterr().err
    assert [line.rpartition(": ")[0] for line in said.splitlines()] == [
        "rootless-layer", "rootless-layer: plan 2 entries", "rootless-layer: run setup"
    ]  # fmt: skip


def test_quiet_and_verbose_contradict(ran: Ran) -> None:
    """Both are refused before any work; so is -v before a verb."""
    assert ran("build", "-q", "-v", "-o", "x")[0] == 2
    assert ran("-v", "build", "-o", "x")[0] == 2
    assert ran("-v")[0] == 2


def test_what_the_report_of_a_fault_needs(user: User) -> None:
    """`--version -v`, in either order, has the versions and places of all that builds use; of what lacks, the reason."""
    plain = good(user.run([*COMMAND, "--version"])).out
    for words in (["--version", "-v"], ["-v", "--version"]):
        said = good(user.run([*COMMAND, *words])).out
        assert said.startswith(plain)
    rows = dict(line.split(None, 1) for line in said.splitlines()[1:])
    assert list(rows) == [name for name, _ in versions()]
    assert {"Python", "fakeroot", "libarchive", "OpenSSL", "isa-l", "zstd"} <= set(rows)
    for name in ("fakeroot", "libarchive", "isa-l", "zstd"):
        assert Path(rows[name].rpartition(" ")[2]).is_file(), rows[name]
    (user.home / "empty").mkdir()
    lacking = good(user.run([*COMMAND, "--version", "-v"], env={"PATH": str(user.home / "empty")})).out
    assert "fakeroot is not in PATH" in lacking


@pytest.mark.parametrize(
    ("output", "kind", "next_"),
    [("docker://a.example/b:1", "layout", "pull a.example/b:1"), ("it's", "layout", "pull 'oci:it'\"'\"'s'")],
)
def test_the_next_command_is_one(output: str, kind: str, next_: str) -> None:
    """A name in a registry is pulled; a path is quoted as a shell needs it."""
    assert of_images([Image.empty(Platform.host())], output, kind).endswith(next_)  # type: ignore[arg-type]


def test_a_directory_in_the_way_of_a_file(ran: Ran, tmp_path: Path) -> None:
    """A report and a bill of materials are files, and say so by their own names."""
    (tmp_path / "tree").mkdir()
    assert ran("build", "--copy-to-root", "tree", "-o", "layer")[0] == 0
    for verb, noun in (("report", "the page of a report"), ("sbom", "a bill of materials")):
        status, _, told = ran(verb, "layer", "-o", "tree")
        assert status == 73
        assert f"tree: is a directory, and {noun} is a file" in told
        assert "archive" not in told
    status, _, told = ran("build", "--copy-to-root", "tree", "-o", "none/below/layer")
    assert (status, "make it first" in told) == (73, True)


def test_help_is_in_sections() -> None:
    """Each verb is under one heading of the first help; the long lists of options have headings, each option once."""
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(VERBS)
    context = click.Context(main, **main.context_settings)
    for name, titles in (("build", 7), ("image", 4), ("make", 1), ("run", 1)):
        verb = main.get_command(context, name)  # type: ignore[attr-defined]
        sections = verb.sections(click.Context(verb, parent=context, info_name=name))
        assert len(sections) == titles, sections
        shown_ = [option for options in sections.values() for option, _ in options]
        assert len(shown_) == len(set(shown_))
        assert list(sections)[-1] in {"Other options", "Options"}


def test_words_that_have_no_place(ran: Ran) -> None:
    """A word that no option takes is named; choices that are missing are in one line; a registry's name is written out."""
    assert "a.tar: no option takes it" in ran("image", "a.tar", "-o", "x")[2]
    assert "Choose from: bash, zsh, fish" in ran("completion")[2]
    assert "write it as docker://localhost:5000/x:1" in ran("push", "a.tar", "localhost:5000/x:1")[2]
    assert "write it as docker://HOST" in ran("push", "a.tar", "X Y")[2]


@pytest.mark.parametrize("words", [{}, {"COMP_WORDS": "rootless-layer b"}, {"COMP_WORDS": "a 'b", "COMP_CWORD": "x"}])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_asks_wrongly(somebody: User, shell: str, words: dict[str, str]) -> None:
    """Variables that no shell sets so are a usage error, and no traceback."""
    done = somebody.run(COMMAND, env={"_ROOTLESS_LAYER_COMPLETE": f"{shell}_complete", **words})
    if shell == "fish" and len(words) > 1:
        return  # which takes a word there
    assert (done.status, "Traceback" in done.err) == (2, False), done.err
    assert "COMP_WORDS" in done.err
