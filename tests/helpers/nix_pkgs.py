"""A real Nix with a small nixpkgs of this machine's own programs (``tests/nix``), and this package's Nix files upon it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from helpers import nix_closure
from helpers.place import HERE, once, remove
from helpers.users import HANG, Result, User, make_user

import rootless_layer

PACKAGES = (
    "bash", "coreutils", "passwd", "login", "util-linux", "libpam-modules", "findutils", "sed", "grep", "tar", "gzip",
    "sqlite3", "nix-bin", "busybox-static",
)  # fmt: skip
NIX_FILES = Path(rootless_layer.__file__).parent / "nix"

# Nix starts a builder by its base name, from which Python cannot tell its virtual environment.
PROGRAM = """\
#!/bin/sh
export PATH=/usr/bin:/bin PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1
exec {python} -m rootless_layer "$@"
"""


@attrs.frozen
class Nix:
    """Somebody's Nix with a store of their own, and what its expressions may import."""

    user: User
    store: Path
    work: Path
    prefix: str = ""
    """Where the ``bin`` of another version is, if it is not this machine's."""

    def run(
        self, program: str, *words: str | Path, settings: str = "", before: Sequence[str] = (), timeout: float = HANG
    ) -> Result:
        """Run one of Nix's programs on the store; ``before`` is a command that runs it."""
        environment = self.environment(settings)
        command = [*before, shutil.which(program, path=environment["PATH"]) or program, "--store", self.store, *words]
        return self.user.run(command, env=environment, timeout=timeout)

    def environment(self, settings: str = "") -> dict[str, str]:
        """Give the variables that have Nix be the tests' own, with more of its settings."""
        home = Path(rootless_layer.__file__).parent.parent
        environment = nix_closure.settings(self.work, [place for place in (sys.prefix, home) if Path(place).exists()])
        environment["NIX_CONFIG"] += settings
        environment["NIX_PATH"] = f"rootless-layer={NIX_FILES}:test-pkgs={HERE / 'nix'}:machine={self.work}"
        places = [place for place in os.environ["PATH"].split(":") if _is_everybodys(place)]
        return environment | {"PATH": ":".join([self.prefix, *places] if self.prefix else places)}

    def build(self, expression: str, *words: str | Path) -> list[str]:
        """Build an expression that may use ``pkgs`` and ``ours``; give its outputs."""
        built = self.run("nix-build", "--no-out-link", *words, "-E", LET + expression, timeout=600)
        assert built.status == 0, built.err
        return built.out.split()

    def on_disk(self, path: str) -> Path:
        """Where a store path lies on this machine."""
        return Path(f"{self.store}{path}")


def _is_everybodys(place: str) -> bool:
    """Say whether everybody may look into a directory: newer versions of Nix fail upon one of ``PATH`` that they may not."""
    path = Path(place).resolve()
    return os.path.isdir(path) and all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


LET = """
let
  pkgs = import <test-pkgs/pkgs.nix> { machine = <machine>; };
  ours = import <rootless-layer> {
    inherit pkgs;
    rootless-layer = import <machine/program.nix> { inherit pkgs; };
  };
in
"""


def make_nix(user: User, like: Path | None = None) -> Nix:
    """Make a user a store, and the directory that the expressions import; with the store paths of another store, copied."""
    work, store = user.home / "work", user.home / "nix"
    expression = nix_closure.write_plan(work, PACKAGES, nix_closure.PACKAGES + "in packages\n")
    (work / "packages.nix").write_text(expression)
    python = Path(rootless_layer.__file__).parent.parent, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    (work / "python.nix").write_text(json.dumps(":".join(map(str, python[1:]))))
    (work / "interpreter.nix").write_text(json.dumps(sys.executable))
    program = PROGRAM.format(python=sys.executable, path=":".join(map(str, python)))
    (work / "program.nix").write_text(f"{{ pkgs }}: pkgs.writeScriptBin \"rootless-layer\" ''\n{program}''\n")
    if like is not None:
        subprocess.run(["cp", "-a", like, store], check=True)
        if os.geteuid() == 0:
            owner = user.arguments()
            subprocess.run(["chown", "-hR", f"{owner.get('user', 0)}:{owner.get('group', 0)}", store], check=True)
    return Nix(user, store, work)


def give_everybody(shared: Path) -> Iterator[list[Nix]]:
    """Give everybody's Nix, each with a store of the packages, which are built once for all tests; root is the last, where there is root."""

    def make(store: Path) -> None:
        user = make_user(shared, "somebody")
        nix = make_nix(user)
        nix.build("builtins.attrValues (import <machine/packages.nix>)")
        subprocess.run(["cp", "-a", nix.store, store], check=True)
        remove(user.home)

    built = once("nix-packages", make)
    made = [make_nix(make_user(shared, name), built) for name in ["somebody"] + (["root"] if os.geteuid() == 0 else [])]
    yield made
    for nix in made:
        remove(nix.user.home)


FETCH = """
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1)
mkdir -p lists/partial cache/archives/partial prefix
: > status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > sources.list
options=(-o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$PWD/lists"
    -o Dir::Cache="$PWD/cache" -o Dir::State::status="$PWD/status" -o APT::Sandbox::User=root)
apt-get -qq "${options[@]}" update
apt-get -qq "${options[@]}" -y --no-install-recommends -d install nix-bin > /dev/null
for package in cache/archives/*.deb; do dpkg-deb -x "$package" prefix; done
library=$PWD/prefix/usr/lib/x86_64-linux-gnu
patchelf --set-interpreter "$library/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$library" prefix/usr/bin/nix
"""


def fetch_nix(suite: str, folder: Path) -> str:
    """Get the Nix of another Debian, from the mirror that apt uses, with its own libraries; give where its programs are."""
    folder.mkdir()
    folder.chmod(0o755)
    subprocess.run(["bash", "-euc", FETCH], cwd=folder, env=os.environ | {"suite": suite}, check=True, capture_output=True)
    return f"{folder}/prefix/usr/bin"
