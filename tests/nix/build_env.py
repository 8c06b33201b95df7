"""Make a tree of links, as nixpkgs' buildEnv does: a directory that only one tree has is one link."""

import os
from collections import defaultdict

out = os.environ["out"]
trees = os.environ["trees"].split()
wanted = os.environ["pathsToLink"].split()
merge = bool(os.environ.get("merge"))
chosen: dict[str, list[str]] = defaultdict(list)


def join(place: str, sources: list[str], *, top: bool) -> None:
    """Link what is at a place in some trees: files, and directories of only one."""
    single = len(sources) == 1 and not top and not merge
    if single or not all(map(os.path.isdir, sources)):
        os.symlink(sources[0], out + place)
    else:
        os.makedirs(out + place, exist_ok=True)
        names: dict[str, list[str]] = defaultdict(list)
        for source in sources:
            for name in sorted(os.listdir(source)):
                names[name].append(f"{source}/{name}")
        for name, found in names.items():
            if name != "nix-support" or place:
                join(f"{place}/{name}", found, top=False)


os.makedirs(out)
for path in wanted:
    place = path.rstrip("/")
    sources = [tree + place for tree in trees if os.path.exists(tree + place)]
    if sources:
        os.makedirs(os.path.dirname(out + place), exist_ok=True)
        join(place, sources, top=not place)
