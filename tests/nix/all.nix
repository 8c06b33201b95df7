# Every example, and what tells the tests about it.
let
  pkgs = import <test-pkgs/pkgs.nix> { machine = <machine>; };
  ours = import <rootless-layer> {
    inherit pkgs;
    rootless-layer = import <machine/program.nix> { inherit pkgs; };
  };
  examples = import ./examples.nix { inherit pkgs ours; };
  archives = import ./archives.nix { inherit pkgs ours examples; };
  about =
    name: image:
    {
      inherit name;
      value = {
        inherit (image) imageName imageTag;
        image = "${image.rootlessImage}";
        isExe = image.isExe or false;
        passthru = builtins.mapAttrs (_name: toString) (builtins.intersectAttrs { extra = null; symlink = null; } image.passthru);
        description = image.meta.description or "";
      };
    };
in
{
  inherit pkgs ours examples archives;
  index = pkgs.writeText "index.json" (
    builtins.toJSON {
      images = pkgs.lib.mapAttrs' about examples;
      all = "${ours.mergeImages (builtins.attrValues examples)}";
      archives = builtins.mapAttrs (_name: archive: "${archive}") archives;
      paths = { inherit (pkgs) bash busybox coreutils; };
    }
  );
}
