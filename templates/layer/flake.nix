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
      site = pkgs.stdenv.mkDerivation {
        name = "site";
        src = pkgs.writeTextDir "index.html" "hello";
        nativeBuildInputs = [ rootless.rootlessLayerHook ];
        installPhase = "mkdir -p $out/srv; cp -r . $out/srv/site";
        exportReferencesGraph = [ "closure" pkgs.coreutils ];
        layerScript = "chown -R 33:33 srv/site";
        layerView = "directory";
      };
    in
    {
      packages.${system} = {
        inherit site;
        # $(nix build --print-out-paths) | podman load
        default = rootless.streamImage {
          name = "site";
          tag = "latest";
          layers = [ site ];
          config.Cmd = [ "${pkgs.coreutils}/bin/cat" "/srv/site/index.html" ];
        };
      };
    };
}
