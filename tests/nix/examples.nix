# Images with the meaning of nixpkgs' own docker-tools tests, and one for each argument.
#
# Most are of busybox, which needs no other store path, so that they are quickly made.
{ pkgs, ours }:
let
  inherit (ours)
    buildImage
    buildImageWithNixDb
    buildLayer
    buildLayeredImage
    buildLayeredImageWithNixDb
    exportImage
    mergeImages
    shadowSetup
    streamImage
    streamLayeredImage
    ;
  inherit (pkgs) bash busybox coreutils;
  hello = pkgs.writeScriptBin "hello" ''
    #!${pkgs.runtimeShell}
    echo "Hello, world!"
  '';
  root = paths: pkgs.buildEnv {
    name = "image-root";
    pathsToLink = [ "/bin" ];
    inherit paths;
  };
  small = root [ busybox ];
  image = arguments: buildImage ({ tag = "latest"; compressor = "none"; } // arguments);
  layered = arguments: streamLayeredImage ({ tag = "latest"; } // arguments);

  basis = image {
    name = "basis";
    copyToRoot = small;
    extraCommands = "mkdir -p srv && echo basis > srv/basis";
    config = {
      Cmd = [ "/bin/busybox" "sh" ];
      Env = [ "FROM_PARENT=true" "LAST_LAYER=parent" ];
      ExposedPorts."80/tcp" = { };
      Labels.kept = "yes";
      User = "1000";
      WorkingDir = "/srv";
    };
  };
  onBasis = name: arguments: image ({ inherit name; fromImage = basis; } // arguments);
  echoing = name: "echo ${name} >> order";

  pipeline = name: steps: layered {
    inherit name;
    contents = [ hello coreutils ];
    layeringPipeline = steps;
  };
in
rec {
  inherit basis;

  # --- with the meaning of nixpkgs' examples ---

  bash = image {
    name = "bash";
    copyToRoot = root [ pkgs.bash ];
  };
  layered-image = layered {
    name = "layered-image";
    extraCommands = ''echo "(extraCommand)" > extraCommands'';
    config.Cmd = [ "${hello}/bin/hello" ];
    contents = [ hello pkgs.bash coreutils ];
  };
  another-layered-image = layered {
    name = "another-layered-image";
    config.Cmd = [ "${hello}/bin/hello" ];
  };
  layered-on-top = image {
    name = "layered-on-top";
    fromImage = layered-image;
    extraCommands = ''
      mkdir ./example-output
      chmod 777 ./example-output
    '';
    config = {
      Env = [ "PATH=${coreutils}/bin/" ];
      WorkingDir = "/example-output";
    };
  };
  layered-on-top-layered = layered {
    name = "layered-on-top-layered";
    fromImage = layered-image;
    extraCommands = "mkdir ./example-output";
    config.Env = [ "PATH=${coreutils}/bin/" ];
  };
  run-as-root-parent-image = onBasis "runAsRootParentImage" { runAsRoot = "touch /example-file; test -f /srv/basis"; };
  run-as-root-extra-commands = image {
    name = "run-as-root-extra-commands";
    copyToRoot = root [ busybox ];
    runAsRoot = ''echo "(runAsRoot)" > runAsRoot'';
    extraCommands = ''echo "(extraCommand)" > extraCommands'';
  };
  redis = image {
    name = "redis";
    fromImage = bash;
    copyToRoot = root [ busybox ];
    runAsRoot = ''
      ${shadowSetup}
      groupadd -r redis
      useradd -r -g redis -d /data -M redis
      mkdir -p /data
      chown redis:redis /data
      cat > /bin/healthcheck <<-'EOF'
      probe="$(/bin/redis-cli ping)"
      EOF
      chmod +x /bin/healthcheck
    '';
    config = {
      Cmd = [ "/bin/redis-server" ];
      WorkingDir = "/data";
      Volumes."/data" = { };
      Healthcheck = {
        Test = [ "CMD-SHELL" "/bin/healthcheck" ];
        Interval = 30000000000;
      };
    };
  };
  nginx = layered {
    name = "nginx-container";
    contents = [
      (pkgs.fakeNss.override {
        extraPasswdLines = [ "nginx:x:60:60:nginx:/:/bin/false" ];
        extraGroupLines = [ "nginx:x:60:" ];
      })
      hello
    ];
    extraCommands = "mkdir -p var/log/nginx var/cache/nginx";
    fakeRootCommands = "chown -R 60:60 var/log/nginx var/cache/nginx; chmod 750 var/cache/nginx";
    config = {
      Cmd = [ "nginx" "-c" (pkgs.writeText "nginx.conf" "user nginx nginx;") ];
      ExposedPorts."80/tcp" = { };
    };
  };
  nix = buildImageWithNixDb {
    name = "nix";
    tag = "latest";
    compressor = "none";
    copyToRoot = root [ hello ];
  };
  nix-layered = buildLayeredImageWithNixDb {
    name = "nix-layered";
    tag = "latest";
    compressor = "none";
    contents = [ hello ];
  };
  no-store-paths = layered {
    name = "no-store-paths";
    extraCommands = ''
      mkdir bin
      cp ${busybox}/bin/busybox bin
      # A program of the build only.
      ${hello}/bin/hello
    '';
  };
  cross = image {
    name = "cross";
    architecture = "arm64";
    copyToRoot = pkgs.writeTextDir "text" "for another machine";
  };
  environment-variables = onBasis "environment-variables" { config.Env = [ "FROM_CHILD=true" "LAST_LAYER=child" ]; };
  environment-variables-layered = layered {
    name = "environment-variables-layered";
    fromImage = basis;
    config.Env = [ "FROM_CHILD=true" "LAST_LAYER=child" ];
  };
  config-inherited = onBasis "config-inherited" {
    inheritConfig = true;
    config.Env = [ "FROM_CHILD=true" "LAST_LAYER=child" ];
  };
  config-inherited-layered = layered {
    name = "config-inherited-layered";
    fromImage = basis;
    inheritConfig = true;
    contents = [ hello ];
    config.Env = [ "FROM_CHILD=true" "LAST_LAYER=child" ];
  };
  # Forms that docker reads, or that nixpkgs takes.
  config-forms = image {
    name = "config-forms";
    created = "20240131";
    config = {
      user = 1000;
      WORKINGDIR = "/srv";
      cmd = [ "sleep" 5 ];
      Entrypoint = "/bin/entry";
      ExposedPorts."80/tcp" = null;
      Volumes."/data" = null;
      Labels = { number = 1; yes = true; none = null; text = "text"; };
      StopSignal = null;
      Nothing = { of = "ours"; };
    };
  };
  layers-order =
    let
      l1 = image {
        name = "l1";
        extraCommands = "mkdir -p tmp; for n in 1 2 3; do echo layer1 > tmp/layer$n; done";
      };
      l2 = image {
        name = "l2";
        fromImage = l1;
        extraCommands = "mkdir -p tmp; for n in 2 3; do echo layer2 > tmp/layer$n; done";
      };
    in
    image {
      name = "l3";
      fromImage = l2;
      extraCommands = "mkdir -p tmp; echo layer3 > tmp/layer3";
    };
  layers-unpack-order =
    let
      on = fromImage: name: image {
        name = "unpack-order-${name}";
        inherit fromImage;
        runAsRoot = ''
          #!${pkgs.runtimeShell}
          echo -n "${name}" >> /layer-order
        '';
      };
    in
    on (on (on null "a") "b") "c";
  repeated-base-layers =
    let
      again = name: fromImage: image {
        inherit name fromImage;
        copyToRoot = pkgs.writeTextDir "same" "same";
      };
    in
    again "repeated-2" (again "repeated-1" (again "repeated-0" null));
  layered-with-fakechroot = layered {
    name = "layered-with-fakechroot";
    contents = [ small ];
    enableFakechroot = true;
    fakeRootCommands = ''
      mkdir -p /home/jane
      chown 1000:1000 /home/jane
      ln -s ${hello} /bin-of-hello
      [ "$PWD" = / ]
    '';
  };
  chown = layered {
    name = "chown";
    fakeRootCommands = "mkdir data; echo text > data/file; chown -R 12345:12345 data";
  };
  store-symlink = layered rec {
    name = "store-symlink";
    contents = [ passthru.symlink ];
    passthru.symlink = pkgs.runCommand "store-symlink" { } "ln -s ${pkgs.writeTextDir "dir/target" "content"} $out";
  };
  prefixed = image { name = "registry-1.docker.io/image"; };
  prefixed-layered = layered { name = "registry-1.docker.io/layered-image"; };
  two-layered-image = layered {
    name = "two-layered-image";
    contents = [ hello ];
    maxLayers = 2;
  };
  layered-bulk-layer = layered {
    name = "layered-bulk-layer";
    fromImage = two-layered-image;
    contents = [ coreutils hello ];
    maxLayers = 4;
  };
  user-with-home = layered {
    name = "user-with-home";
    contents = [ small ];
    enableFakechroot = true;
    fakeRootCommands = ''
      ${shadowSetup}
      groupadd -g 1234 alice
      useradd -u 1234 -g alice -m alice
      echo '. /etc/profile' > /home/alice/.profile
      chown alice:alice /home/alice/.profile
    '';
    config.User = "alice";
  };
  etc = layered {
    name = "etc";
    enableFakechroot = true;
    # As NixOS's activation does: links of a generated tree, and files of their own modes and owners.
    fakeRootCommands =
      let
        static = pkgs.writeTextDir "hostname" "a-container";
      in
      ''
        mkdir -p /etc
        ln -s ${static} /etc/static
        ln -s /etc/static/hostname /etc/hostname
        echo secret > /etc/some-secret
        chmod 0440 /etc/some-secret
        chown 1234:0 /etc/some-secret
      '';
  };
  ca-certificates = layered {
    name = "ca-certificates";
    contents = [ ours.caCertificates ours.binSh ours.usrBinEnv ];
  };
  nix-shell = ours.streamNixShellImage {
    drv = pkgs.runCommand "shell-example" { variable = "value"; nativeBuildInputs = [ hello ]; } "hello > $out";
    tag = "latest";
    uid = 1234;
    gid = 100;
    homeDirectory = "/home/builder";
    maxLayers = 3;
    run = ''echo "$variable"; buildDerivation; cat "$out"'';
  };

  nix-shell-structured = ours.streamNixShellImage {
    drv = pkgs.stdenv.mkDerivation {
      name = "shell-structured";
      __structuredAttrs = true;
      __ignoreNulls = true;
      nativeBuildInputs = [ hello ];
      text = "it's text";
      number = 5;
      yes = true;
      nothing = null;
      several = [ "a b" "c" ];
      named = { key = "a value"; };
      deep = [ [ "not in a shell" ] ];
      buildCommand = ''
        hello > $out
        echo "$text,$number,$yes,''${nothing-no},''${several[0]},''${named[key]},''${deep-no}" >> $out
      '';
    };
    tag = "latest";
    run = ''buildDerivation; cat "$out"'';
  };

  # --- an argument each ---

  no-tag = image {
    name = "No-Tag";
    tag = null;
  };
  no-tag-layered = layered {
    name = "no-tag-layered";
    tag = null;
  };
  named = image {
    name = "named";
    fromImage = mergeImages [ basis bash ];
    fromImageName = "bash";
    fromImageTag = "latest";
  };
  direct = image {
    name = "direct";
    copyToRoot = [ pkgs.bash (pkgs.writeTextDir "etc/text" "text") ];
  };
  old-contents = image {
    name = "old-contents";
    contents = pkgs.writeTextDir "etc/text" "text";
  };
  directories-followed = image {
    name = "directories-followed";
    copyToRoot = [ (root [ hello ]) (root [ busybox ]) ];
  };
  directories-kept = image {
    name = "directories-kept";
    copyToRoot = root [ hello ];
    keepContentsDirlinks = true;
  };
  overlapping = image {
    name = "overlapping";
    copyToRoot = map (pkgs.writeTextDir "etc/text") [ "one" "two" ];
  };
  overlapping-layered = layered {
    name = "overlapping-layered";
    contents = map (pkgs.writeTextDir "etc/text") [ "one" "two" ];
  };
  owned = image {
    name = "owned";
    copyToRoot = pkgs.writeTextDir "etc/text" "text";
    uid = 1001;
    gid = 1002;
  };
  layered-options = layered {
    name = "layered-options";
    contents = hello;
    uid = 1001;
    gid = 1002;
    uname = "someone";
    gname = "somegroup";
    created = "2024-05-06T07:08:09Z";
    mtime = "2001-02-03T04:05:06Z";
    architecture = "riscv64";
    passthru.extra = "passed";
    meta.description = "an image";
    debug = true;
    layeringPipeline = [ [ "popularity_contest" ] ];
  };
  created = image {
    name = "created";
    created = "2024-05-06T07:08:09+02:00";
  };
  created-now = layered {
    name = "created-now";
    created = "now";
    mtime = "now";
  };
  without-store = layered {
    name = "without-store";
    contents = [ hello ];
    includeStorePaths = false;
  };
  virtual-machine = image {
    name = "virtual-machine";
    runAsRoot = "echo $PATH > path; umask > umask";
    diskSize = 4096;
    buildVMMemorySize = 2048;
  };
  made-reference = image {
    name = "made-reference";
    runAsRoot = "ln -s ${hello}/bin/hello /hello";
  };
  of-layers =
    let
      layer = n: buildLayer {
        name = "layer-${toString n}";
        fakeRootCommands = "echo ${toString n} > ${toString n}; chown ${toString n}:0 ${toString n}";
      };
    in
    streamImage {
      name = "of-layers";
      tag = "latest";
      layers = map layer [ 1 2 3 ];
      copyToRoot = small;
    };

  # The functions of a layeringPipeline, all twelve.
  pipeline-popularity = pipeline "pipeline-popularity" [ [ "popularity_contest" ] [ "reverse" ] [ "limit_layers" 3 ] ];
  pipeline-split = pipeline "pipeline-split" [
    [ "split_paths" [ hello ] ]
    [ "over" "main" [ "pipe" [ [ "subcomponent_in" [ hello ] ] [ "flatten" ] ] ] ]
    [ "flatten" ]
    [ "map" [ "remove_paths" coreutils ] ]
  ];
  pipeline-file = pipeline "pipeline-file" (pkgs.writeText "steps.json" (builtins.toJSON [ [ "popularity_contest" ] [ "limit_layers" 2 ] ]));
  pipeline-path = pipeline "pipeline-path" ./steps.json;
  pipeline-out = pipeline "pipeline-out" [
    [ "subcomponent_out" [ pkgs.bash ] ]
    [ "over" "rest" [ "split_every" 2 ] ]
    [ "flatten" ]
  ];
}
