#!/bin/sh
# next.sh DIRECTORY: puts the packages of this machine's architecture there, each with a higher version and otherwise the same.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$1"
for package in target/deb/*_"$(dpkg --print-architecture)".deb; do
    rm -rf "$scratch/next"
    dpkg-deb --raw-extract "$package" "$scratch/next"
    sed -i 's/^Version: .*/&+next/' "$scratch/next/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$scratch/next" "$1" >/dev/null
done
