# Scripts that put an image where it is wanted, of which neither an archive nor a copy is stored.
{ pkgs, builders }:
let
  inherit (builders) program writeScript;
in
# name is the image's, with its tag; image is the small output that says where its layers are.
name: image: {
  # Its argument is docker://HOST/NAME:TAG; the options are those of push.
  copyToRegistry = writeScript "push-${baseNameOf name}" ''
    #!${pkgs.runtimeShell}
    exec ${program} push ${image} "$@"
  '';

  # Its argument is where to, in skopeo's words.
  copyTo = writeScript "copy-${baseNameOf name}" ''
    #!${pkgs.runtimeShell}
    set -euo pipefail
    to=''${1-}
    shift || :
    # load PROGRAM NAME [OPTION...]: by the name that the image has, where no other is given.
    load() {
      local by=$1 named=$2
      shift 2
      ${program} nix-archive ${image} -o - ''${named:+--tag "$named"} | "$by" load "$@"
    }
    case $to in
      docker://*) exec ${program} push ${image} "$to" "$@" ;;
      containers-storage:*) load podman "''${to#*:}" "$@" ;;
      docker-daemon:*) load docker "''${to#*:}" "$@" ;;
      oci:?*) exec ${program} merge ${image} --format layout -o "''${to#*:}" "$@" ;;
      oci-archive:?*) exec ${program} merge ${image} --format archive -o "''${to#*:}" "$@" ;;
      docker-archive:?*) exec ${program} merge ${image} --format docker-archive -o "''${to#*:}" "$@" ;;
      *)
        echo >&2 "usage: ''${0##*/} docker://HOST/NAME:TAG | containers-storage:[NAME:TAG] | docker-daemon:[NAME:TAG]"
        echo >&2 "       | oci:DIRECTORY | oci-archive:FILE | docker-archive:FILE, and options of push, of podman load, of docker load or of merge"
        exit 2
        ;;
    esac
  '';
}
