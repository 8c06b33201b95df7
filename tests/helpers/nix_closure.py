"""Build closures with a real Nix, offline, from Debian packages installed on this machine.

Each package is a derivation, built in Nix's sandbox by ``scripts/machine_closure.py``, which
says what goes into a store path. So the references are those that Nix's own scan finds, and
Nix itself makes the files canonical and registers them. Needs nix-bin and patchelf.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "machine_closure.py"

BUILDER = """
import json, os, pathlib, sys
sys.path.insert(0, "/plan")
import machine_closure as machine
with open("/plan/plan.json") as file:
    plan = {name: machine.Package(**fields) for name, fields in json.load(file).items()}
name, asked, paths = (json.loads(os.environ[key]) for key in ("package", "asked", "paths"))
out = os.environ["out"]
if name:
    paths[name], closure = out, machine.closure_of(plan, name)
    builder = machine.Builder(plan[name], closure, machine.owners(plan), paths, "/machine")
    builder.build(pathlib.Path(out))
else:
    machine.build_env(plan, asked, paths, pathlib.Path(out))
"""
"""Makes the store path of a package, or, without one, that of the links to all programs."""

PACKAGES = """
let
  run = name: args: attrs: derivation ({{
    inherit name;
    system = builtins.currentSystem;
    builder = "/usr/bin/python3";
    args = [ "-IB" ] ++ args;
    PATH = "/usr/bin";
    rules = "{rules}";
  }} // attrs);
  build = name: package: paths: run name [ "/plan/build.py" ] {{
    package = builtins.toJSON package;
    paths = builtins.toJSON paths;
    asked = {asked};
  }};
  packages = {{
    {packages}
  }};
"""
EXPRESSION = (
    PACKAGES
    + """
  env = build "env" null packages;
  graph = run "graph" [ "-c" "import os, shutil; shutil.copyfile('graph', os.environ['out'])" ] {{
    exportReferencesGraph = [ "graph" env ];
  }};
in [ env graph ]
"""
)

SETTINGS = """
experimental-features = nix-command
substituters =
build-users-group =
max-jobs = auto
sandbox = true
sandbox-fallback = false
sandbox-paths = {paths}
"""


@dataclass(frozen=True)
class NixClosure:
    """A closure in a chroot store: the store path P stands at ``store_root`` + P."""

    store_root: Path
    top: str
    """The store path that refers to all others: links to all programs, in ``bin``."""
    paths: tuple[str, ...]
    """All store paths, sorted; ``top`` is among them."""
    path_info: Path
    """What ``nix path-info --json -r`` writes."""
    graph: Path
    """What a derivation was given by ``exportReferencesGraph``."""


def build_closure(out: Path, packages: Sequence[str], *, optimise: bool = False) -> NixClosure:
    """Build the closure of some Debian packages in a new store at ``out``.

    ``optimise`` makes hard links of files with the same data, as Nix's
    ``auto-optimise-store`` does: then each file has two links at least.
    """
    machine = _machine_closure()
    out = out.resolve()
    with machine.aside(out) as store:
        work = store / "work"
        (work / "closure.nix").write_text(write_plan(work, packages))
        environment = _environment(work)

        def nix(program: str, *arguments: str) -> str:
            command = (program, "--store", str(store), *arguments)
            pipe = subprocess.PIPE
            with subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe) as process:
                try:
                    output, errors = process.communicate()
                except BaseException:
                    process.terminate()  # not kill: Nix then ends its builders and cleans up
                    raise
            if process.returncode:
                status = f"exit status {process.returncode}"
                raise RuntimeError(f"{' '.join(command)}: {status}\n{errors}")
            return output

        top, graph = nix("nix-build", "--no-out-link", str(work / "closure.nix")).split()
        paths = nix("nix-store", "--query", "--requisites", top).split()
        (store / "path-info.json").write_text(nix("nix", "path-info", "--json", "-r", top))
        shutil.copyfile(f"{store}{graph}", store / "graph")
        if optimise:
            nix("nix-store", "--optimise")
        machine.remove(work)
    return NixClosure(out, top, tuple(sorted(paths)), out / "path-info.json", out / "graph")


def write_plan(work: Path, packages: Sequence[str], expression: str = EXPRESSION) -> str:
    """Make a directory with what the builder needs, which the sandbox shows as ``/plan``; give the expression to build."""
    machine = _machine_closure()
    plan = machine.make_plan(packages)
    work.mkdir()
    shutil.copyfile(SCRIPT, work / SCRIPT.name)
    (work / "build.py").write_text(BUILDER)
    (work / "plan.json").write_text(json.dumps({name: asdict(plan[name]) for name in plan}))
    return _expression(machine, plan, packages, expression)


def settings(work: Path, shown: Sequence[str | Path] = ()) -> dict[str, str]:
    """Give variables that have Nix go by no configuration of this machine or user, and show places in its sandbox."""
    return {
        "NIX_CONF_DIR": str(work),
        "NIX_USER_CONF_FILES": "",
        "NIX_CONFIG": SETTINGS.format(paths=" ".join((*_shown(work), *map(str, shown)))),
    }


def _machine_closure() -> ModuleType:
    """Load the script, which is in no package."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {SCRIPT}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _expression(machine: ModuleType, plan: Mapping[str, Any], asked: Sequence[str], expression: str = EXPRESSION) -> str:
    """Write the packages as derivations, each with all that it depends on."""
    quoted = {name: json.dumps(name) for name in plan}
    lines = []
    for name, package in plan.items():
        closure = " ".join(quoted[each] for each in machine.closure_of(plan, name)[1:])
        inputs = f"{{ inherit (packages) {closure}; }}" if closure else "{ }"
        store_name = json.dumps(package.store_name)
        lines.append(f"{quoted[name]} = build {store_name} {quoted[name]} {inputs};")
    rules = hashlib.sha256(SCRIPT.read_bytes() + BUILDER.encode()).hexdigest()
    packages = "\n    ".join(lines)
    return expression.format(packages=packages, rules=rules, asked=json.dumps(json.dumps(asked)))


def _environment(work: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "USER") if name in os.environ}
    return kept | {"HOME": str(work)} | settings(work)


def _shown(work: Path) -> list[str]:
    """Name what the builder runs from, this machine's own directories, and ``/machine``, where it finds the packages' files.

    The sandbox has an ``/etc`` of its own.
    """
    own = [f"/{name}" for name in ("usr", "bin", "lib", "lib64") if Path("/", name).exists()]
    files = [f"/machine/{name}=/{name}" for name in ("usr", "etc", "opt") if Path("/", name).exists()]
    return [*own, *files, f"/plan={work}"]


def main() -> None:
    """Read the command line, build, print the top store path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to make: a chroot store")
    parser.add_argument("packages", metavar="PACKAGE", nargs="*")
    parser.add_argument("--optimise", action="store_true", help="hard-link files with the same data")
    options = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    packages = options.packages or _machine_closure().DEFAULT
    try:
        closure = build_closure(options.out, packages, optimise=options.optimise)
    except (OSError, LookupError, RuntimeError) as error:
        sys.exit(f"nix_closure: {error}")
    took = time.monotonic() - began
    print(f"{closure.store_root}: {len(closure.paths)} store paths, {took:.1f} s", file=sys.stderr)
    print(closure.top)


if __name__ == "__main__":
    main()
