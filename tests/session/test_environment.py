"""The environment of scripts: which directories are searched for programs, and what happens where they are too many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless_layer import Closure, LayerSpec, Script, StorePath
from rootless_layer.errors import UnavailableError
from rootless_layer.session.environment import Environment
from rootless_layer.session.failure import failed
from rootless_layer.session.fakeroot import find_programs
from rootless_layer.session.inside.messages import Exited
from rootless_layer.system.fork import cores

STANDARD = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST = 128 << 10
"""execve(2): a variable with its name, and the NUL behind it, on machines with pages of 4 KiB."""


def stored(number: int, name: str = "package-with-a-name-as-long-as-usual-1.2.3") -> StorePath:
    """Give a store path of a number."""
    return StorePath(f"/nix/store/{number:032}-{name}")


def closure(
    root: Path, programs: range | list[int], others: list[int] | None = None, needs: dict[int, list[int]] | None = None
) -> Closure:
    """Make store paths, those in ``programs`` with a ``bin``; ``needs`` says which refer to which."""
    for number in [*programs, *(others or ())]:
        place = Path(f"{root}{stored(number).path}")
        place.mkdir(parents=True)
        if number in programs:
            (place / "bin").mkdir()
    numbers = [*programs, *(others or ())]
    return Closure({stored(n): [stored(other) for other in (needs or {}).get(n, ())] for n in numbers}, str(root))  # type: ignore[arg-type]


def searched(spec: LayerSpec) -> list[str]:
    """Give the directories behind the standard ones."""
    path = Environment.of(spec, mounted=True).variables["PATH"]
    assert path.startswith(STANDARD)
    return path.removeprefix(STANDARD).split(":")[1:]


def test_store_paths_with_programs_are_searched_in_their_order(tmp_path: Path) -> None:
    """PATH has the bin directories of the closure's paths, then of the tools', each once, and none that is not there."""
    given = closure(tmp_path, [3, 1], [2])
    tools = closure(tmp_path / "tools", [1, 4], [5])
    expected = [f"{stored(number).path}/bin" for number in (1, 3, 4)]
    assert searched(LayerSpec(closure=given, tools=tools)) == expected
    assert searched(LayerSpec(closure=given, tools=tools, view="directory")) == []
    writable = LayerSpec(closure=given, tools=tools, closure_writable=True)  # a script may make one there
    assert searched(writable) == [f"{stored(number).path}/bin" for number in (1, 2, 3, 4)]


def test_a_store_path_that_is_a_link_is_searched(tmp_path: Path) -> None:
    """Where a store path that is a symbolic link leads is seen in the view only."""
    given = closure(tmp_path, [], [1])
    Path(f"{tmp_path}{stored(1).path}").rmdir()
    Path(f"{tmp_path}{stored(1).path}").symlink_to(stored(2).path)
    assert searched(LayerSpec(closure=given)) == [f"{stored(1).path}/bin"]


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    """Of 3,000 store paths PATH has as many as Linux takes: first those that nothing needs, last what /bin has anyway."""
    last = 3000
    given = closure(tmp_path, range(1, last + 1), needs={last: list(range(1, last - 1))})
    spec = LayerSpec(closure=given, copy_to_root=(stored(1).path,))
    environment = Environment.of(spec, mounted=True)
    assert LONGEST - 8192 < len(f"PATH={environment.variables['PATH']}\0") <= LONGEST - 4096
    found = searched(spec)
    assert found == sorted(found)
    assert {f"{stored(number).path}/bin" for number in (last, last - 1)} <= set(found)
    assert f"{stored(1).path}/bin" not in found
    assert environment.left_out == last - len(found)
    assert searched(LayerSpec(closure=given, copy_to_root=(stored(1).path,))) == found
    said = str(failed(Script("", b"x"), Exited(127), spec, environment))  # of a shell's own status
    assert f"PATH has no room for the programs of {environment.left_out} store paths" in said
    assert said.startswith("the script without a name: ")
    assert "PATH" not in str(failed(Script("", b"x"), Exited(126), spec, environment))


def test_an_empty_path_is_said_to_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PATH has no directory, nobody says that fakeroot is not installed."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match=r"PATH \(which is empty"):
        find_programs()


def test_the_cores_are_those_that_may_be_used() -> None:
    """Under taskset, or in a cpuset, there are as many cores as a process may run on."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() <= len(before)


@pytest.mark.parametrize("count", [1, 1500])
def test_the_callers_path_is_all_of_it(tmp_path: Path, count: int) -> None:
    """Who gives PATH has no other."""
    given = closure(tmp_path, range(count))
    environment = Environment.of(LayerSpec(closure=given, environment={"PATH": "/x", "A": "b"}), mounted=False)
    assert (environment.variables["PATH"], environment.variables["A"], environment.left_out) == ("/x", "b", 0)
