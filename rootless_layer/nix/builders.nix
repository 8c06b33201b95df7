# What the other files build their derivations with.
{ pkgs, rootless-layer }:
let
  inherit (pkgs) lib;
  program = "${rootless-layer}/bin/rootless-layer";
in
rec {
  inherit program;
  inherit (pkgs.buildPackages) runtimeShell writeScript;

  # A derivation that the program itself builds, by its structured attributes.
  build =
    command: attributes: about:
    pkgs.stdenvNoCC.mkDerivation (
      {
        realBuilder = program;
        args = [ command ];
        __structuredAttrs = true;
      }
      // attributes
      // about
    );

  # A derivation with one file, which the program writes.
  write =
    command: arguments: name: about:
    pkgs.stdenvNoCC.mkDerivation (
      {
        inherit name;
        realBuilder = program;
        args = [ command ] ++ arguments ++ [ "-o" (placeholder "out") ];
      }
      // about
    );

  # One or several, or lists of them, or null, as a list of store paths.
  toPaths =
    value: map (path: "${path}") (builtins.filter (path: path != null && path != "") (lib.flatten [ value ]));

  # A script's text, which null is as well.
  toText = text: if text == null then "" else text;

  # A function that takes what another takes, and more.
  taking = others: more: function: lib.setFunctionArgs function (lib.functionArgs others // more);

  # An image by the small output that says where its layers are, where it is one of ours.
  toImage = image: "${image.rootlessImage or image}";

  # A file of the store paths that a text names, or null: what depends on it is built again
  # when these change, and not with the rest of the text.
  references =
    name: text:
    let
      path = "${lib.escapeRegex builtins.storeDir}/[0-9a-z]{32}-[-0-9A-Za-z+._?=]+";
      # Of a content-addressed derivation only a placeholder is known.
      found = builtins.filter builtins.isList (builtins.split "(${path}|/[0-9a-z]{52})" text);
      named = lib.unique (builtins.sort builtins.lessThan (map builtins.head found));
      context = builtins.getContext text;
    in
    if context == { } then
      null
    else
      pkgs.buildPackages.writeText name (
        builtins.appendContext (lib.concatStringsSep "\n" named) context
      );

  # An output's digest, which is an image's tag where none is given.
  hashOf =
    drv: lib.head (lib.splitString "-" (baseNameOf (builtins.unsafeDiscardStringContext drv.outPath)));

  # References graphs, without those of nothing.
  graphs = lib.filterAttrs (_name: roots: roots != [ ]);
}
