# As much of a stdenv's setup as packages without a compiler need.
set -eu
set -o pipefail
shopt -s inherit_errexit nullglob
export PATH=@initialPath@
if [ -e "${NIX_ATTRS_SH_FILE:-/absent}" ]; then
    . "$NIX_ATTRS_SH_FILE"
elif [ -e "$NIX_BUILD_TOP/.attrs.sh" ]; then
    . "$NIX_BUILD_TOP/.attrs.sh"
fi
export NIX_BUILD_CORES="${NIX_BUILD_CORES:-1}"
: "${SOURCE_DATE_EPOCH:=315532800}"
export SOURCE_DATE_EPOCH
if [ -z "${out-}" ]; then
    out=${outputs[out]}
    export out
fi

substituteInPlace() { # substituteInPlace FILE --replace-fail FROM TO
    local text
    text=$(cat "$1"; echo .)
    case $text in
        *"$3"*) printf '%s' "${text//"$3"/"$4"}" | sed '$ s/\.$//' > "$1" ;;
        *) echo "substituteInPlace: $1 has no '$3'" >&2; return 1 ;;
    esac
}
runHook() { # runHook NAME: the function or the attribute of that name
    if declare -F "$1" > /dev/null; then "$1"; else eval "${!1-}"; fi
}
runPhase() {
    if declare -F "$1" > /dev/null && [ -z "${!1-}" ]; then "$1"; else eval "${!1-}"; fi
}
unpackPhase() { cp -r "$src" source && chmod -R u+w source && cd source; }
buildPhase() { :; }
installPhase() { :; }
genericBuild() {
    local phase
    if [ -n "${buildCommandPath-}" ]; then . "$buildCommandPath"; return; fi
    if [ -n "${buildCommand-}" ]; then eval "$buildCommand"; return; fi
    for phase in unpackPhase buildPhase installPhase ${postPhases-}; do
        if [ "$phase" = unpackPhase ] && [ -n "${dontUnpack-}" ]; then continue; fi
        runPhase "$phase"
    done
}

for input in "${nativeBuildInputs[@]-}"; do
    for path in $input; do # without structured attributes it is one text
        if [ -d "$path/bin" ]; then PATH=$path/bin:$PATH; fi
        if [ -e "$path/nix-support/setup-hook" ]; then . "$path/nix-support/setup-hook"; fi
    done
done
set +u
