# Images that are like nix-shell for a derivation.
{
  pkgs,
  images,
  borrowed,
}:
let
  inherit (pkgs) lib;

  # Where a sandboxed build is.
  buildDirectory = "/build";

  # A value as Nix gives it to a builder; a path in it gets into the store, as there.
  toVariable =
    value:
    if builtins.isPath value then
      "${value}"
    else if builtins.isList value then
      toString (map toVariable value)
    else
      toString value;

  # The attributes that a builder gets: neither what Nix itself takes of them, nor nothing, where that is ignored.
  attributesOf =
    given:
    lib.filterAttrs (
      name: value: !(builtins.elem name [ "args" "__structuredAttrs" "__ignoreNulls" ]) && !(given.__ignoreNulls or false && value == null)
    ) given;

  # What Nix writes into .attrs.sh: an attribute that has no form in a shell is left out.
  toShell =
    attributes:
    let
      isPlain = value: !builtins.isList value && !builtins.isFloat value && (!builtins.isAttrs value || value ? outPath || value ? __toString);
      plain = value: lib.escapeShellArg (toVariable value);
      all = values: builtins.all isPlain values;
      line =
        name: value:
        if builtins.match "[A-Za-z_][A-Za-z0-9_]*" name == null then
          ""
        else if isPlain value then
          "declare ${name}=${plain value}\n"
        else if builtins.isList value && all value then
          "declare -a ${name}=(${lib.concatStringsSep " " (map plain value)})\n"
        else if builtins.isAttrs value && all (builtins.attrValues value) then
          "declare -A ${name}=(${lib.concatStringsSep " " (lib.mapAttrsToList (key: one: "[${lib.escapeShellArg key}]=${plain one}") value)})\n"
        else
          "";
    in
    lib.concatStringsSep "" (lib.mapAttrsToList line attributes);

  streamNixShellImage =
    {
      drv,
      name ? drv.name + "-env",
      tag ? null,
      # Whom the container runs as: many programs refuse to build as root.
      uid ? 1000,
      gid ? 1000,
      homeDirectory ? "/build",
      shell ? pkgs.bashInteractive + "/bin/bash",
      # Run in an interactive shell, or in one that is not, as by nix-shell.
      command ? null,
      run ? null,
      maxLayers ? 100,
    }:
    assert lib.assertMsg (
      command == null || run == null
    ) "streamNixShellImage: Can't specify both command and run";
    let
      given = drv.drvAttrs;
      builder = pkgs.writeScriptBin "buildDerivation" ''
        #!${pkgs.runtimeShell}
        exec ${lib.escapeShellArg (toVariable given.builder)} ${lib.escapeShellArgs (map toVariable given.args)}
      '';
      path = "${dirOf shell}:${lib.makeBinPath [ builder ]}";
      told = lib.concatStringsSep "\n" (builtins.filter (line: line != null) [
        command
        run
      ]);

      # What nix-shell has its bash read.
      startup = pkgs.writeText "nix-shell-rc" (
        ''
          unset PATH
          dontAddDisableDepTrack=1
          if [ -e "''${NIX_ATTRS_SH_FILE-}" ]; then source "$NIX_ATTRS_SH_FILE"; fi
          if [ -e "$stdenv/setup" ]; then source "$stdenv/setup"; fi
          PATH=${path}:"$PATH"
          SHELL=${lib.escapeShellArg shell}
          BASH=${lib.escapeShellArg shell}
          set +e
          if [ -n "$PS1" ] && [ -z "$NIX_SHELL_PRESERVE_PROMPT" ]; then
            PS1='\n\[\033[1;32m\][nix-shell:\w]\$\[\033[0m\] '
          fi
          if [ "$(type -t runHook)" = function ]; then runHook shellHook; fi
          unset NIX_ENFORCE_PURITY
          shopt -u nullglob
          shopt -s execfail
        ''
        + lib.optionalString (told != "") ''
          ${told}
          exit
        ''
      );

      asFile = given.passAsFile or [ ];
      structured = attributesOf given // { inherit outputs; };
      attributes =
        if given.__structuredAttrs or false then
          {
            NIX_ATTRS_SH_FILE = "${pkgs.writeText "attrs.sh" (toShell structured)}";
            NIX_ATTRS_JSON_FILE = "${pkgs.writeText "attrs.json" (builtins.toJSON structured)}";
          }
        else
          lib.mapAttrs' (
            attribute: value:
            if builtins.elem attribute asFile then
              {
                name = "${attribute}Path";
                value = "${pkgs.writeText "pass-as-text-${attribute}" (toVariable value)}";
              }
            else
              {
                name = attribute;
                value = toVariable value;
              }
          ) (attributesOf given)
          // outputs;
      outputs = builtins.listToAttrs (
        map (output: {
          name = output;
          value = builtins.unsafeDiscardStringContext drv.${output}.outPath;
        }) (given.outputs or [ "out" ])
      );
      certificates = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
      variables = {
        SSL_CERT_FILE = certificates;
        NIX_SSL_CERT_FILE = certificates;
        PATH = path;
        HOME = homeDirectory;
        NIX_STORE = builtins.storeDir;
        NIX_BUILD_CORES = "1";
      }
      // attributes
      // {
        NIX_BUILD_TOP = buildDirectory;
        TMPDIR = buildDirectory;
        TEMPDIR = buildDirectory;
        TMP = buildDirectory;
        TEMP = buildDirectory;
        PWD = buildDirectory;
        TERM = "xterm-256color";
      };
      owner = "${toString uid}:${toString gid}";
    in
    images.streamLayeredImage {
      inherit name tag maxLayers;
      contents = [
        (borrowed "binSh")
        (borrowed "usrBinEnv")
        ((borrowed "fakeNss").override {
          extraPasswdLines = [ "nixbld:x:${owner}:Build user:${homeDirectory}:/noshell" ];
          extraGroupLines = [ "nixbld:!:${toString gid}:" ];
        })
      ];
      # The user has the store, as after an installation for one user, and the build's directory.
      fakeRootCommands = ''
        mkdir -p ./nix/{store,var/nix} ./etc/nix .${buildDirectory}
        chown -R ${owner} ./nix ./etc/nix .${buildDirectory}
      '';
      config = {
        User = owner;
        Cmd = if run == null then [ shell "--rcfile" "${startup}" ] else [ shell "${startup}" ];
        WorkingDir = buildDirectory;
        Env = lib.mapAttrsToList (variable: value: "${variable}=${value}") variables;
      };
    };

  buildNixShellImage =
    {
      drv,
      compressor ? "gz",
      ...
    }@arguments:
    let
      streamed = streamNixShellImage (builtins.removeAttrs arguments [ "compressor" ]);
    in
    images.archived "${drv.name}-env" compressor { } streamed;
in
{
  inherit buildNixShellImage streamNixShellImage;
}
