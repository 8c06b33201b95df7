# A real nixpkgs, through the overlay and by itself: what can be seen of each of its images.
#
# `nixpkgs` is where it is, `snippets` a directory of the manual's expressions, a file each.
{ nixpkgs, snippets }:
let
  overlay = import <rootless-layer/overlay.nix>;
  import' = overlays: import nixpkgs { config = { }; inherit overlays; };
  pkgsOf = {
    ours = import' [ overlay ];
    theirs = import' [ ];
  };
  inherit (pkgsOf.theirs) lib;

  # Images from a machine of another architecture.
  crossed =
    overlays:
    (import nixpkgs {
      config = { };
      inherit overlays;
      localSystem = "aarch64-linux";
      crossSystem = "x86_64-linux";
    });
  cross = builtins.mapAttrs (_: tools: {
    cross-buildImage = tools.buildImage { name = "cross"; };
    cross-streamLayeredImage = tools.streamLayeredImage { name = "cross"; };
  }) {
    ours = (crossed [ overlay ]).dockerTools;
    theirs = (crossed [ ]).dockerTools;
  };

  # An image of packages for other machines: for those on which the program does not run, all is nixpkgs' own.
  others =
    overlays:
    let
      of = system: import nixpkgs { config = { }; localSystem = system; inherit overlays; };
      pkgs = import' overlays;
    in
    {
      aarch64-linux = of "aarch64-linux";
      cross-aarch64 = pkgs.pkgsCross.aarch64-multiplatform;
      cross-riscv64 = pkgs.pkgsCross.riscv64;
      musl = pkgs.pkgsMusl;
      own-aarch64-darwin = of "aarch64-darwin";
      own-x86_64-darwin = of "x86_64-darwin";
      own-i686-linux = pkgs.pkgsi686Linux;
      own-darwin-to-linux = (of "aarch64-darwin").pkgsCross.aarch64-multiplatform;
    };
  platforms =
    which:
    lib.concatMapAttrs (system: pkgs: {
      "${system}/image" = pkgs.dockerTools.buildImage { name = "x"; copyToRoot = pkgs.writeTextDir "text" "x"; };
      "${system}/layered" = pkgs.dockerTools.streamLayeredImage { name = "x"; contents = pkgs.writeTextDir "text" "x"; };
    }) (others (if which == "ours" then [ overlay ] else [ ]));

  # What a test's script says, which names all of its images.
  scriptOf =
    pkgs: file:
    let
      script = (import file { inherit pkgs lib; config.node.pkgs = pkgs; }).testScript;
    in
    if builtins.isFunction script then script { nodes = { }; } else script;
  scripts = [ "docker-tools" "docker-tools-nix-shell" "docker-tools-overlay" ];

  snippet = pkgs: file: pkgs.callPackage file { };
  own = drv: drv.drvAttrs.requiredSystemFeatures or [ ];
  # Nothing, where that cannot be evaluated.
  seen =
    value:
    let
      found = builtins.tryEval (builtins.deepSeq value value);
    in
    if found.success then found.value else null;
  about = drv: seen (aboutOf drv);
  aboutOf = drv: {
    inherit (drv) name drvPath;
    outputs = drv.outputs or [ ];
    passthru = builtins.attrNames (drv.passthru or { });
    imageName = drv.imageName or null;
    tagged = drv ? imageTag;
    features = own drv ++ (if drv ? layer then own drv.layer else [ ]);
    changes = if drv ? overrideAttrs then (drv.overrideAttrs { name = "changed"; }).name else "changed";
    overridable = drv ? override;
    architecture = drv.rootlessImage.imageArchitecture or null;
  };
  side =
    which:
    let
      pkgs = pkgsOf.${which};
    in
    {
      examples = builtins.mapAttrs (_: about) (builtins.removeAttrs pkgs.dockerTools.examples [ "override" "overrideDerivation" ]);
      snippets = builtins.mapAttrs (file: _: about (snippet pkgs (snippets + "/${file}"))) (
        lib.filterAttrs (file: _: lib.hasSuffix ".nix" file) (builtins.readDir snippets)
      );
      cross = builtins.mapAttrs (_: about) cross.${which};
      platforms = builtins.mapAttrs (_: about) (platforms which);
      tests = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = seen (builtins.attrNames (builtins.getContext (scriptOf pkgs (nixpkgs + "/nixos/tests/${name}.nix"))));
        }) scripts
      );
      functions = builtins.mapAttrs (_: lib.functionArgs) (lib.filterAttrs (_: lib.isFunction) pkgs.dockerTools);
      names = builtins.attrNames pkgs.dockerTools;
    };
in
{
  ours = side "ours";
  theirs = side "theirs";
}
