"""How many processors there are for this process: no more than its control groups give it the time of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless_layer.system import fork, quota
from rootless_layer.system.quota import processors_allowed

SECOND = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
CASES: dict[str, tuple[str, str, dict[str, str], float | None]] = {
    "no group": ("", "", {}, None),
    "none limits": ("0::/a\n", SECOND, {"a/cpu.max": "max 100000\n"}, None),
    "a container's own": ("0::/\n", SECOND, {"cpu.max": "150000 100000\n"}, 1.5),
    "the group that it is in": ("0::/a/b\n", SECOND, {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 0.5),
    "another group": ("0::/a\n", SECOND, {"b/cpu.max": "50000 100000\n"}, None),
    "of another namespace": ("0::/../x\n", SECOND, {"cpu.max": "300000 100000\n"}, 3),
    "of the first version": (
        "3:cpu,cpuacct:/docker/1\n4:memory:/x\n0::/\n", FIRST.format(top="/docker/1") + HYBRID,
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 2.5,
    ),
    "of the first version, below": (
        "3:cpu,cpuacct:/a\n", FIRST.format(top="/"),
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "10000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000", "memory/cpu.max": "1 100000"}, 0.1,
    ),
    "no limit of the first version": (
        "3:cpu,cpuacct:/\n", FIRST.format(top="/"),
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, None,
    ),
    "nonsense": ("0::/\n", SECOND, {"cpu.max": "many\n"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_limit_counts(tmp_path: Path, case: str) -> None:
    """Of the group and those that it is in, of both versions; what cannot be seen or read limits nothing."""
    groups, mounts, files, allowed = CASES[case]
    if groups:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        (tmp_path / "proc/self/mountinfo").write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n{mounts}")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert processors_allowed(str(tmp_path)) == allowed


@pytest.mark.parametrize(("allowed", "count"), [(0.1, 1), (1, 1), (1.5, 2), (1000, None), (None, None)])
def test_the_cores_are_no_more(monkeypatch: pytest.MonkeyPatch, allowed: float | None, count: int | None) -> None:
    """A part of a processor's time counts as one, and there are no more than this process may run on."""
    monkeypatch.setattr(fork, "processors_allowed", lambda: allowed)
    usable = len(os.sched_getaffinity(0))
    assert fork.cores() == (usable if count is None else min(count, usable))


def test_this_machine_says_something() -> None:
    """Here it is nothing, or a number."""
    allowed = quota.processors_allowed()
    assert allowed is None or allowed > 0
