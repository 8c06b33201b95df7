# Has pkgs.dockerTools be the functions of this directory; what they lack stays nixpkgs' own.
final: prev:
let
  # Where the program runs; elsewhere its libraries may not even evaluate, and nixpkgs' own functions stay.
  inherit (prev.stdenv) buildPlatform hostPlatform;
  runs = hostPlatform.isLinux && buildPlatform.isLinux && (buildPlatform.isx86_64 || buildPlatform.isAarch64);
in
{
  dockerTools =
    if runs then
      import ./tools.nix {
        pkgs = final;
        tools = prev.dockerTools;
      }
    else
      prev.dockerTools;
}
