#!/bin/sh
# prepare.sh DIRECTORY: puts the package there as this.deb, and the same with a higher version as next.deb.
set -eu

package=$(find target/deb -maxdepth 1 -name 'traffic-mirror_*.deb')
cp "$package" "$1/this.deb"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dpkg-deb --raw-extract "$package" "$scratch/next"
sed -i 's/^Version: .*/&+next/' "$scratch/next/DEBIAN/control"
dpkg-deb --root-owner-group --build "$scratch/next" "$1/next.deb" >/dev/null
