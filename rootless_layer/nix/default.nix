# Layers and images as derivations: dockerTools' functions and arguments, without a VM.
#
#   (import <this directory> { inherit pkgs; }).buildImage { name = "redis"; … }
#
# docs/nix.md says what each function gives, and docs/dockertools.md
# what differs. No derivation of these needs the network or a system feature.
{
  pkgs,
  # The program that the builders run: by default this very source, with the Python of pkgs.
  rootless-layer ? pkgs.buildPackages.callPackage ./package.nix { },
}:
let
  builders = import ./builders.nix { inherit pkgs rootless-layer; };
  layers = import ./layers.nix { inherit pkgs builders; };
  images = import ./images.nix { inherit pkgs rootless-layer builders layers; };
  shells = import ./shells.nix { inherit pkgs images borrowed; };

  # What nixpkgs has, and needs no VM, is taken from there.
  borrowed =
    name:
    (pkgs.dockerTools or { }).${name} or pkgs.${name}
      or (throw "rootless-layer: neither pkgs.dockerTools nor pkgs has ${name}");
in
{
  inherit rootless-layer;
  inherit (layers) buildLayer rootlessLayerHook;
  inherit (images)
    buildImage
    streamImage
    buildLayeredImage
    streamLayeredImage
    buildImageWithNixDb
    buildLayeredImageWithNixDb
    mergeImages
    exportImage
    ;
  inherit (shells) buildNixShellImage streamNixShellImage;
}
// builtins.listToAttrs (
  map (name: {
    inherit name;
    value = borrowed name;
  }) [
    "shadowSetup"
    "fakeNss"
    "binSh"
    "usrBinEnv"
    "caCertificates"
    "pullImage"
  ]
)
