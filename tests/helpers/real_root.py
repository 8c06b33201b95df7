"""One script by two: real root in a real chroot, and a session of somebody without privilege."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from helpers.cases import Inputs
from helpers.corpus import Case
from helpers.oracle import Chroot, Snapshot, in_blob
from helpers.users import User


def build(user: User, words: Sequence[str | Path]) -> Path:
    """Build a layer; give its blob."""
    digest: str = user.build(*words).layer["digest"]
    return user.home / "layer/blobs/sha256" / digest.removeprefix("sha256:")


def both(case: Case, user: User, chroot: Chroot, inputs: Inputs, work: Path) -> tuple[Snapshot, Snapshot]:
    """Give what real root's script leaves in its chroot, and what is in our layer, without the store paths."""
    blob = build(user, [*inputs.words(case, "root", user), "--script", user.script(case.text)])
    return by_real_root(case, chroot, work), in_blob(blob, [os.fsencode(path) for path in chroot.store_paths])


def by_real_root(case: Case, chroot: Chroot, work: Path) -> Snapshot:
    """Give what real root's script leaves in its chroot, without sockets: no archive holds one."""
    epoch = int(case.options[1]) if "--source-date-epoch" in case.options else 1
    real = chroot.run(case.text, work / "tree", epoch)
    return real.without([path for path, node in real.nodes.items() if node.kind == "socket"])
