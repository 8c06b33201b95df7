"""The scripts of an image run as nixpkgs' own do: with stdenv's functions and options, and the variables of a build."""

from __future__ import annotations

import tarfile

from helpers.nix_pkgs import LET, Nix

SEEN = """
let
  root = pkgs.buildEnv { name = "root"; paths = [ pkgs.busybox ]; pathsToLink = [ "/bin" ]; };
  # Each says what it sees, in a file of its own.
  seen = name: ''
    echo "''${out##*/} $NIX_STORE $SOURCE_DATE_EPOCH" > variables-${name}
    [ "$NIX_BUILD_CORES" -ge 1 ] && [ -d "$NIX_BUILD_TOP" ]
    for option in errexit pipefail; do
      if shopt -qo $option; then echo $option >> options-${name}; fi
    done
    if shopt -q nullglob; then echo nullglob >> options-${name}; fi
  '';
  asBuilder = name: ''
    ${seen name}
    echo "one two" > text-${name}
    substituteInPlace text-${name} --replace-fail two three
    echo begin nothing/* end > glob-${name}
  '';
in
map (fromImage: ours.exportImage { name = "seen"; inherit fromImage; }) [
  (ours.streamLayeredImage {
    name = "as-builder";
    extraCommands = asBuilder "extra";
    fakeRootCommands = asBuilder "fake";
  })
  (ours.streamLayeredImage {
    name = "in-root";
    contents = [ root ];
    enableFakechroot = true;
    fakeRootCommands = "mkdir -p /tmp; ${asBuilder "fakechroot"}";
  })
  (ours.streamImage {
    name = "as-root";
    copyToRoot = root;
    runAsRoot = "cd /; ${seen "root"} false | true; echo nothing/* > glob-root";
    extraCommands = "${seen "after"} false | true";
  })
]
"""
OPTIONS = {"extra": 3, "fake": 3, "fakechroot": 3, "root": 1, "after": 1}


def test_each_script_sees_what_it_sees_in_nixpkgs(stores: list[Nix]) -> None:
    """Builders' scripts have functions, pipefail and nullglob; root's, and what runs after them, are shells of their own."""
    nix = stores[-1]
    files = {}
    for archive in nix.build(SEEN):
        with tarfile.open(nix.on_disk(archive)) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
            files |= {name: file.read().decode() for name, file in found.items() if file and "-" in name and "/" not in name}
    for name, options in OPTIONS.items():
        assert files[f"options-{name}"].split() == ["errexit", "pipefail", "nullglob"][:options]
        assert files[f"variables-{name}"].split()[1:] == ["/nix/store", "315532800"]
        assert files[f"variables-{name}"].split()[0].endswith("-layer") or "docker-layer" in files[f"variables-{name}"]
        if options > 1:
            assert files[f"text-{name}"] == "one three\n"
            assert files[f"glob-{name}"] == "begin end\n"
    assert files["glob-root"] == "nothing/*\n"


def test_what_fails_in_a_pipe_fails(stores: list[Nix]) -> None:
    """A script ends where a program in a pipe fails, as in nixpkgs, and so does the build."""
    for script in ("extraCommands", "fakeRootCommands"):
        wrong = f'ours.streamLayeredImage {{ name = "x"; {script} = "false | true"; }}'
        done = stores[0].run("nix-build", "--no-out-link", "-E", LET + wrong)
        assert done.status != 0
        assert "failed with exit status 1" in done.err
