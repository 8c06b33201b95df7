# nixpkgs' dockerTools (`tools`) with the functions of this directory in place of its own.
{ pkgs, tools }:
let
  inherit (pkgs) lib;
  place = pkgs.path + "/pkgs/build-support/docker/examples.nix";

  # `given` is what override was given so far: arguments of nixpkgs' dockerTools, packages of pkgs, the program.
  make =
    given:
    let
      theirs = if given == { } then tools else tools.override (removeAttrs given [ "rootless-layer" ]);
      ours = import ./. (
        { pkgs = pkgs // given // { dockerTools = theirs; }; }
        // lib.optionalAttrs (given ? rootless-layer) { inherit (given) rootless-layer; }
      );
    in
    theirs
    // ours
    // lib.optionalAttrs (tools ? examples) {
      # nixpkgs' own, by these functions.
      examples = pkgs.callPackage place (builtins.intersectAttrs (builtins.functionArgs (import place)) ours);
    }
    // lib.optionalAttrs (tools ? override) {
      override = lib.setFunctionArgs (
        changes: make (given // (if builtins.isFunction changes then changes (pkgs // given) else changes))
      ) (lib.functionArgs tools.override);
    };
in
make { }
