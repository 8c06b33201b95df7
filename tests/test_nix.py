"""Inside Nix's own sandbox, and outside of it: the same layer."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import HERE, SCRIPTS, User

import rootless_layer

if TYPE_CHECKING:
    import pytest

SCRIPT = """
mkdir -p srv/files tmp
chown 33:12345 srv/files
chmod 1777 tmp
echo data > srv/files/data
chown 5000000:33 srv/files/data
chmod 4750 srv/files/data
mknod srv/null c 1 3
chmod g+s srv/files
"""

# The layer is made by this machine's own Python, which the sandbox shows at its own place.
EXPRESSION = """
{{ top, view }}: derivation {{
  name = "layer";
  system = builtins.currentSystem;
  builder = "{python}";
  args = [ "-m" "rootless_layer" "build" "--closure" "graph" "--script" (builtins.toFile "script" ''{script}'')
    "--view" view "--json" "-o" (placeholder "out") ];
  PATH = "/usr/bin:/bin";
  PYTHONPATH = "{path}";
  exportReferencesGraph = [ "graph" (builtins.storePath top) ];
}}
"""


def test_nix_sandbox_makes_the_same_layer(users: list[User], tmp_path_factory: pytest.TempPathFactory, shared: Path) -> None:
    """A derivation that builds the layer in Nix's sandbox gives the digest of the command outside, for every user and view."""
    program = shared / f"nix-program-{tmp_path_factory.getbasetemp().name}"
    (program / "tests").mkdir(parents=True)
    (program / "scripts").mkdir()
    shutil.copy(HERE / "nix_closure.py", program / "tests")
    shutil.copy(SCRIPTS / "machine_closure.py", program / "scripts")
    digests: dict[str, set[str]] = {"root": set(), "directory": set()}
    for user in users:
        store = user.home / "store"
        made = user.run([sys.executable, program / "tests/nix_closure.py", store])
        assert made.status == 0, made.err
        top = made.out.strip()
        for view, found in digests.items():
            found.add(_in_sandbox(user, store, top, view)["digest"])
            script = user.script(SCRIPT, "inside")
            graph = ["--closure", store / "graph", "--store-root", store]
            found.add(user.build(*graph, "--script", script, "--view", view).layer["digest"])
    assert [len(found) for found in digests.values()] == [1, 1], digests


def _in_sandbox(user: User, store: Path, top: str, view: str) -> dict[str, str]:
    home = str(Path(rootless_layer.__file__).parent.parent)
    # Nix starts a builder by its base name, from which Python cannot tell its virtual environment.
    path = ":".join((home, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    places = [place for place in ("/usr", "/bin", "/lib", "/lib64", sys.prefix, home) if Path(place).exists()]
    expression = user.home / "layer.nix"
    expression.write_text(EXPRESSION.format(python=sys.executable, script=SCRIPT, path=path))
    built = user.run(
        ["nix-build", "--store", store, "--no-out-link", expression, "--argstr", "top", top, "--argstr", "view", view],
        env={
            "NIX_CONF_DIR": str(user.home),
            "NIX_USER_CONF_FILES": "",
            "NIX_CONFIG": "substituters =\nbuild-users-group =\nsandbox = true\nsandbox-fallback = false\n"
            f"sandbox-paths = {' '.join(places)}",
        },
    )
    assert built.status == 0, built.err
    layer: dict[str, str] = json.loads(Path(f"{store}{built.out.strip()}/layer.json").read_text())
    return layer
