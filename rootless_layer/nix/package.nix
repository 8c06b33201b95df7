# The program, of this directory's own Python package. For callPackage: its arguments are nixpkgs' packages.
{
  lib,
  coreutils,
  fakeroot,
  installShellFiles,
  pkgs,
  python3,
  runCommand,
  runCommandCC ? runCommand,
  runtimeShell,
}:
let
  version = builtins.head (builtins.match ".*__version__ = \"([^\"]*)\".*" (builtins.readFile ../version.py));
  python = python3.withPackages (packages: [
    packages.attrs
    packages.click
    packages.isal
    packages.libarchive-c
    packages.platformdirs
    packages.urllib3
    packages.zstandard
  ]);
  # The files of this directory that Nix reads are left out: a change of theirs is none of the program. So are loops
  # that something else has compiled.
  source = builtins.path {
    name = "rootless_layer";
    path = ../.;
    filter = path: _type: builtins.match ".*[.]nix|.*[.]sh|__pycache__|libloops[.].*" (baseNameOf path) == null;
  };
  program = ''
    #!${runtimeShell}
    export PATH=${lib.makeBinPath [ fakeroot coreutils ]}:$PATH
    export PYTHONPATH=@home@
    exec ${python}/bin/python3 -m rootless_layer "$@"
  '';
  package =
    runCommandCC "rootless-layer-${version}"
      {
        inherit program;
        passAsFile = [ "program" ];
        nativeBuildInputs = [ installShellFiles ];
        passthru = {
          inherit version;
          tests = import ./checks.nix {
            inherit pkgs;
            rootless-layer = package;
          };
        };
        meta = {
          description = "OCI layers from trees and scripts: as root, without root, a VM or a daemon";
          longDescription = ''
            A tree and a script go in; a reproducible OCI layer comes out. The script runs as root, as far as it can
            tell, in a user namespace and under fakeroot. Images of layers are written for every reader, and pushed.
          '';
          license = lib.licenses.mit;
          mainProgram = "rootless-layer";
          platforms = [ "x86_64-linux" "aarch64-linux" ];
        };
      }
      ''
        mkdir -p $out/bin $out/lib
        export PYTHONDONTWRITEBYTECODE=1 # compiled modules have the time of this build in them
        cp -r ${source} $out/lib/rootless_layer
        if [ -n "''${CC:-}" ]; then
          chmod u+w $out/lib/rootless_layer/system
          $CC -std=gnu11 -O2 -fPIC -shared -o $out/lib/rootless_layer/system/libloops.so.1 ${source}/system/loops.c
        fi
        sed "s|@home@|$out/lib|" $programPath > $out/bin/rootless-layer
        chmod +x $out/bin/rootless-layer

        PYTHONPATH=$out/lib ${python}/bin/python3 -m rootless_layer.cli.man man
        installManPage man/*.1
        for shell in bash zsh fish; do
          $out/bin/rootless-layer completion $shell > completion
          installShellCompletion --cmd rootless-layer --$shell completion
        done
      '';
in
package
