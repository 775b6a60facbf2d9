#!/bin/sh
# Builds the eBPF object from two directories: it must be the same, byte for byte.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for name in one another/with/a/longer/path; do
    mkdir -p "$scratch/$name"
    git ls-files -z | xargs -0 cp --parents --target-directory="$scratch/$name"
    # a check runs the build script, which builds the object
    (cd "$scratch/$name" && cargo check --quiet --locked --package traffic-mirror)
done
objects=$(find "$scratch" -name mirror.o)
[ "$(echo "$objects" | wc -l)" = 2 ] || { echo "reproducible: not two objects: $objects" >&2; exit 1; }
# shellcheck disable=SC2086
sums=$(sha256sum $objects | cut -d' ' -f1)
echo "$sums"
[ "$(echo "$sums" | sort -u | wc -l)" = 1 ] || { echo "reproducible: the objects differ" >&2; exit 1; }
