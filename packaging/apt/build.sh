#!/bin/sh
# Makes an apt repository of the packages in target/deb, or of those in PACKAGES: build.sh DIRECTORY KEY. It is signed with
# the GnuPG key KEY. Serve the directory by any web server; a client has in /etc/apt/sources.list.d/traffic-mirror.sources:
#   Types: deb
#   URIs: https://packages.example.net/
#   Suites: stable
#   Components: main
#   Signed-By: /etc/apt/keyrings/traffic-mirror.asc
set -eu
cd "$(dirname "$0")/../.."
[ $# = 2 ] || {
    echo "usage: build.sh DIRECTORY KEY" >&2
    exit 64
}
command -v apt-ftparchive >/dev/null || {
    echo "apt: apt-ftparchive is missing; apt-get install apt-utils" >&2
    exit 1
}
packages=${PACKAGES:-target/deb}
ls "$packages"/*.deb >/dev/null 2>&1 || {
    echo "apt: there are no packages in $packages; run make deb" >&2
    exit 1
}

mkdir -p "$1/pool"
cp "$packages"/*.deb "$1/pool/"
cd "$1"
for architecture in amd64 arm64; do
    index=dists/stable/main/binary-$architecture
    mkdir -p "$index"
    apt-ftparchive --arch "$architecture" packages pool >"$index/Packages"
    gzip --keep --force --no-name "$index/Packages"
done
apt-ftparchive \
    -o APT::FTPArchive::Release::Origin=traffic-mirror \
    -o APT::FTPArchive::Release::Suite=stable \
    -o APT::FTPArchive::Release::Codename=stable \
    -o APT::FTPArchive::Release::Architectures="amd64 arm64" \
    -o APT::FTPArchive::Release::Components=main \
    release dists/stable >Release
mv Release dists/stable/Release
gpg --batch --yes --local-user "$2" --clearsign --output dists/stable/InRelease dists/stable/Release
gpg --batch --yes --armor --export --output traffic-mirror.asc "$2"
