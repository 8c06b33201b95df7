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
    in
    {
      packages.${system} = {
        # $(nix build --print-out-paths) | podman load
        default = rootless.streamLayeredImage {
          name = "hello";
          tag = "latest";
          contents = [ pkgs.coreutils rootless.binSh ];
          enableFakechroot = true;
          fakeRootCommands = ''
            ${rootless.shadowSetup}
            useradd --uid 1000 --create-home app
            mkdir -p /data
            chown app: /data
          '';
          config = {
            Cmd = [ "${pkgs.coreutils}/bin/echo" "hello" ];
            User = "app";
            WorkingDir = "/data";
          };
        };
      };
    };
}
