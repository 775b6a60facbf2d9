#!/bin/sh
# prepare.sh DIRECTORY: puts the package there as this.deb, and the same with a higher version as next.deb.
set -eu

architecture=$(dpkg --print-architecture)
cp target/deb/traffic-mirror_*_"$architecture".deb "$1/this.deb"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests/next.sh "$scratch"
cp "$scratch"/traffic-mirror_*.deb "$1/next.deb"
