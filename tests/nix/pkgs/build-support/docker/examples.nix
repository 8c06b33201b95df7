# Where nixpkgs has its examples of dockerTools, as functions of dockerTools' own.
{
  pkgs,
  buildImage,
  buildLayeredImage,
  shadowSetup,
}:
{
  users = buildImage {
    name = "users";
    tag = "latest";
    runAsRoot = "${shadowSetup}";
  };
  layered = buildLayeredImage {
    name = "layered";
    tag = "latest";
    contents = [ pkgs.busybox ];
  };
}
