"""What makes two builds of one script differ by itself, and is no part of what the script is for.

A file that records this machine's inode numbers is in no layer. What carries a clock or a number drawn by chance is as real
root would leave it, unless a tidy layer is asked for: what programs make again when it is missing is left out there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .tree import Tree

ALWAYS = (b"var/cache/ldconfig/aux-cache",)
"""ldconfig's notes of the inodes that it has read: on another machine it reads them all anyway."""

TIDY = (
    # logs of package managers and of the accounts
    b"var/log/dpkg.log", b"var/log/alternatives.log", b"var/log/bootstrap.log", b"var/log/apt/*", b"var/log/fontconfig.log",
    b"var/log/dnf*.log", b"var/log/yum.log", b"var/log/hawkey.log", b"var/log/apk.log", b"var/log/pacman.log",
    b"var/log/lastlog", b"var/log/faillog", b"var/log/wtmp", b"var/log/btmp", b"var/log/tallylog", b"var/log/journal/**",
    b"var/log/installer/**",
    # what package managers have fetched, and their notes of it
    b"var/lib/apt/lists/**", b"var/cache/apt/*.bin", b"var/cache/apt/archives/*.deb", b"var/cache/dnf/**",
    b"var/cache/libdnf5/**", b"var/cache/yum/**", b"var/cache/apk/**", b"var/cache/zypp/**", b"var/cache/pacman/pkg/**",
    b"var/lib/dnf/history.sqlite*", b"var/lib/apt/extended_states-*", b"var/lib/apt/periodic/*",
    # copies of a file as it was before the last change
    b"etc/passwd-", b"etc/group-", b"etc/shadow-", b"etc/gshadow-", b"etc/subuid-", b"etc/subgid-",
    b"var/lib/dpkg/*-old", b"var/cache/debconf/*-old", b"var/backups/*",
    # indexes that are made again
    b"var/cache/man/**", b"var/cache/fontconfig/**", b"var/cache/ldconfig/**", b"var/lib/systemd/catalog/database",
    # a machine's own numbers, drawn when it first starts
    b"etc/machine-id", b"var/lib/dbus/machine-id", b"var/lib/systemd/random-seed", b"var/lib/systemd/credential.secret",
    # caches of programs that root has run
    b"root/.cache/**", b"root/.wget-hsts", b"root/.bash_history", b"root/.python_history", b"root/.viminfo",
)  # fmt: skip
"""What a tidy layer is without: ``*`` stands for a part of a name, ``**`` for all that is below a directory."""

_KEYS = (
    b"etc/ssh/ssh_host_*_key", b"etc/ssh/ssh_host_*_key.pub", b"etc/ssl/private/*", b"etc/ssl/certs/ssl-cert-snakeoil.pem",
    b"etc/munge/munge.key", b"var/lib/rabbitmq/.erlang.cookie", b"etc/bind/rndc.key", b"etc/unbound/unbound_*.key",
    b"etc/unbound/unbound_*.pem", b"var/lib/postgresql/*/main/*", b"etc/cups/ssl/*", b"etc/dovecot/private/*",
    b"etc/wireguard/*.key",
)  # fmt: skip
"""Keys that packages draw when they are installed: each build has others, and no two machines should have the same."""


def _expression(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    escaped = (re.escape(pattern).replace(rb"\*\*", b".*").replace(rb"\*", b"[^/]*") for pattern in patterns)
    return re.compile(b"|".join(escaped), re.DOTALL)


_TIDY, _KEY = _expression((*ALWAYS, *TIDY)), _expression(_KEYS)


def varies(path: bytes) -> bool:
    """Say whether what is at a path is another in each build by itself, and goes with a tidy layer."""
    return _TIDY.fullmatch(path) is not None


def is_key(path: bytes) -> bool:
    """Say whether a path is one of a key that a package draws when it is installed."""
    return _KEY.fullmatch(path) is not None


def left_out(tree: Tree, *, tidy: bool) -> Iterator[bytes]:
    """Give the paths of what is not to be in a layer: files and links, for directories stay."""
    entries = tree.entries
    found = filter(_TIDY.fullmatch, entries) if tidy else (path for path in ALWAYS if path in entries)
    return (path for path in found if not entries[path].is_dir)
