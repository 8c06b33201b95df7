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
  inherit (builders) toPaths toImage references;
  inherit (layers) buildLayer;

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
      parts ? [ ],
      roots ? [ ],
      without ? [ ],
      maxLayers ? 100,
      counted ? 0,
      pipeline ? null,
      uid ? 0,
      gid ? 0,
      allowSparse ? false,
      mtime ? epoch,
      config ? { },
      created ? epoch,
      architecture ? "",
    }:
    builders.build "nix-image" {
      name = "${baseNameOf name}-${kind}";
      exportReferencesGraph = builders.graphs { closure = toPaths roots; };
      imageClosure = lib.optional (roots != [ ]) "closure";
      imageWithout = toPaths without;
      imageName = lib.optionalString (kind == "image") name;
      imageTag = lib.optionalString (tag != null) tag;
      imageBase = lib.optionalString (base != null) (toImage base);
      imageBaseName = lib.optionalString (baseName != null) baseName;
      imageBaseTag = lib.optionalString (baseTag != null) baseTag;
      imageLayers = map toImage parts;
      imageMaxLayers = maxLayers;
      imageCountedLayers = counted;
      imageLayeringPipeline = pipeline;
      imageUid = uid;
      imageGid = gid;
      imageAllowSparse = allowSparse;
      imageEpoch = mtime;
      imageConfig = if config == null then { } else config;
      imageCreated = created;
      imageArchitecture = architecture;
      preferLocalBuild = true;
    } { };

  # What callers may know of an image, whichever form it has.
  about = name: tag: image: {
    imageName = lib.toLower name;
    imageTag = if tag != null then tag else builders.hashOf image;
    rootlessImage = image;
  };

  stream =
    name: about: more:
    builders.writeScript "stream-${baseNameOf name}" ''
      #!${pkgs.runtimeShell}
      exec ${builders.program} nix-archive ${about.rootlessImage} -o - "$@"
    ''
    // about
    // {
      isExe = true;
      conf = about.rootlessImage;
    }
    // more;

  archive =
    prefix: name: compressor: about: more:
    let
      extension =
        extensions.${compressor}
          or (throw "in docker image ${name}: compressor must be one of: [${toString (builtins.attrNames extensions)}]");
    in
    builders.write "nix-archive" [ "${about.rootlessImage}" "--compressor" compressor ]
      "${prefix}${baseNameOf name}.tar${extension}"
      (about // { inherit compressor; } // more);

  # The Nix database of an image, made by the image's own architecture's store paths.
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
          ln -s "$path" "nix/var/nix/gcroots/docker/''${path##*/}"
        done
      )
    '';

  withoutVm =
    name: arguments: value:
    lib.warnIf (arguments ? diskSize || arguments ? buildVMMemorySize)
      "in docker image ${name}: diskSize and buildVMMemorySize do nothing, as there is no virtual machine."
      value;

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
      commands = lib.optionalString includeNixDB (databaseOf trees) + extraCommands;
      layer = buildLayer {
        name = "docker-layer-${baseNameOf name}";
        copyToRoot = trees;
        closureRoots = known;
        without = known;
        extraCommands = commands;
        fromImage = if runAsRoot == null then null else fromImage;
        below = lib.optional (fromImage != null) fromImage ++ layers;
        followDirlinks = !keepContentsDirlinks;
        conflict = "last"; # as rsync copies them
        inherit
          keepContentsDirlinks
          runAsRoot
          fromImageName
          fromImageTag
          architecture
          ;
        uid = if runAsRoot == null then uid else 0;
        gid = if runAsRoot == null then gid else 0;
      };
      # What the scripts made may name store paths that nobody else does.
      scripted = runAsRoot != null || commands != "";
    in
    withoutVm name arguments {
      about =
        about name tag (assemble {
          inherit
            name
            tag
            config
            created
            architecture
            ;
          base = fromImage;
          baseName = fromImageName;
          baseTag = fromImageTag;
          parts = layers ++ [ layer ];
          roots = lib.optional scripted layer;
          without = lib.optional scripted layer;
          pipeline = if scripted then [ ] else null;
        })
        // {
          inherit layer;
          buildArgs = arguments;
        };
      more = { inherit passthru meta; } // passthru;
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
    archive "docker-image-" name compressor made.about made.more;

  streamImage =
    { name, ... }@arguments:
    let
      made = image arguments;
    in
    stream name made.about made.more;

  streamLayeredImage =
    {
      name,
      tag ? null,
      fromImage ? null,
      fromImageName ? null,
      fromImageTag ? null,
      contents ? [ ],
      config ? { },
      architecture ? defaultArchitecture,
      created ? epoch,
      mtime ? epoch,
      uid ? 0,
      gid ? 0,
      # Readers of layers go by the numbers.
      uname ? "root",
      gname ? "root",
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
        extraCommands = lib.optionalString includeNixDB (databaseOf contents) + extraCommands;
        inherit fakeRootCommands enableFakechroot;
      };
      made = [ customisation ] ++ lib.optional (named != null) named;
      base = {
        inherit name architecture;
        base = fromImage;
        baseName = fromImageName;
        baseTag = fromImageTag;
      };
      stored = assemble (
        base
        // {
          kind = "store-layers";
          roots = made;
          without = made;
          inherit maxLayers uid gid mtime allowSparse;
          counted = 1;
          pipeline = lib.traceIf debug "in docker image ${name}: layeringPipeline = ${builtins.toJSON layeringPipeline}" layeringPipeline;
        }
      );
      final = assemble (
        (if includeStorePaths then { inherit name architecture; base = stored; } else base)
        // {
          inherit tag config created;
          parts = [ customisation ];
        }
      );
    in
    stream name (about name tag final) ({ inherit passthru meta; } // passthru);

  buildLayeredImage =
    {
      name,
      compressor ? "gz",
      ...
    }@arguments:
    archived name compressor (streamLayeredImage (builtins.removeAttrs arguments [ "compressor" ]));

  # The archive of what would be streamed.
  archived =
    name: compressor: streamed:
    archive "" name compressor { inherit (streamed) imageName imageTag rootlessImage; } {
      stream = streamed;
      inherit (streamed) passthru meta;
    };

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
    }@arguments:
    let
      tag = lib.optionalString (fromImageTag != null) ":${fromImageTag}";
    in
    withoutVm name arguments (
      builders.write "nix-export" (
        [ (toImage fromImage) ]
        ++ lib.optionals (fromImageName != null) [
          "--name"
          "${fromImageName}${tag}"
        ]
      ) name { }
    );
in
{
  buildImage = lib.makeOverridable buildImage;
  streamImage = lib.makeOverridable streamImage;
  buildLayeredImage = lib.makeOverridable buildLayeredImage;
  streamLayeredImage = lib.makeOverridable streamLayeredImage;
  buildImageWithNixDb = arguments: buildImage (arguments // { includeNixDB = true; });
  buildLayeredImageWithNixDb = arguments: buildLayeredImage (arguments // { includeNixDB = true; });
  inherit mergeImages exportImage archived;
}
