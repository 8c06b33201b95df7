"""Sources for scripts to attack, by owner, and all that must not change of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import marked
from helpers.place import in_memory
from helpers.stores import Store, fingerprint, store_of
from helpers.users import SOMEBODY, User

VICTIM = "/nix/store/11111111111111111111111111111111-victim"
LINK = "/nix/store/22222222222222222222222222222222-link"
FILE = "/nix/store/33333333333333333333333333333333-file"
END = "reached the end"
"""What an attacking script says last: nothing stopped it half-way."""


def make_victim(root: Path, *, optimised: bool) -> None:
    """Add three store paths to attack: a directory, a link and a file."""
    victim = root / VICTIM[1:]
    (victim / "folder").mkdir(parents=True)
    (victim / "data").write_text("the store's\n")
    (victim / "folder/inner").write_text("further within\n")
    (victim / "program").write_text("#!/bin/sh\n")
    (victim / "empty").write_text("")
    (victim / "link").symlink_to("data")
    if optimised:
        (victim / "twin").hardlink_to(victim / "data")
    else:
        shutil.copyfile(victim / "data", victim / "twin")
    (root / LINK[1:]).symlink_to(f"{VICTIM}/data")
    (root / FILE[1:]).write_text("a store path that is a file\n")
    for path in ("data", "folder/inner", "empty", "twin"):
        (victim / path).chmod(0o444)
    for path in ("program", "folder", "."):
        (victim / path).chmod(0o555)
    (root / FILE[1:]).chmod(0o444)
    with (root / "graph").open("a") as graph:
        graph.writelines(f"{path}\n\n0\n" for path in (VICTIM, LINK, FILE))


@attrs.frozen
class Stores:
    """The same closure by owner, with every file hard linked elsewhere or none; made when first attacked."""

    folder: Path
    like: Store
    made: dict[tuple[str, bool], Store] = attrs.field(factory=dict)

    def of(self, owner: str, *, optimised: bool) -> Store:
        """Give the store of root's or of somebody's."""
        if (owner, optimised) not in self.made:
            folder = self.folder if owner == "root" or os.geteuid() != 0 else in_memory(self.folder)  # where its owner's home is
            root = folder / f"{self.like.root.name}-{owner}-{optimised}"
            subprocess.run(["cp", "-a", self.like.root, root], check=True)
            make_victim(root, optimised=optimised)
            if owner != "root" and os.geteuid() == 0:
                subprocess.run(["chown", "-hR", f"{SOMEBODY}:{SOMEBODY}", root], check=True)
            if optimised:
                subprocess.run(["cp", "-al", root, f"{root}-twin"], check=True)
            self.made[owner, optimised] = store_of(root, root / "graph")
        return self.made[owner, optimised]


@attrs.frozen
class Field:
    """Everything that a script must not change, and the options that show it to the script."""

    user: User
    store: Store
    contents: Path
    rootfs: Path
    canary: Path

    def fingerprint(self) -> list[dict[str, tuple[object, ...]]]:
        """Say everything about every source, and about the machine's nodes that scripts see."""
        nodes: dict[str, tuple[object, ...]] = {
            name: (os.stat(f"/dev/{name}").st_mode, os.stat(f"/dev/{name}").st_uid) for name in ("null", "zero", "full", "random")
        }
        return [nodes, *(fingerprint(folder) for folder in (self.store.root, self.contents, self.rootfs, self.canary))]

    def options(self, tools: Path) -> list[str]:
        """Give the options of a build with all of them."""
        return [
            *self.store.options, "--copy-to-root", str(tools), "--copy-to-root", str(self.contents), "--rootfs", str(self.rootfs),
            "--copy-to-root", VICTIM, *marked(self.user),
            "--env", f"SOURCES={self.store.root}{VICTIM} {self.contents} {self.rootfs} {self.canary}",
        ]  # fmt: skip


def make_field(user: User, stores: Stores, *, owned: bool) -> Field:
    """Make sources owned by who runs the build, hard linked (the worst case), or by another user."""
    if not owned and os.geteuid() != 0:
        pytest.skip("only root can make sources that are another user's")
    name = user.name if owned else {"root": "somebody", "somebody": "root"}[user.name]
    for folder in ("contents", "rootfs", "canary"):
        (user.home / folder / "etc").mkdir(parents=True)
        (user.home / folder / "etc" / f"{folder}-file").write_text(f"the {folder}'s\n")
        (user.home / folder / f"{folder}-program").write_text("#!/bin/sh\n")
        (user.home / folder / f"{folder}-program").chmod(0o755)
        if os.geteuid() == 0:
            owning = SOMEBODY if name == "somebody" else 0
            subprocess.run(["chown", "-hR", f"{owning}:{owning}", user.home / folder], check=True)
    return Field(user, stores.of(name, optimised=owned), user.home / "contents", user.home / "rootfs", user.home / "canary")


def python_options(store: Store) -> list[str]:
    """Tell the closure's Python where its library is."""
    library = next((path for name, path in store.paths.items() if name.startswith("libpython3.11-minimal-")), None)
    return ["--env", f"PYTHONHOME={library}"] if library else []
