"""Who processes are: ids, groups and capabilities after any sequence of calls, as the kernel has them for real root."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import PROGRAMS
from helpers.running import Runner
from helpers.users import HANG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, Script, build_layer

pytestmark = pytest.mark.slow

ID = st.sampled_from((0, 1, 1000, 1001, 0xFFFFFFFF))
SET = st.integers(0, 255)
CALL = st.one_of(
    *(st.tuples(st.just(name), ID) for name in ("setuid", "setgid", "setfsuid", "setfsgid")),
    *(st.tuples(st.just(name), ID, ID) for name in ("setreuid", "setregid")),
    *(st.tuples(st.just(name), ID, ID, ID) for name in ("setresuid", "setresgid")),
    st.lists(st.sampled_from((0, 5, 1000, 70000, 0xFFFFFFFF)), max_size=4).map(lambda groups: ("setgroups", *groups)),
    st.tuples(st.just("capset"), SET, SET, SET),
    st.tuples(st.just("capset"), st.just(0xFF), st.just(0xFF), SET),
    st.tuples(st.just("keep"), st.integers(0, 2)),
)  # fmt: skip
SEQUENCES = st.lists(st.lists(CALL, min_size=1, max_size=8), min_size=1, max_size=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="only real root can be the oracle")
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequences=SEQUENCES)
def test_any_sequence_of_calls_gives_what_the_kernel_gives(sequences: list[Any], folder: Path) -> None:
    """Values, errors, the four ids of both kinds, groups and capabilities are those of a process that real root starts."""
    words = ["/usr/bin/python3", str(PROGRAMS / "identities.py"), json.dumps(sequences)]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        subprocess.run(words, cwd=place, check=True, timeout=HANG)
        real = json.loads(Path(place, "said").read_text())
        layer = build_layer(LayerSpec(scripts=(Script.command(words),), view="directory"), f"{place}/layer")
        blob = Path(place, "layer/blobs/sha256", layer.descriptor.digest.removeprefix("sha256:"))
        with tarfile.open(blob) as tar:
            file = tar.extractfile("said")
            assert file is not None
            ours = json.load(file)
    for sequence, right, found in zip(sequences, real, ours, strict=True):
        assert found == right, sequence


def test_root_has_every_capability(runner: Runner) -> None:
    """Programs that ask for their capabilities find them all, until they become somebody else or give them up."""
    said = runner.run("""
getpcaps 0 >&2
for name in chown dac_override mknod setfcap sys_admin; do capsh --has-p=cap_$name && echo "has $name" >&2; done
capsh --drop=cap_mknod --shell=$(command -v bash) -- -c 'echo dropped' >&2
""")
    assert [line for line in said.splitlines() if line.startswith("has ")] == [
        f"has {name}" for name in ("chown", "dac_override", "mknod", "setfcap", "sys_admin")
    ]
    assert "=ep" in said
    assert "dropped" in said


def test_a_program_that_counts_on_what_it_may_not_have(runner: Runner) -> None:
    """A program whose capabilities are to be in effect is not executed where the bounding set lacks one of them."""
    said = runner.run("""
cp "$(readlink -f "$(command -v chown)")" one; cp one other
setcap cap_chown+ep one; setcap cap_chown+p other
for program in one other; do
    capsh --drop=cap_chown --shell="$(command -v bash)" -- -c 'exec chroot --userspec=1000:1000 / "$@"' - "$PWD/$program" --version && echo "has run $program"
    chroot --userspec=1000:1000 / "$PWD/$program" --version && echo "has begun $program"
done >&2
""")
    lines = [line for line in said.splitlines() if line.startswith("has ")]
    assert lines == ["has begun one", "has run other", "has begun other"]
