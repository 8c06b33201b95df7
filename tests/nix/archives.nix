# Files that are made of images.
{ pkgs, ours, examples }:
let
  text = name: compressor: ours.buildImage {
    inherit name compressor;
    tag = "latest";
    copyToRoot = pkgs.writeTextDir "text" name;
  };
in
rec {
  none = text "none" "none";
  gz = ours.buildImage {
    name = "gz";
    tag = "latest";
    copyToRoot = pkgs.writeTextDir "text" "gz";
  };
  zstd = text "zstd" "zstd";
  layered-gz = ours.buildLayeredImage {
    name = "layered-gz";
    tag = "latest";
    contents = [ pkgs.busybox ];
  };
  layered-zstd = ours.buildLayeredImage {
    name = "layered-zstd";
    tag = "latest";
    compressor = "zstd";
  };
  shell = ours.buildNixShellImage {
    drv = pkgs.runCommand "shell-archive" { } "touch $out";
    compressor = "none";
  };
  merged = ours.mergeImages [ none gz zstd ];
  # From the archives alone, as of images that somebody else has made.
  merged-archives = ours.mergeImages [ "${zstd}" "${none}" "${gz}" ];
  streamed = pkgs.runCommand "streamed.tar" { } "${examples.layered-image} > $out";
  exported = ours.exportImage { fromImage = examples.redis; };
  on-archive = ours.buildImage {
    name = "on-archive";
    tag = "latest";
    compressor = "none";
    fromImage = "${gz}";
    runAsRoot = "cat /text > /copy";
  };
}
