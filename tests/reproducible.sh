#!/bin/sh
# Builds the packages here and in another directory, with another home and another umask: they must be the same, byte for byte.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

here=$PWD/target/deb
ls "$here"/*.deb >/dev/null 2>&1 || { echo "reproducible: there are no packages; run make deb" >&2; exit 1; }

copy=$scratch/another/with/a/longer/path
mkdir -p "$copy" "$scratch/home/.cargo"
git ls-files -z | xargs -0 cp --parents --target-directory="$copy"
# libraries as they were downloaded, by another path
cp --recursive --symbolic-link "${CARGO_HOME:-$HOME/.cargo}/registry" "$scratch/home/.cargo/"
(
    export RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    export HOME="$scratch/home" CARGO_HOME="$scratch/home/.cargo"
    # the copy has no git to ask
    TRAFFIC_MIRROR_REVISION=$(target/release/traffic-mirror --version | sed -n 's/^revision //p')
    export TRAFFIC_MIRROR_REVISION
    umask 027
    make --directory="$copy" --no-print-directory deb
)
status=0
for package in "$here"/*_"$(dpkg --print-architecture)".deb; do
    there=$copy/target/deb/$(basename "$package")
    sha256sum "$package" "$there"
    cmp "$package" "$there" || status=1
done
[ "$status" = 0 ] || echo "reproducible: the packages differ" >&2
exit "$status"
