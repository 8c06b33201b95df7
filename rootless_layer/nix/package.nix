# The program of this directory's own Python package, as a derivation.
{ pkgs }:
let
  inherit (pkgs) lib buildPackages;
  python = buildPackages.python3.withPackages (packages: [
    packages.attrs
    packages.click
    packages.isal
    packages.libarchive-c
    packages.platformdirs
    packages.zstandard
  ]);
  # The files of this directory that Nix reads are left out: a change of theirs is none of the program.
  source = builtins.path {
    name = "rootless_layer";
    path = ../.;
    filter = path: _type: builtins.match ".*[.]nix|hook[.]sh|__pycache__" (baseNameOf path) == null;
  };
  home = buildPackages.runCommand "rootless-layer-python" { } ''
    mkdir $out
    ln -s ${source} $out/rootless_layer
  '';
in
buildPackages.writeScriptBin "rootless-layer" ''
  #!${buildPackages.runtimeShell}
  export PATH=${lib.makeBinPath [ buildPackages.fakeroot buildPackages.coreutils ]}:$PATH
  export PYTHONPATH=${home}
  exec ${python}/bin/python3 -m rootless_layer "$@"
''
