{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  # Where its flake is, or a name of the registry: nix registry add rootless-layer …
  inputs.rootless-layer.url = "rootless-layer";
  inputs.rootless-layer.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, rootless-layer, ... }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      rootless = rootless-layer.lib.${system};
      image =
        name: fromImage: runAsRoot:
        rootless.streamImage {
          inherit name fromImage runAsRoot;
          tag = "latest";
        };
      base = rootless.streamImage {
        name = "base";
        tag = "latest";
        copyToRoot = [ pkgs.bash pkgs.coreutils ];
      };
      data = image "data" base "mkdir /data; chown 1000:1000 /data";
    in
    {
      packages.${system} = {
        inherit base data;
        # $(nix build --print-out-paths) | podman load
        default = image "app" data "echo hello > /data/greeting";
      };
    };
}
