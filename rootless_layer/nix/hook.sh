# shellcheck shell=bash
# Makes a layer of what the phases before have installed, and puts it where that was.
#
#   nativeBuildInputs = [ rootlessLayerHook ];
#   exportReferencesGraph = [ "closure" pkgs.bash ];   # the store paths that are in the layer
#   layerContents = [ pkgs.bash ];                     # trees that are merged into the root
#   layerScript = ''…'';                               # what root does to it all
#
# docs/nix.md lists the attributes. dontRootlessLayer leaves the phase out; preRootlessLayer and
# postRootlessLayer run before and after it.

rootlessLayerPhase() {
    runHook preRootlessLayer

    local -a options=()
    if [ -d "$out" ] && [ ! -L "$out" ]; then
        mv "$out" "$NIX_BUILD_TOP/rootless-layer-rootfs"
        options+=(--rootfs "$NIX_BUILD_TOP/rootless-layer-rootfs")
    fi
    (cd "$NIX_BUILD_TOP" && @program@ nix-build "${options[@]}")

    runHook postRootlessLayer
}

if [ -z "${dontRootlessLayer-}" ]; then
    # A layer may be of nothing but attributes.
    if [ -z "${src-}${srcs-}" ]; then
        dontUnpack=1
    fi
    if declare -F appendToVar > /dev/null; then
        appendToVar postPhases rootlessLayerPhase
    else
        postPhases="${postPhases-} rootlessLayerPhase"
    fi
fi
