"""A wish to change a store path is an error that names it, however the store is staged, or it is granted as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, assert_said, marked, members, names, owner
from helpers.effort import EVERY
from helpers.hostile import FILE, LINK, VICTIM, Field
from helpers.place import remove
from helpers.running import VIEWS
from helpers.stores import fingerprint
from helpers.users import User

pytestmark = pytest.mark.slow


def by_turns(number: int) -> tuple[str, ...]:
    """Give the ways to stage the store for the test of a number: both of them, else one or the other."""
    return ("bind", "copy") if EVERY else (("bind", "copy")[number % 2],)


WISHES = {
    "chown": f"chown 33:33 $TOP{VICTIM}/data",
    "chgrp of a directory": f"chgrp 33 $TOP{VICTIM}/folder",
    "chown of a link": f"chown -h 33 $TOP{VICTIM}/link",
    "chown of the whole": f"chown -R 33:33 $TOP{VICTIM}",
    "chown of a file": f"chown 33 $TOP{FILE}",
    "chmod": f"chmod u+s $TOP{VICTIM}/program || :",
    "chmod of the top": f"chmod 0700 $TOP{VICTIM} || :",
    "setcap": f"setcap cap_net_raw+ep $TOP{VICTIM}/program",
    "setfattr": f"setfattr -n user.wish -v 1 $TOP{VICTIM}/data",
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_to_change_the_store_fails(field: Field, wish: str, view: str) -> None:
    """Fakeroot grants a wish on a store file; the build fails with 77 naming it, however the store is staged."""
    before = fingerprint(field.store.root)
    script = field.user.script(names(view) + WISHES[wish] + "\n")
    said = set()
    alike = " of " not in wish and not wish.startswith(("chown", "setfattr"))  # those have a second name in the store
    turns = by_turns([*WISHES].index(wish) + VIEWS.index(view))
    for stage in ("bind", "copy", "hardlink") if wish == "chown" else ("bind", "copy") if alike else turns:
        result = field.user.build(
            *field.store.options, *marked(field.user), "--script", script, "--view", view, "--stage", stage, "--blob", "derived"
        )
        assert_said(result, 77, FILE if FILE in WISHES[wish] else VICTIM, "--closure-writable")
        assert not (field.user.home / "layer").exists()
        said.add("\n".join(line for line in result.err.splitlines() if "store paths are" not in line))
    if alike:
        assert len(said) == 1, said
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


def test_a_wish_to_change_a_tool_fails(field: Field) -> None:
    """What scripts only see is as immutable as what is in the layer: 77 for every wish, and for a move, each path named."""
    user, before = field.user, fingerprint(field.store.root)
    options = ["--tools", field.store.graph, "--store-root", field.store.root, *marked(user)]
    granted = f"chown -R 0:0 {VICTIM}; chmod 0444 {VICTIM}/data || :; ln -s {VICTIM} /seen"
    assert user.build(*options, "--", "sh", "-c", granted).status == 0
    assert sorted(members(user)) == ["seen"]
    remove(user.home / "layer")
    wishes = {
        f"chown 33 /seen/data; chmod u+s {VICTIM}/program; chown -h 33 {LINK}; chgrp 5 {FILE}": (
            f"{VICTIM}/(data|twin)",
            f"{VICTIM}/program",
            LINK,
            FILE,
        ),
        f"setfattr -n user.wish -v 1 {VICTIM}/data; rm -f {LINK}": (f"{VICTIM}/(data|twin)", LINK),
        f"setcap cap_net_raw+ep {VICTIM}/program": (f"{VICTIM}/program", "--link copy"),
        "mv /nix/store /elsewhere": (VICTIM, FILE),
    }
    for text, named in wishes.items():
        result = user.build(*options, "--", "sh", "-c", f"ln -s {VICTIM} /seen; {text}; true", output="changed")
        assert_said(result, 77, *named)
        assert not (user.home / "changed").exists()
    assert fingerprint(field.store.root) == before
    assert_nothing_left(user)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("stage", ["bind", "copy"])
def test_a_wish_for_what_is_already_so_is_granted(field: Field, stage: str, view: str) -> None:
    """A script may give a store file the owner and the mode that it has: the layer is as without the script."""
    text = f"{names(view)}chown -R 0:0 $TOP{VICTIM}\nchmod 0444 $TOP{VICTIM}/data || :\nchmod 0555 $TOP{VICTIM}/folder || :\n"
    script = field.user.script(text)
    options = [*field.store.options, *marked(field.user)]
    plain = field.user.build(*options, output="plain").layer
    assert field.user.build(*options, "--script", script, "--view", view, "--stage", stage).layer["digest"] == plain["digest"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_writable_closure_takes_every_wish(field: Field, view: str) -> None:
    """With --closure-writable the layer has what the script made of the store paths, and the store stays as it was."""
    before = fingerprint(field.store.root)
    text = f"""{names(view)}set -e
at=$TOP{VICTIM}
chown 33:34 $at/data
chmod 4755 $at/program
setcap cap_net_raw+ep $at/folder/inner
chmod u+w $at/twin
echo changed >> $at/twin
chmod u+w $at $at/folder
echo new > $at/new
rm $at/empty
mv $at/folder/inner $at/inner
chown -h 5:6 $at/link
rm $TOP{LINK}
chown 7 $TOP{FILE}
"""
    script = field.user.script(text)
    options = [*field.store.options, *marked(field.user), "--closure-writable", "--script", str(script), "--view", view]
    digests = {field.user.build(*options, "--stage", stage).layer["digest"] for stage in ("auto", "bind", "copy", "hardlink")}
    assert len(digests) == 1
    found = members(field.user)
    at = VICTIM[1:]
    assert owner(found[f"{at}/data"]) == (33, 34, 0o444)
    assert owner(found[f"{at}/program"]) == (0, 0, 0o4755)
    assert "SCHILY.xattr.security.capability" in found[f"{at}/inner"].pax_headers
    assert found[f"{at}/twin"].size == len("the store's\nchanged\n")
    assert found[f"{at}/new"].size == 4
    assert owner(found[f"{at}/link"])[:2] == (5, 6)
    assert owner(found[FILE[1:]]) == (7, 0, 0o444)
    assert f"{at}/empty" not in found
    assert LINK[1:] not in found
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


REPLACED = {
    "a link removed": f"rm $TOP{LINK}",
    "a link replaced": f"ln -sfn /etc $TOP{LINK}",
    "a link made a file": f"rm $TOP{LINK}; echo > $TOP{LINK}",
    "a link touched": f"touch -h -d @5 $TOP{LINK}",
    "a file removed": f"rm -f $TOP{FILE} || mv $TOP{FILE} $TOP/away || :; chown 3 $TOP{FILE} || :",
    "the store moved": "mv $TOP/nix/store $TOP/nix/elsewhere || chown 3 $TOP" + FILE,
    "the store moved and remade": f"mv $TOP/nix $TOP/old && $B mkdir -p $TOP{VICTIM}",
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("what", REPLACED)
def test_a_store_path_stays_in_its_place(field: Field, tools: Path, what: str, view: str) -> None:
    """A store path, be it a link or a file, cannot be moved, removed or replaced: 77, and it is named."""
    before = fingerprint(field.store.root)
    script = field.user.script(names(view) + REPLACED[what] + "\n")
    for stage in by_turns([*REPLACED].index(what) + VIEWS.index(view)):
        options = [*field.store.options, "--copy-to-root", tools, *marked(field.user), "--view", view, "--stage", stage]
        result = field.user.build(*options, "--script", script, "--blob", "derived")
        assert_said(result, 77, "/nix/store/")
    assert fingerprint(field.store.root) == before
    assert_nothing_left(field.user)


def test_the_roots_copy_of_a_store_file_is_the_scripts_own(field: Field) -> None:
    """What --copy-to-root puts in the root may be changed in every way; the store file, linked or not, keeps its own."""
    before = field.fingerprint()
    script = field.user.script(
        "chown 33:33 /data; chmod 4711 /program; setcap cap_net_raw+ep /folder/inner; echo more >> /twin; rm /empty; touch /link\n"
    )
    digests = set()
    for stage in ("bind", "copy", "hardlink"):
        options = [*field.store.options, "--copy-to-root", VICTIM, *marked(field.user), "--script", script, "--stage", stage]
        digests.add(field.user.build(*options).layer["digest"])
    assert len(digests) == 1
    found = members(field.user)
    assert owner(found["data"]) == (33, 33, 0o444)
    assert owner(found["program"]) == (0, 0, 0o4711)
    assert owner(found[VICTIM[1:] + "/data"]) == (0, 0, 0o444)
    assert owner(found[VICTIM[1:] + "/program"]) == (0, 0, 0o555)
    assert not found[VICTIM[1:] + "/folder/inner"].pax_headers
    assert field.fingerprint() == before


def test_a_store_path_is_not_changed_by_its_place_on_the_machine(user: User) -> None:
    """In the directory view the sources of the closure and of the tools are seen; a wish to change one there is 77, however staged."""
    path = "/nix/store/00000000000000000000000000000001-a"
    root = user.home / "elsewhere"
    (root / path[1:]).mkdir(parents=True)
    (root / path[1:] / "x").touch()
    (user.home / "graph").write_text(path + "\n")
    given = ["--store-root", root, "--view", "directory"]
    for words in (["--closure", "graph", "--stage", "bind"], ["--closure", "graph", "--stage", "copy"], ["--tools", "graph"]):
        assert_said(user.build(*words, *given, "--", "chown", "5", root / path[1:] / "x"), 77, f"{path}/x: ")
