{
  description = "OCI layers from trees and scripts: as root, without root, a VM or a daemon";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      each = make: nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
      functions = pkgs: import ./rootless_layer/nix { inherit pkgs; };
    in
    {
      # pkgs.dockerTools of these functions.
      overlays.default = import ./rootless_layer/nix/overlay.nix;

      # lib.x86_64-linux.buildImage, and the others; with packages of one's own: lib.for pkgs.
      lib = each functions // {
        for = functions;
      };

      packages = each (pkgs: {
        default = (functions pkgs).rootless-layer;
        inherit (functions pkgs) rootless-layer;
      });

      checks = each (pkgs: (functions pkgs).rootless-layer.tests);

      templates = {
        default = self.templates.image;
        image = {
          path = ./templates/image;
          description = "An image of a package, with a user";
        };
        layer = {
          path = ./templates/layer;
          description = "A layer by the hook, of what a package's phases install";
        };
        chain = {
          path = ./templates/chain;
          description = "Images upon each other";
        };
      };
    };
}
