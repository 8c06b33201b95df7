"""The corpus of scripts: a layer is the same whatever surrounds its build."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from helpers.cases import MIXED, STAGES, Inputs, copy_of
from helpers.corpus import BY_NAME, options_of
from helpers.effort import EVERY
from helpers.place import make_folder, once
from helpers.stores import fingerprint
from helpers.users import User, make_user

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def expected(shared: Path, inputs: Inputs) -> str:
    """The digest of the mixed scripts' layer, built in the plainest way, on the disk."""

    def make(path: Path) -> None:
        user = make_user(shared, "somebody")
        disk = make_folder(shared, "disk-")
        disk.chmod(0o1777)
        words = inputs.words_of_many(user, MIXED)
        path.write_text(user.build(*words, "--blob", "derived", env={"TMPDIR": str(disk)}).layer["digest"])

    return once("mixed-digest", make).read_text()


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "C": {"LC_ALL": "C"},
    "C.UTF-8": {"LC_ALL": "C.UTF-8"},
    "no such locale": {"LC_ALL": "xx_YY.nonsense", "LANG": "zz"},
    "no UTF-8 mode": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Tokyo": {"TZ": "Asia/Tokyo"},
    "odd time zone": {"TZ": "<X>-13:37"},
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "hash seed 2": {"PYTHONHASHSEED": "4294967295"},
    "a caller's own variables": {"TAR_OPTIONS": "--owner=7", "FAKEROOTKEY": "1", "POSIXLY_CORRECT": "1", "RSYNC_OLD_ARGS": "1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_does_not_matter(name: str, somebody: User, inputs: Inputs, expected: str) -> None:
    """Locale, time zone, hash seed and the caller's variables leave the digest alone."""
    for view in ("root", "directory") if EVERY else (("root", "directory")[[*ENVIRONMENTS].index(name) % 2],):
        words = inputs.words_of_many(somebody, MIXED, view=view)
        assert somebody.build(*words, "--blob", "derived", env=ENVIRONMENTS[name]).layer["digest"] == expected


def test_a_latin_1_locale_does_not_matter(somebody: User, inputs: Inputs, expected: str) -> None:
    """In a locale whose names are not UTF-8 the layer is the same."""
    locales = somebody.home / "locales"
    locales.mkdir()
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", locales / "en_US.ISO-8859-1"], capture_output=True, check=False
    ) if shutil.which("localedef") else None  # fmt: skip
    if made is None or not (locales / "en_US.ISO-8859-1/LC_CTYPE").exists():
        pytest.skip("no latin-1 locale can be made here: the locale sources are not installed")
    env = {"LOCPATH": str(locales), "LC_ALL": "en_US.ISO-8859-1"}
    result = somebody.build(*inputs.words_of_many(somebody, MIXED), "--blob", "derived", env=env)
    assert result.layer["digest"] == expected


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077, 0o777])
def test_the_umask_does_not_matter(umask: int, somebody: User, inputs: Inputs, expected: str) -> None:
    """The caller's umask reaches neither the scripts nor the layer."""
    words = inputs.words_of_many(somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived", umask=umask).layer["digest"] == expected
    assert somebody.leftovers() == []


@pytest.mark.parametrize("cwd", ["/", "/proc", "/tmp"])
def test_the_working_directory_does_not_matter(cwd: str, somebody: User, inputs: Inputs, expected: str) -> None:
    """The caller's working directory leaves the digest alone."""
    words = inputs.words_of_many(somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived", cwd=cwd).layer["digest"] == expected


@pytest.mark.parametrize("stage", ["bind", "copy"])
@pytest.mark.parametrize("view", ["root", "directory"])
def test_the_file_system_does_not_matter(
    stage: str, view: str, users: list[User], inputs: Inputs, expected: str, memory: Path
) -> None:
    """A build on a tmpfs, with other inode numbers and another order of names, gives the same layer."""
    for user in users if EVERY else [users[((stage == "copy") + (view == "root")) % len(users)]]:
        words = inputs.words_of_many(user, MIXED, stage, view)
        assert user.build(*words, "--blob", "derived", env={"TMPDIR": str(memory)}).layer["digest"] == expected
        assert os.listdir(memory) == []


def test_the_order_of_names_does_not_matter(somebody: User, inputs: Inputs, expected: str, memory: Path) -> None:
    """Sources whose directories list their names the other way round give the same layer."""
    copies = []
    for number, content in enumerate(inputs.contents):
        source = content
        if os.path.isdir(content):
            source = f"{memory}/{number}"
            copy_reversed(content, source)
        copies.append(source)
    words = attrs.evolve(inputs, contents=copies).words_of_many(somebody, MIXED)
    assert somebody.build(*words, "--blob", "derived").layer["digest"] == expected


def copy_reversed(source: str, target: str) -> None:
    """Copy a tree, making the names of each directory from the last to the first."""
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2)
    for here, folders, files in os.walk(target):
        for name in sorted([*folders, *files], reverse=True):
            os.rename(f"{here}/{name}", f"{here}/.moved")
            os.rename(f"{here}/.moved", f"{here}/{name}")


def test_an_optimised_store_does_not_matter(somebody: User, inputs: Inputs, expected: str) -> None:
    """A store whose equal files are one inode, as after ``nix-store --optimise``, gives the same layer, however it is staged."""
    root = somebody.home / "optimised"
    store = copy_of(inputs.stores["big"], root, "somebody")
    assert optimise(root / "nix/store") > 10
    views = ("root", "directory")
    for stage, view in itertools.product(STAGES, views) if EVERY else zip(STAGES, itertools.cycle(views), strict=False):
        own = attrs.evolve(inputs, stores={"big": store}, are_own=True)
        words = own.words_of_many(somebody, MIXED, stage, view)
        assert somebody.build(*words, "--blob", "derived").layer["digest"] == expected


def optimise(folder: Path) -> int:
    """Hard-link files of the same bytes and mode; say how many were replaced."""
    first: dict[tuple[object, ...], str] = {}
    linked = 0
    for path, facts in fingerprint(folder).items():
        if not stat.S_ISREG(facts[0]):  # type: ignore[arg-type]
            continue
        known = first.setdefault((facts[0], facts[7]), path)
        if known != path:
            above = os.path.dirname(path)
            mode = stat.S_IMODE(os.stat(above).st_mode)
            os.chmod(above, 0o755)
            os.unlink(path)
            os.link(known, path)
            os.chmod(above, mode)
            linked += 1
    return linked


def test_repetition_and_parallelism_do_not_matter(users: list[User], inputs: Inputs, expected: str) -> None:
    """Eight builds at once give what one alone gives, and leave nothing."""

    def words(number: int) -> list[str]:
        view = ("root", "directory")[number % 2]
        return inputs.words_of_many(users[number % len(users)], MIXED, STAGES[number % 3], view)

    def build(number: int) -> str:
        user = users[number % len(users)]
        with inputs.turn(user, STAGES[number % 3]):
            digest: str = user.build(*every[number], "--blob", "derived", output=f"layer-{number}").layer["digest"]
        return digest

    every = [words(number) for number in range(8)]  # this writes the scripts: nobody may read them meanwhile
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(build, range(8))) == {expected}
    assert [user.leftovers() for user in users] == [[] for _ in users]


def test_sessions_are_the_sum_of_their_scripts(somebody: User, inputs: Inputs, expected: str) -> None:
    """Scripts that run in one session leave what one script of all their lines leaves."""
    text = "".join(f"(\n{BY_NAME[name].text})\n" for name in MIXED)
    words = options_of(BY_NAME["nothing"], "root", inputs.stores["big"], inputs.contents)
    assert somebody.build(*words, "--script", somebody.script(text), "--blob", "derived").layer["digest"] == expected
