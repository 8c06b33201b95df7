"""The corpus of scripts: every layer is the same whoever builds it, and however it is staged."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.cases import MIXED, STAGES, Inputs, Member, Way, first_layer, two_ways, write_script
from helpers.corpus import BY_NAME, CORPUS, Case, options_of
from helpers.effort import EVERY
from helpers.stores import fingerprint
from helpers.users import SOMEBODY, User

pytestmark = pytest.mark.slow

# --- whoever builds, however it is staged ---


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_every_way_to_build_gives_the_same_layer(
    case: Case, users: list[User], inputs: Inputs, shared: Path, memory: Path
) -> None:
    """Each script's layer has one digest: in both views, staged in any way, as root and as somebody."""
    ways = [two_ways(case)[1]]
    if EVERY:
        ways = [Way(view, user.name, stage) for view, user, stage in itertools.product(case.views, users, STAGES)]
    by_name = {user.name: user for user in users}
    digests = {way: way.build(case, inputs, by_name[way.user], memory, "--blob", "derived") for way in ways}
    assert set(digests.values()) == {first_layer(case, inputs, shared).digest}, digests


@pytest.mark.parametrize("view", ["root", "directory"])
@pytest.mark.parametrize(
    "options",
    [(), ("--link", "symbolic"), ("--link", "copy"), ("--uid", "5", "--gid", "6"), ("--closure-writable",)],
    ids=" ".join,
)
def test_no_script_is_the_script_true(view: str, options: tuple[str, ...], users: list[User], inputs: Inputs) -> None:
    """A layer without a script is, byte for byte, the layer of a script that does nothing."""
    digests = []
    scripts: tuple[list[str], ...] = ([], ["--", "true"])
    # One builds without a script and the other with one, by turns.
    turns = zip(users if view == "root" else users[::-1], scripts, strict=False)
    for user, script in turns if len(users) > 1 and not EVERY else itertools.product(users, scripts):
        words = inputs.words(BY_NAME["nothing"], view, user)
        digests.append(user.build(*words, *options, "--blob", "derived", *script).layer["digest"])
        assert user.leftovers() == []
    assert len(digests) > 1
    assert len(set(digests)) == 1


def test_no_script_is_the_script_true_on_a_root_filesystem(users: list[User], inputs: Inputs) -> None:
    """So it is where the tree is a root filesystem of any owners, devices, hard links and attributes."""
    digests = set()
    for user in users:
        words = inputs.words(BY_NAME["nothing"], "root", user)
        made = user.build(*inputs.words_of_many(user, MIXED), output="first").layer
        blob = user.home / "first/blobs/sha256" / made["digest"].removeprefix("sha256:")
        digests.add(user.build("--rootfs", blob).layer["digest"])
        digests.add(user.build("--rootfs", blob, *words[words.index("--view") :][:2], "--", "/bin/true").layer["digest"])
        assert user.leftovers() == []
    assert len(digests) == 1


def test_the_blob_may_be_written_or_not(users: list[User], inputs: Inputs) -> None:
    """Stored and derived layers have the same digest and size."""
    user = users[-1]
    stored = user.build(*inputs.words_of_many(user, MIXED)).layer
    derived = user.build(*inputs.words_of_many(user, MIXED), "--blob", "derived").layer
    assert {**stored, "blob": ""} == {**derived, "blob": ""}


def test_linking_what_one_does_not_own_is_refused(users: list[User], inputs: Inputs) -> None:
    """Somebody cannot hard-link root's store; the error names the file, and nothing is left."""
    user = users[-1]
    if os.geteuid() != 0 or Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("here everybody may link every file, or every store is the user's own")
    words = options_of(BY_NAME["nothing"], "root", inputs.stores["small"], ())
    result = user.build(*words, "--stage", "hardlink", "--", "true")
    assert_said(result, 66, "/nix/store/", "--stage bind or copy")
    assert user.leftovers() == []


# --- what is in the layers ---


def data(found: Mapping[str, Member]) -> int:
    """Count the bytes of all files' data."""
    return sum(member.size for member in found.values() if member.is_file)


def test_a_root_copy_costs_no_data(inputs: Inputs, shared: Path) -> None:
    """Each store file's data stands once: its copy in the root is a hard link of it."""
    case = BY_NAME["nothing"]
    found = first_layer(case, inputs, shared).members
    root = inputs.stores[case.closure].root
    store = sum(facts[3] for facts in fingerprint(root / "nix").values() if stat.S_ISREG(facts[0]))  # type: ignore[arg-type, misc]
    trees = [Path(content) for content in inputs.contents if not content.startswith("/nix/")]
    own = sum(facts[3] for tree in trees for facts in fingerprint(tree).values() if stat.S_ISREG(facts[0]))  # type: ignore[arg-type, misc]
    assert data(found) == store + own
    programs = [member for name, member in found.items() if name.startswith("bin/") and member.type != tarfile.SYMTYPE]
    assert len(programs) > 80
    assert all(member.type == tarfile.LNKTYPE and member.target.startswith("nix/store/") for member in programs)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("hard-link", 0), ("hard-link-new", 4), ("hard-link-root-copy", 0), ("cp-al", 0), ("hard-link-moved", 0), ("move", "cat"),
        ("large", 2 * 3145728), ("deep-paths", 5), ("root-copy-touched", "false"), ("chown-recursive", 0), ("move-directory", 0),
    ],
)  # fmt: skip
def test_data_stands_once(name: str, added: int | str, inputs: Inputs, shared: Path) -> None:
    """Hard links, renames and new owners add no data; a copy adds its own bytes, and so does a root copy under another name."""
    nothing, found = (
        {
            path: member
            for path, member in first_layer(BY_NAME[one], inputs, shared).members.items()
            if not path.startswith("nix/")
        }
        for one in ("nothing", name)
    )
    if name == "root-copy-touched":
        assert {found[f"bin/{program}"].type for program in ("true", "false", "cat")} == {tarfile.LNKTYPE}
    if isinstance(added, str):
        added = (inputs.stores["big"].on_disk("coreutils") / "bin" / added).stat().st_size
    assert data(found) - data(nothing) == added


def test_a_changed_root_copy_leaves_the_store_file(inputs: Inputs, shared: Path) -> None:
    """A root copy that a script changed is a file of its own; the store's file stays canonical."""
    stored = inputs.stores["big"].path("coreutils").lstrip("/") + "/bin/true"
    size = (inputs.stores["big"].on_disk("coreutils") / "bin/true").stat().st_size
    for name in ("root-copy-written", "root-copy-mode", "root-copy-owner", "root-copy-capability", "truncate"):
        found = first_layer(BY_NAME[name], inputs, shared).members
        assert found["bin/true"].is_file, name
        original = found[stored]
        assert (original.uid, original.gid, original.mode, original.size) == (0, 0, 0o555, size)
        assert not original.attributes


def test_a_socket_is_left_out_with_a_note(somebody: User, inputs: Inputs) -> None:
    """A socket is no part of the layer, and the command says so."""
    case = BY_NAME["socket"]
    words = inputs.words(case, "root", somebody)
    result = somebody.build(*words, "--script", write_script(somebody, case), "--list")
    assert result.status == 0
    assert "/srv/sock: a socket is not part of a layer; left out" in result.err
    assert "srv/sock" not in (somebody.home / "layer/layer.mtree").read_text()


def test_what_is_left_running_is_ended(somebody: User, inputs: Inputs) -> None:
    """A background process that nobody waits for does not outlive the build, nor hold it up."""
    case = BY_NAME["background"]
    result = somebody.build(*inputs.words(case, "root", somebody), "--script", write_script(somebody, case))
    assert result.status == 0, result.err
    if os.geteuid() == 0:
        processes = subprocess.run(["ps", "-u", str(SOMEBODY), "-o", "args="], capture_output=True, text=True, check=False).stdout
        assert "sleep 300" not in processes


def test_every_script_says_what_it_proves() -> None:
    """The corpus has no two scripts of the same name or text, and each says what it is there for."""
    assert len(BY_NAME) == len(CORPUS) == len({case.text for case in CORPUS})
    assert all(case.proves.endswith(".") and set(case.views) <= {"root", "directory"} for case in CORPUS)
