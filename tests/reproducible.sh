#!/bin/sh
# Builds the eBPF object here and in a directory with another path: it must be the same, byte for byte.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# here by cargo, which tells where the build script has put it
here=$(cargo check --quiet --locked --package traffic-mirror --message-format=json |
    sed --quiet '/"build-script-executed"/s|.*"out_dir":"\([^"]*/traffic-mirror-[0-9a-f]*/out\)".*|\1/mirror.o|p')
[ -f "$here" ] || { echo "reproducible: cargo has built no object" >&2; exit 1; }

# there by the build script alone, which takes none of the libraries
copy=$scratch/another/with/a/longer/path
mkdir -p "$copy" "$scratch/out"
git ls-files -z | xargs -0 cp --parents --target-directory="$copy"
rustc --edition 2024 -o "$scratch/build" "$copy/daemon/build.rs"
(
    cd "$copy/daemon"
    export CARGO=cargo CARGO_MANIFEST_DIR="$PWD" OUT_DIR="$scratch/out"
    HOST=$(rustc --version --verbose | sed --quiet 's/^host: //p')
    CARGO_CFG_TARGET_ARCH=$(rustc --print cfg | sed --quiet 's/^target_arch="\(.*\)"$/\1/p')
    export HOST CARGO_CFG_TARGET_ARCH
    "$scratch/build" >/dev/null
)
there=$scratch/out/mirror.o

sha256sum "$here" "$there"
cmp "$here" "$there" || { echo "reproducible: the objects differ" >&2; exit 1; }
