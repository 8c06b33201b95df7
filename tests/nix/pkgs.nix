# A small nixpkgs of Debian's own programs, so that the tests need no network.
#
# It has what rootless_layer/nix uses of nixpkgs, by the same names and with the same meaning,
# and what the examples need. `machine` is a directory that tests/helpers/nix_pkgs.py has written.
{
  machine,
  system ? builtins.currentSystem,
}:
let
  lib = import ./lib.nix;
  debian = import (machine + "/packages.nix");
  python = name: script: attributes: derivation ({
    inherit name system;
    builder = "/usr/bin/python3";
    args = [ "-IB" (./. + "/${script}") ];
    PATH = "/usr/bin";
  } // attributes);

  platform = {
    inherit system;
    isLinux = builtins.match ".*-linux" system != null;
    isx86_64 = builtins.match "x86_64-.*" system != null;
    isAarch64 = builtins.match "aarch64-.*" system != null;
  };

  # A derivation that can be changed, with what people may know of it.
  changeable =
    attributes:
    derivation (builtins.removeAttrs attributes [ "passthru" "meta" ])
    // attributes.passthru or { }
    // {
      inherit attributes;
      outputs = attributes.outputs or [ "out" ];
      passthru = attributes.passthru or { };
      meta = attributes.meta or { };
      overrideAttrs =
        change:
        let
          # A function of the attributes, or of the final ones and of these.
          changes = if builtins.isFunction change then change attributes else change;
          made = changeable (attributes // (if builtins.isFunction changes then change made.attributes attributes else changes));
        in
        made;
    };

  # Debian's packages of these names, in several store paths, as one.
  joined = name: paths: pkgs.buildEnv { inherit name paths; };

  pkgs = {
    inherit lib system;
    buildPackages = pkgs;
    inherit (debian) bash coreutils sqlite3;
    bashInteractive = debian.bash;
    busybox = debian.busybox-static;
    shadow = joined "shadow" [ debian.passwd debian.login ];
    sqlite = debian.sqlite3;
    nix = debian.nix-bin;
    cacert = python "cacert" "cacert.py" { };
    runtimeShell = "${debian.bash}/bin/bash";

    # This machine's own, which have what the program needs.
    python3.withPackages =
      _choose:
      pkgs.writeScriptBin "python3" ''
        #!/bin/sh
        PYTHONPATH=$PYTHONPATH:${import (machine + "/python.nix")} exec ${import (machine + "/interpreter.nix")} "$@"
      '';
    fakeroot = pkgs.runCommand "fakeroot" { } ''
      mkdir -p $out/bin
      ln -s /usr/bin/fakeroot-sysv $out/bin/fakeroot
    '';

    # As much of it as a package with manual pages and a command's completion needs.
    installShellFiles = pkgs.writeFile "install-shell-files" "nix-support/setup-hook" ''
      installManPage() { mkdir -p $out/share/man/man1 && cp "$@" $out/share/man/man1/; }
      installShellCompletion() { # --cmd NAME --SHELL FILE
        case $3 in
          --bash) install -Dm644 "$4" $out/share/bash-completion/completions/$2.bash ;;
          --zsh) install -Dm644 "$4" $out/share/zsh/site-functions/_$2 ;;
          --fish) install -Dm644 "$4" $out/share/fish/vendor_completions.d/$2.fish ;;
        esac
      }
    '';

    stdenv = {
      outPath = "${pkgs.stdenv.setup}";
      buildPlatform = platform;
      hostPlatform = platform // { go.GOARCH = "amd64"; };
      initialPath = [ debian.coreutils debian.findutils debian.sed debian.grep debian.tar debian.gzip ];
      mkDerivation =
        attributes:
        changeable (
          {
            inherit system;
            builder = attributes.realBuilder or pkgs.runtimeShell;
            args = [ "-e" (./. + "/builder.sh") ];
            stdenv = pkgs.stdenv.setup;
          }
          // builtins.removeAttrs attributes [ "realBuilder" ]
        );
      setup = pkgs.writeFile "stdenv" "setup" (
        builtins.replaceStrings [ "@initialPath@" ] [ (lib.makeBinPath pkgs.stdenv.initialPath) ] (builtins.readFile ./setup.sh)
      );
    };
    stdenvNoCC = pkgs.stdenv;

    # A file of a text, at a path in the output where one is named.
    write =
      name: place: executable: text:
      changeable {
        inherit name system text place executable;
        builder = "/bin/sh";
        PATH = "/usr/bin";
        args = [
          "-c"
          ''
            target=$out$place
            mkdir -p "''${target%/*}" && cp "$textPath" "$target"
            if [ -n "$executable" ]; then chmod +x "$target"; fi
          ''
        ];
        passAsFile = [ "text" ];
      };
    writeFile = name: place: pkgs.write name "/${place}" false;
    writeText = name: pkgs.write name "" false;
    writeTextDir = place: pkgs.write (baseNameOf place) "/${place}" false;
    writeScript = name: pkgs.write name "" true;
    writeScriptBin = name: pkgs.write name "/bin/${name}" true;
    # There is no compiler in a sandbox here: one that makes nothing has the package go the way that it goes with one.
    runCommandCC = name: attributes: pkgs.runCommand name (attributes // { CC = ":"; });

    runCommand =
      name: attributes: command:
      pkgs.stdenv.mkDerivation ({ inherit name; buildCommand = command; passAsFile = [ "buildCommand" ]; } // attributes);
    buildEnv =
      {
        name,
        paths,
        pathsToLink ? [ "/" ],
      }:
      python name "build_env.py" { inherit pathsToLink; trees = paths; };
    symlinkJoin = { name, paths }: python name "build_env.py" { pathsToLink = [ "/" ]; trees = paths; merge = true; };
    closureInfo =
      { rootPaths }:
      python "closure-info" "closure_info.py" {
        __structuredAttrs = true;
        exportReferencesGraph.closure = rootPaths;
      };
    makeSetupHook =
      { name, substitutions }:
      script:
      pkgs.writeFile name "nix-support/setup-hook" (
        builtins.replaceStrings (map (key: "@${key}@") (builtins.attrNames substitutions)) (builtins.attrValues substitutions) (
          builtins.readFile script
        )
      );

    # Where nixpkgs itself is: its examples of dockerTools are below it.
    path = ./.;
    callPackage =
      file: arguments:
      lib.makeOverridable (import file) (builtins.intersectAttrs (builtins.functionArgs (import file)) (pkgs // { inherit pkgs; }) // arguments);

    # Of dockerTools, what needs no VM.
    dockerTools = lib.makeOverridable ({ storeDir }: {
      inherit storeDir;
      examples = throw "nixpkgs' own examples are of a VM";
      shadowSetup = ''
        export PATH=${pkgs.shadow}/bin:$PATH
        mkdir -p /etc/pam.d
        if [[ ! -f /etc/passwd ]]; then
          echo "root:x:0:0::/root:${pkgs.runtimeShell}" > /etc/passwd
          echo "root:!x:::::::" > /etc/shadow
        fi
        if [[ ! -f /etc/group ]]; then
          echo "root:x:0:" > /etc/group
          echo "root:x::" > /etc/gshadow
        fi
        if [[ ! -f /etc/login.defs ]]; then touch /etc/login.defs; fi
      '';
      binSh = pkgs.runCommand "bin-sh" { } ''
        mkdir -p $out/bin
        ln -s ${pkgs.runtimeShell} $out/bin/sh
      '';
      usrBinEnv = pkgs.runCommand "usr-bin-env" { } ''
        mkdir -p $out/usr/bin
        ln -s ${pkgs.coreutils}/bin/env $out/usr/bin/env
      '';
      caCertificates = pkgs.runCommand "ca-certificates" { } ''
        mkdir -p $out/etc/ssl/certs $out/etc/pki/tls/certs
        for place in ssl/certs/ca-bundle.crt ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt; do
          ln -s ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt $out/etc/$place
        done
      '';
    }) { inherit (builtins) storeDir; };
    fakeNss = lib.makeOverridable (
      {
        extraPasswdLines ? [ ],
        extraGroupLines ? [ ],
      }:
      pkgs.runCommand "fake-nss" { } ''
        mkdir -p $out/etc
        printf '%s\n' root:x:0:0::/root:/bin/sh ${lib.escapeShellArgs extraPasswdLines} nobody:x:65534:65534::/:/bin/false > $out/etc/passwd
        printf '%s\n' root:x:0: ${lib.escapeShellArgs extraGroupLines} nobody:x:65534: > $out/etc/group
      ''
    ) { };
  };
in
pkgs
