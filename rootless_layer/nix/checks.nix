# One of each kind, made by the program: an image whose script is root, a layer by the hook, and a chain of images.
{ pkgs, rootless-layer }:
let
  rootless = import ./. { inherit pkgs rootless-layer; };
  link = fromImage: n: rootless.buildImage {
    name = "link-${toString n}";
    tag = "latest";
    compressor = "none";
    inherit fromImage;
    runAsRoot = "mkdir -p /srv; echo ${toString n} > /srv/${toString n}; chown ${toString n}:0 /srv/${toString n}";
  };
  first = rootless.buildImage {
    name = "first";
    tag = "latest";
    compressor = "none";
    copyToRoot = [ pkgs.bash pkgs.coreutils ];
  };
in
{
  image = rootless.buildLayeredImage {
    name = "image";
    tag = "latest";
    contents = [ pkgs.coreutils ];
    enableFakechroot = true;
    fakeRootCommands = ''
      ${rootless.shadowSetup}
      useradd --uid 1234 --create-home app
    '';
    config.User = "app";
  };
  layer = pkgs.stdenv.mkDerivation {
    name = "layer";
    nativeBuildInputs = [ rootless.rootlessLayerHook ];
    exportReferencesGraph = [ "closure" pkgs.coreutils ];
    installPhase = "mkdir -p $out/srv; echo text > $out/srv/file";
    layerScript = "chown -R 33:33 srv";
    layerView = "directory";
  };
  chain = builtins.foldl' link first [ 1 2 3 ];
}
