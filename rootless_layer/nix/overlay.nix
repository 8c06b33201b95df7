# Has pkgs.dockerTools be the functions of this directory; what they lack stays nixpkgs' own.
final: prev: {
  dockerTools =
    prev.dockerTools
    // import ./. { pkgs = final // { inherit (prev) dockerTools; }; };
}
