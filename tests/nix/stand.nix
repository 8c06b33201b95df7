# All images of a real nixpkgs over the small packages: stand-ins take the place of what only a network would bring.
#
# `nixpkgs` is where it is, `snippets` a directory of the manual's expressions, a file each.
{ nixpkgs, snippets }:
let
  lib = import (nixpkgs + "/lib");
  small = import <test-pkgs/pkgs.nix> { machine = <machine>; };

  # A program of that name, which says hello.
  program =
    name:
    small.runCommand name { meta = { }; } ''
      mkdir -p $out/bin
      printf '#!%s\necho hello\n' ${small.runtimeShell} > $out/bin/${name}
      chmod +x $out/bin/${name}
    '';
  ours = import <rootless-layer> {
    pkgs = pkgs // { inherit (small) dockerTools; };
    rootless-layer = import <machine/program.nix> { pkgs = small; };
  };
  # What a registry would give.
  pulled = ours.buildImage {
    name = "pulled";
    tag = "latest";
    copyToRoot = small.bash;
  };
  pkgs =
    small
    // lib.genAttrs [ "cowsay" "emacs" "git" "hello" "nano" "nginx" "redis" "vim" ] program
    // {
      inherit lib pkgs;
      buildPackages = pkgs;
      pkgsStatic = pkgs;
      pkgsCross = lib.genAttrs [ "aarch64-multiplatform" "gnu64" ] (_: {
        dockerTools = tools;
        inherit (pkgs) hello;
      } // pkgs);
      dockerTools = tools;
      pkgsModule = { config._module.args = { inherit pkgs; }; };
      runCommandLocal = small.runCommand;
      writeShellScript = name: text: small.writeScript name "#!${small.runtimeShell}\n${text}";
      writeShellScriptBin = name: text: small.writeScriptBin name "#!${small.runtimeShell}\n${text}";
      perl = program "perl" // { withPackages = _: program "perl"; };
      mkShell = given: small.stdenv.mkDerivation ({ name = "nix-shell"; buildCommand = "touch $out"; } // given);
      mkShellNoCC = pkgs.mkShell;
      testers.invalidateFetcherByDrvHash = fetch: fetch;
      callPackage = lib.callPackageWith pkgs;
    };
  tools = small.dockerTools // ours // {
    inherit (small) fakeNss;
    pullImage = _: pulled;
    inherit examples;
  };
  place = nixpkgs + "/pkgs/build-support/docker/examples.nix";
  examples = removeAttrs (lib.callPackageWith (pkgs // tools) place { }) [ "override" "overrideDerivation" ];
in
{
  inherit examples;
  snippets = builtins.mapAttrs (file: _: pkgs.callPackage (snippets + "/${file}") { }) (
    lib.filterAttrs (file: _: lib.hasSuffix ".nix" file) (builtins.readDir snippets)
  );
}
