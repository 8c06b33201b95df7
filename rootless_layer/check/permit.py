"""The settings by which a machine, or a container's engine, permits the namespaces and mounts of a session."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_CONTAINERS = {"/run/.containerenv": "podman", "/.dockerenv": "docker"}
"""The files by which an engine marks its containers."""
_POD = "/var/run/secrets/kubernetes.io"
_SECCOMP = "--security-opt seccomp=unconfined"
_UNMASKED = {
    "podman": "--security-opt unmask=ALL",
    "docker": "--security-opt systempaths=unconfined --security-opt apparmor=unconfined",
}
"""The flags of an engine by which a container may mount a /proc."""
_NAMED = "--cap-add SYS_ADMIN"
"""The flag by which an engine's own filter lets a container set the host name of a namespace of its own."""
_RESTRICTED = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_CLONE = "/proc/sys/kernel/unprivileged_userns_clone"
_MOST = "/proc/sys/user/max_user_namespaces"
_OTHERWISE = (
    "Use a kernel with CONFIG_USER_NS, and no seccomp filter around this process that refuses unshare(2)."
    " In a chroot there are none: enter its directory as a container does, as by `systemd-nspawn -D` or `podman run --rootfs`."
)
_PROFILE = """\
Or as root, write a profile to /etc/apparmor.d/rootless-layer and load it by `apparmor_parser -r /etc/apparmor.d/rootless-layer`:
  abi <abi/4.0>,
  include <tunables/global>
  profile rootless-layer {program} flags=(unconfined) {{
    userns,
  }}"""


def container() -> str:
    """Give the engine in whose container this process runs, ``""`` where there is no mark of one."""
    if os.path.isdir(_POD):
        return "kubernetes"
    return next((engine for mark, engine in _CONTAINERS.items() if os.path.lexists(mark)), "")


def permit_mounts() -> str:
    """Say how a container gets the rest, where it has user namespaces."""
    engine, restricted = container(), _is_restricted()
    if engine in _UNMASKED and restricted:
        return f"Start the container with {_UNMASKED[engine]}, and with --hostname localhost, as no flag gives it one of its own"
    if engine in _UNMASKED:
        return f"Start the container with {_UNMASKED[engine]} {_NAMED}"
    if engine and restricted:
        return "Give the pod's container procMount: Unmasked and hostUsers: false, and the pod the hostname localhost."
    if engine:
        return "Give the pod's container procMount: Unmasked and hostUsers: false, or the capability SYS_ADMIN."
    return "See docs/containers.md where this is a container; else the kernel's log says the reason."


def permit_namespaces() -> str:
    """Say how unprivileged processes get user namespaces here: by the settings that forbid them."""
    steps = []
    if _setting(_MOST) == "0":
        steps.append("As root: sysctl user.max_user_namespaces=15000")
    if _setting(_CLONE) == "0":
        steps.append("As root: sysctl kernel.unprivileged_userns_clone=1")
    if _setting(_RESTRICTED) not in {"", "0"}:
        steps.append("AppArmor restricts them. As root: sysctl kernel.apparmor_restrict_unprivileged_userns=0")
        steps.append(_PROFILE.format(program=os.path.realpath(sys.executable or "/proc/self/exe")))
    engine = container()
    if engine in _UNMASKED:
        steps.append(f"Start the container with {_SECCOMP} {_UNMASKED[engine]}")
    elif engine:
        steps.append("Give the pod's container a seccompProfile that has unshare and mount, as Unconfined has.")
    return "\n".join(steps) or _OTHERWISE


def _is_restricted() -> bool:
    """Say whether no program here can get a capability, as in a pod of Kubernetes' restricted profile."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        return int(next(line for line in lines if line.startswith("CapBnd:")).partition(":")[2], 16) == 0
    return False


def _setting(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text("ascii").strip()
    return ""
