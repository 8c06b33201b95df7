# Images of layers: a small derivation that says what the image is, and an archive or a script
# that streams it.
{
  pkgs,
  rootless-layer,
  builders,
  layers,
}:
let
  inherit (pkgs) lib;
  inherit (builders)
    toPaths
    toText
    toImage
    references
    taking
    ;
  inherit (layers) buildLayer;

  copies = import ./copying.nix { inherit pkgs builders; };
  defaultArchitecture = pkgs.stdenv.hostPlatform.go.GOARCH or pkgs.go.GOARCH;
  epoch = "1970-01-01T00:00:01Z";
  extensions = {
    none = "";
    gz = ".gz";
    zstd = ".zst";
  };

  # What an image is, and where its layers are.
  assemble =
    {
      name,
      kind ? "image",
      tag ? null,
      base ? null,
      baseName ? null,
      baseTag ? null,
      # Whether all of the base's config is taken, and not only its variables.
      inheritConfig ? false,
      parts ? [ ],
      roots ? [ ],
      without ? [ ],
      maxLayers ? 100,
      reservedLayers ? 0,
      oneLayer ? false,
      pipeline ? null,
      uid ? 0,
      gid ? 0,
      uname ? null,
      gname ? null,
      allowSparse ? false,
      linkIdentical ? false,
      mtime ? epoch,
      config ? { },
      annotations ? { },
      sbom ? null,
      sbomRoots ? [ ],
      created ? epoch,
      architecture ? "",
    }:
    builders.build "nix-image" {
      name = "${baseNameOf name}-${kind}";
      exportReferencesGraph = builders.graphs {
        closure = toPaths roots;
        sbom = lib.optionals (sbom != null) (toPaths sbomRoots);
      };
      imageClosure = lib.optional (roots != [ ]) "closure";
      imageWithout = toPaths without;
      imageName = lib.optionalString (kind == "image") name;
      imageTag = lib.optionalString (tag != null) tag;
      imageBase = lib.optionalString (base != null) (toImage base);
      imageBaseName = lib.optionalString (baseName != null) baseName;
      imageBaseTag = lib.optionalString (baseTag != null) baseTag;
      imageInheritConfig = inheritConfig;
      imageLayers = map toImage parts;
      imageMaxLayers = maxLayers;
      imageReservedLayers = reservedLayers;
      imageOneLayer = oneLayer;
      imageLayeringPipeline = pipeline;
      imageUid = uid;
      imageGid = gid;
      imageUname = toText uname;
      imageGname = toText gname;
      imageAllowSparse = allowSparse;
      imageLinkIdentical = linkIdentical;
      imageEpoch = mtime;
      imageConfig = if config == null then { } else config;
      imageAnnotation = annotations;
      imageSbom = lib.optionalString (sbom != null) sbom;
      imageSbomClosure = lib.optional (sbom != null && sbomRoots != [ ]) "sbom";
      imageCreated = created;
      imageArchitecture = architecture;
      preferLocalBuild = true;
    } { };

  # What callers may know of an image, whichever form it has.
  about = name: tag: image: {
    imageName = lib.toLower name;
    imageTag = if tag != null then tag else builders.hashOf image;
    rootlessImage = image;
  }
  // copies name image;

  # Streams the image that its first argument says.
  streamScript = builders.writeScript "stream" ''
    #!${pkgs.runtimeShell}
    exec ${builders.program} nix-archive "$1" -o - "''${@:2}"
  '';

  stream =
    name: about: passthru: meta:
    (builders.writeScript "stream-${baseNameOf name}" ''
      #!${pkgs.runtimeShell}
      exec ${builders.program} nix-archive ${about.rootlessImage} -o - "$@"
    '').overrideAttrs
      (_: {
        passthru =
          passthru
          // about
          // {
            inherit streamScript;
            isExe = true;
            conf = about.rootlessImage;
          };
        inherit meta;
      });

  archive =
    prefix: name: compressor: passthru: meta:
    let
      extension =
        extensions.${compressor}
          or (throw "in docker image ${name}: compressor must be one of: [${toString (builtins.attrNames extensions)}]");
    in
    builders.write "nix-archive" [ "${passthru.rootlessImage}" "--compressor" compressor ]
      "${prefix}${baseNameOf name}.tar${extension}"
      {
        passthru = passthru // {
          inherit compressor;
        };
        inherit meta;
      };

  # The Nix database of an image, made by the image's own architecture's store paths. What an image below has registered stays.
  databaseOf =
    trees:
    let
      paths = toPaths trees;
      inherit (pkgs.buildPackages) nix sqlite;
    in
    ''
      (
        export NIX_REMOTE=local?root=$PWD USER=nobody
        ${nix}/bin/nix-store --load-db < ${pkgs.closureInfo { rootPaths = paths; }}/registration
        ${sqlite}/bin/sqlite3 nix/var/nix/db/db.sqlite "UPDATE ValidPaths SET registrationTime = $SOURCE_DATE_EPOCH"
        mkdir -p nix/var/nix/gcroots/docker
        for path in ${toString paths}; do
          ln -sfn "$path" "nix/var/nix/gcroots/docker/''${path##*/}"
        done
        rm -rf nix/var/nix/temproots/*
        # A store of several users is their group's.
        chown 0:0 nix nix/store
        chmod 0755 nix nix/store
      )
    '';

  # Said where the layer is built: an evaluation would say it each time.
  withoutVm =
    name: arguments: script:
    lib.optionalString (arguments ? diskSize || arguments ? buildVMMemorySize) ''
      echo >&2 ${
        lib.escapeShellArg "in docker image ${name}: diskSize and buildVMMemorySize do nothing, as there is no virtual machine."
      }
    ''
    + script;

  image =
    {
      name,
      tag ? null,
      fromImage ? null,
      fromImageName ? null,
      fromImageTag ? null,
      copyToRoot ? null,
      keepContentsDirlinks ? false,
      config ? null,
      # Of the manifest, by their names.
      annotations ? { },
      # A bill of materials to attach: "spdx" or "cyclonedx".
      sbom ? null,
      architecture ? defaultArchitecture,
      extraCommands ? "",
      uid ? 0,
      gid ? 0,
      runAsRoot ? null,
      diskSize ? 1024,
      buildVMMemorySize ? 512,
      created ? epoch,
      compressor ? "gz",
      includeNixDB ? false,
      contents ? null,
      # Layers that buildLayer made, below this image's own.
      layers ? [ ],
      inheritConfig ? false,
      passthru ? { },
      meta ? { },
    }@arguments:
    let
      trees =
        lib.warnIf (contents != null)
          "in docker image ${name}: The contents parameter is deprecated. Change to copyToRoot."
          (
            lib.throwIf (contents != null && copyToRoot != null)
              "in docker image ${name}: You can not specify both contents and copyToRoot."
              (if copyToRoot == null then contents else copyToRoot)
          );
      named = references "${baseNameOf name}-references" (builtins.toJSON config);
      known = lib.optional (named != null) named;
      commands = lib.optionalString includeNixDB (databaseOf trees) + toText extraCommands;
      layer = buildLayer {
        name = "docker-layer-${baseNameOf name}";
        copyToRoot = trees;
        closureRoots = known;
        without = known;
        extraCommands = commands;
        fromImage = if runAsRoot == null && !includeNixDB then null else fromImage;
        below = lib.optional (fromImage != null) fromImage ++ layers;
        followDirlinks = !keepContentsDirlinks;
        conflict = "last"; # as rsync copies them
        inherit
          keepContentsDirlinks
          fromImageName
          fromImageTag
          architecture
          ;
        runAsRoot = if runAsRoot == null then null else withoutVm name arguments runAsRoot;
        uid = if runAsRoot == null then uid else 0;
        gid = if runAsRoot == null then gid else 0;
      };
      # What the scripts made may name store paths that nobody else does.
      scripted = runAsRoot != null || commands != "";
    in
    {
      about =
        about name tag (assemble {
          inherit
            name
            tag
            config
            annotations
            sbom
            created
            architecture
            inheritConfig
            ;
          base = fromImage;
          baseName = fromImageName;
          baseTag = fromImageTag;
          sbomRoots = layers ++ [ layer ];
          parts = layers ++ [ layer ];
          roots = lib.optional scripted layer;
          without = lib.optional scripted layer;
          oneLayer = scripted;
        })
        // {
          inherit layer;
          buildArgs = arguments;
        };
      inherit passthru meta;
    };

  buildImage =
    {
      name,
      compressor ? "gz",
      ...
    }@arguments:
    let
      made = image arguments;
    in
    archive "docker-image-" name compressor (made.passthru // made.about) made.meta;

  streamImage =
    { name, ... }@arguments:
    let
      made = image arguments;
    in
    stream name made.about made.passthru made.meta;

  streamLayeredImage =
    {
      name,
      tag ? null,
      fromImage ? null,
      fromImageName ? null,
      fromImageTag ? null,
      contents ? [ ],
      config ? { },
      # Of the manifest, by their names.
      annotations ? { },
      # A bill of materials to attach: "spdx" or "cyclonedx".
      sbom ? null,
      architecture ? defaultArchitecture,
      created ? epoch,
      mtime ? epoch,
      uid ? 0,
      gid ? 0,
      # What the headers call that user and that group. Nothing by default: readers of layers go by the numbers.
      uname ? null,
      gname ? null,
      maxLayers ? 100,
      extraCommands ? "",
      fakeRootCommands ? "",
      enableFakechroot ? false,
      includeStorePaths ? true,
      includeNixDB ? false,
      passthru ? { },
      meta ? { },
      layeringPipeline ? null,
      allowSparse ? false,
      linkIdentical ? false,
      inheritConfig ? false,
      debug ? false,
    }:
    assert lib.assertMsg (layeringPipeline == null -> maxLayers > 1)
      "the maxLayers argument of buildLayeredImage must be greater than 1 (current value: ${toString maxLayers})";
    let
      named = references "${baseNameOf name}-references" (builtins.toJSON config);
      customisation = buildLayer {
        name = "${baseNameOf name}-customisation-layer";
        copyToRoot = contents;
        includeClosure = false;
        link = "symbolic";
        conflict = "first"; # as symlinkJoin links them
        extraCommands = lib.optionalString includeNixDB (databaseOf contents) + toText extraCommands;
        fromImage = if includeNixDB then fromImage else null;
        inherit
          fromImageName
          fromImageTag
          fakeRootCommands
          enableFakechroot
          ;
      };
      # What the database registers is there, also where nothing but the database names it.
      registered = lib.optionals includeNixDB (toPaths contents);
      made = [ customisation ] ++ lib.optional (named != null) named;
      base = {
        inherit name architecture inheritConfig;
        base = fromImage;
        baseName = fromImageName;
        baseTag = fromImageTag;
      };
      stored = assemble (
        base
        // {
          kind = "store-layers";
          roots = made ++ registered;
          without = made;
          inherit
            maxLayers
            uid
            gid
            uname
            gname
            mtime
            allowSparse
            linkIdentical
            ;
          reservedLayers = 1;
          pipeline = lib.traceIf debug "in docker image ${name}: layeringPipeline = ${builtins.toJSON layeringPipeline}" layeringPipeline;
        }
      );
      final = assemble (
        (if includeStorePaths then { inherit name architecture inheritConfig; base = stored; } else base)
        // {
          inherit
            tag
            config
            annotations
            sbom
            created
            ;
          sbomRoots = made;
          parts = [ customisation ];
        }
      );
    in
    stream name (about name tag final) passthru meta;

  buildLayeredImage =
    {
      name,
      compressor ? "gz",
      meta ? { },
      ...
    }@arguments:
    archived name compressor meta (
      streamLayeredImage (
        builtins.removeAttrs arguments [
          "compressor"
          "meta"
        ]
      )
    );

  # The archive of what would be streamed.
  archived =
    name: compressor: meta: streamed:
    archive "" name compressor (
      builtins.removeAttrs streamed.passthru [ "isExe" ] // { stream = streamed; }
    ) meta;

  # Several images in one archive, compressed as the last of them.
  mergeImages =
    images:
    builders.write "nix-archive" (
      map toImage images
      ++ [
        "--compressor"
        ((lib.last images).compressor or (if (lib.last images) ? rootlessImage then "none" else "last"))
      ]
    ) "merge-docker-images" { };

  # The files of an image, as one tar.
  exportImage =
    {
      name ? fromImage.name,
      fromImage,
      fromImageName ? null,
      fromImageTag ? null,
      diskSize ? 1024,
    }:
    let
      tag = lib.optionalString (fromImageTag != null) ":${fromImageTag}";
    in
    builders.write "nix-export" (
      [ (toImage fromImage) ]
      ++ lib.optionals (fromImageName != null) [
        "--name"
        "${fromImageName}${tag}"
      ]
    ) name { };

  withNixDb =
    function: taking function { includeNixDB = true; } (arguments: function (arguments // { includeNixDB = true; }));
  functions = {
    buildImage = lib.makeOverridable (taking image { compressor = true; } buildImage);
    streamImage = lib.makeOverridable (taking image { } streamImage);
    buildLayeredImage = lib.makeOverridable (taking streamLayeredImage { compressor = true; } buildLayeredImage);
    streamLayeredImage = lib.makeOverridable streamLayeredImage;
  };
in
functions
// {
  buildImageWithNixDb = withNixDb functions.buildImage;
  buildLayeredImageWithNixDb = withNixDb functions.buildLayeredImage;
  inherit mergeImages exportImage archived;
}
