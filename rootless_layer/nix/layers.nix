# One layer, one derivation.
{ pkgs, builders }:
let
  inherit (pkgs) lib;
  inherit (builders) toPaths toImage;

  # The variables of a build; out and the number of cores are of the layer's own.
  inBuild = ''
    export NIX_BUILD_TOP="''${TMPDIR:-/tmp}" NIX_STORE=${builtins.storeDir} SOURCE_DATE_EPOCH=315532800
  '';
  # Root's scripts find the shell's programs and no others, as in dockerTools' VM.
  asRoot = ''
    ${inBuild}export PATH=${pkgs.buildPackages.coreutils}/bin:/bin
    mkdir -p /tmp
  '';
  # The others have what a builder of stdenv's has: its programs, functions and options.
  asBuilder = ''
    ${inBuild}export stdenv=${pkgs.buildPackages.stdenvNoCC}
    source $stdenv/setup
  '';
  # After root's, extraCommands have the options of a shell of their own.
  afterRoot = ''
    ${asBuilder}set +o pipefail
    shopt -u nullglob inherit_errexit
  '';
  texts = text: builtins.filter (text: text != "") [ (builders.toText text) ];
  script =
    name: header: text:
    builders.writeScript name ''
      #!${builders.runtimeShell}
      set -e
      ${header}${text}
    '';

  buildLayer =
    {
      name ? "layer",
      # Trees that are merged into the root: store paths, or a list of them. (contents: its old name.)
      copyToRoot ? null,
      contents ? null,
      # Store paths that are in the layer with all that they need.
      closureRoots ? [ ],
      # Whether what copyToRoot needs is in the layer too, or is put elsewhere.
      includeClosure ? true,
      # Store paths that are left out of it.
      without ? [ ],
      # How a root file stands for a store file: hard, symbolic or copy.
      link ? "hard",
      # What rsync's -K and -k do: a directory goes where a link to one is; such a link in a
      # tree becomes a directory of what it leads to.
      keepContentsDirlinks ? false,
      followDirlinks ? false,
      # Which of two trees' files counts: error, first or last.
      conflict ? "error",
      # What the layer is built upon: an image, layers.
      fromImage ? null,
      fromImageName ? null,
      fromImageTag ? null,
      baseLayers ? [ ],
      # Images whose store paths are left out; the scripts do not see them.
      below ? [ ],
      # Scripts. The first sees the tree as /; the others have it as their directory, all but
      # with enableFakechroot or after the first.
      runAsRoot ? null,
      extraCommands ? "",
      fakeRootCommands ? "",
      enableFakechroot ? false,
      environment ? { },
      # What scripts see and the layer does not have, as `build --mount` has it: binds and memory.
      mounts ? [ ],
      timeout ? null,
      closureWritable ? false,
      # Whether what is another in each build is left out: logs and caches of package managers.
      tidy ? false,
      # Whether files with more than 1 GiB of holes are written, every byte of them.
      allowSparse ? false,
      # Whether the closure's files with the same bytes are hard links of one.
      linkIdentical ? false,
      # Who owns what no script makes, and the latest time that anything has.
      uid ? 0,
      gid ? 0,
      # What the tar's headers call that user and that group; readers of layers go by the numbers.
      uname ? null,
      gname ? null,
      mtime ? 1,
      # A derived layer is made again, whenever it is read, of the files that it names.
      blob ? "derived",
      compressor ? "none",
      architecture ? "",
      # What runs scripts in the root view where the architecture is another than this machine's:
      # a static qemu-user. Without one, that of PATH.
      emulator ? null,
      passthru ? { },
      meta ? { },
    }:
    let
      trees =
        lib.throwIf (contents != null && copyToRoot != null)
          "in layer ${name}: You can not specify both contents and copyToRoot."
          (toPaths (if copyToRoot == null then contents else copyToRoot));
      scripts =
        lib.optional (runAsRoot != null) (script "run-as-root" asRoot runAsRoot)
        ++ map (script "extra-commands" (if runAsRoot == null then asBuilder else afterRoot)) (texts extraCommands)
        ++ map (script "fake-root-commands" asBuilder) (texts fakeRootCommands);
      chosen =
        let
          tag = lib.optionalString (fromImageTag != null) ":${fromImageTag}";
        in
        lib.optionalString (fromImageName != null) "#${fromImageName}${tag}";
      bases = lib.optional (fromImage != null) "${toImage fromImage}${chosen}" ++ map toImage baseLayers;
      rooted = lib.optionals includeClosure (trees ++ toPaths closureRoots);
      seen = map (one: "${one}") scripts ++ lib.optionals (!includeClosure) (trees ++ toPaths closureRoots);
    in
    builders.build "nix-build"
      {
        inherit name;
        exportReferencesGraph = builders.graphs {
          closure = rooted;
          tools = seen;
        };
        layerClosure = lib.optional (rooted != [ ]) "closure";
        layerTools = lib.optional (seen != [ ]) "tools";
        layerWithout = toPaths without;
        layerContents = trees;
        layerLink = link;
        layerKeepDirlinks = keepContentsDirlinks;
        layerFollowDirlinks = followDirlinks;
        layerConflict = conflict;
        layerBases = bases;
        layerBelow = map toImage below;
        layerPlatform = lib.optionalString (architecture != "") "linux/${architecture}";
        layerEmulator = emulator;
        layerScripts = map (one: "${one}") scripts;
        layerView = if runAsRoot != null || enableFakechroot then "root" else "directory";
        layerEnvironment = lib.optionalAttrs (scripts != [ ]) { out = placeholder "out"; } // environment;
        layerMounts = mounts;
        layerTimeout = timeout;
        layerClosureWritable = closureWritable;
        layerTidy = tidy;
        layerAllowSparse = allowSparse;
        layerLinkIdentical = linkIdentical;
        layerUid = uid;
        layerGid = gid;
        layerUname = builders.toText uname;
        layerGname = builders.toText gname;
        layerEpoch = mtime;
        layerBlob = blob;
        layerCompression = compressor;
      }
      { inherit meta passthru; };
in
{
  buildLayer = lib.makeOverridable buildLayer;

  # For nativeBuildInputs: what the other phases installed becomes the root of a layer.
  rootlessLayerHook = pkgs.makeSetupHook {
    name = "rootless-layer-hook";
    substitutions.program = builders.program;
  } ./hook.sh;
}
