"""Programs that work at the same time, or are killed in between, leave no row behind and take none along."""

from __future__ import annotations

import pytest
from helpers.aftermath import members, owner
from helpers.effort import EVERY
from helpers.running import Runner

pytestmark = pytest.mark.slow

ROUNDS, FILES = 50 if EVERY else 4, 60
NEW = f"""
mkdir new$round; i=0
while [ $i -lt {FILES} ]; do echo > new$round/$i; test $((i%2)) = 0 || chmod 0640 new$round/$i; i=$((i+1)); done
"""
MAKE = (
    f"mkdir a; i=0; while [ $i -lt {FILES} ]; do echo > a/$i; i=$((i+1)); done; chown -R 33:34 a; chmod -R 4711 a; cp -al a b\n"
)
REMOVALS = {
    # What ends all names of files that have an owner, several programs at once.
    "two rm": "rm -r a & rm -r b & wait",
    "a static rm and another": "$B rm -r a & rm -r b & wait",
    "two rm of one tree": "rm -rf b; { rm -rf a & rm -rf a & wait; } 2>/dev/null",
    "two mv": f"mkdir c d; for i in c d; do (cd $i; n=0; while [ $n -lt {FILES} ]; do echo > $n; n=$((n+1)); done); done\n"
    "mv -f c/* a & mv -f d/* b & wait; rm -r a b c d",
    "a path that changes": "$STATIC $(for i in a/* b/*; do echo unlink-changing $i; done) > said\n! $B grep -v ' 0$' said || exit 1; rm -r a b said",
    "a library's path that changes": "$RAW $(for i in b/* a/*; do echo unlink-changing $i; done) > said\n! $B grep -v ' 0$' said || exit 1; rm -r a b said",
    "a killed rm": "rm -r a & pid=$!; sleep 0.00$((round%8)); kill -9 $pid || :; wait || :; rm -rf b; rm -rf a",
    "a killed static rm": "$B rm -r a & pid=$!; sleep 0.00$((round%8)); kill -9 $pid || :; wait || :; rm -rf b; rm -rf a",
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_gone_owns_nothing(runner: Runner, removal: str) -> None:
    """However files went, those that get their inodes are root's, with the mode that they were given."""
    runner.run(
        f"round=1; while [ $round -le {ROUNDS} ]; do\n{MAKE}{REMOVALS[removal]}\n{NEW}\nround=$((round+1)); done 2>/dev/null"
    )
    found = members(runner.user)
    assert "a" not in found
    assert "b" not in found
    new = {(number, i): owner(found[f"new{number}/{i}"]) for number in range(1, ROUNDS + 1) for i in range(FILES)}
    assert new == {(number, i): (0, 0, 0o640 if i % 2 else 0o644) for number, i in new}


def test_what_a_killed_rm_leaves_is_as_it_was(runner: Runner) -> None:
    """Files that a killed rm did not come to keep their owners, by either name."""
    runner.run(f"{MAKE}rm -r a & pid=$!; sleep 0.002; kill -9 $pid || :; wait || :; mkdir -p a\n{NEW}".replace("$round", ""))
    found = members(runner.user)
    assert {owner(found[f"b/{i}"]) for i in range(FILES)} == {(33, 34, 0o4711)}
    assert {owner(entry) for path, entry in found.items() if path.startswith("a/")} <= {(33, 34, 0o4711)}


def test_changes_at_the_same_time(runner: Runner) -> None:
    """Owners that many processes give at once are all recorded, whatever kind of program gives them."""
    runner.run(
        f"""
i=0; while [ $i -lt {FILES} ]; do echo > $i; i=$((i+1)); done
for part in 0 1 2 3; do
    (i=$part; while [ $i -lt {FILES} ]; do
        case $part in 1|2) $B chown $i:$part $i; $B chmod 4755 $i;; *) chown $i:$part $i; chmod 2711 $i;; esac
        i=$((i+4)); done) &
done
wait
"""
    )
    found = members(runner.user)
    right = {i: (i, i % 4, 0o4755 if i % 4 in {1, 2} else 0o2711) for i in range(FILES)}
    assert {i: owner(found[f"{i}"]) for i in range(FILES)} == right


def test_one_name_for_several(runner: Runner) -> None:
    """Of several programs that make one name at once one succeeds, and the layer has what that one made."""
    runner.run("""
for round in 1 2 3 4 5 6; do
    (mknod n$round c 1 3 && echo c >> made$round) &
    (mknod n$round b 7 $round && echo b >> made$round) &
    wait
done 2>/dev/null
for round in 1 2 3 4 5 6; do test $(wc -l < made$round) = 1; test -$(cat made$round) n$round; done
""")
    found = members(runner.user)
    numbers = {number: found[f"n{number}"] for number in range(1, 7)}
    assert all((node.devmajor, node.devminor) == ((1, 3) if node.ischr() else (7, number)) for number, node in numbers.items())
