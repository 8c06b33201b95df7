if [ -e "${NIX_ATTRS_SH_FILE:-/absent}" ]; then
    . "$NIX_ATTRS_SH_FILE"
elif [ -e .attrs.sh ]; then
    . ./.attrs.sh
fi
. "$stdenv/setup"
genericBuild
