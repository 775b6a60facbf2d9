#!/bin/sh
# Makes a Debian with systemd and what the scenarios take, and prints its directory. It is kept below target/container until
# this script changes.
set -eu
cd "$(dirname "$0")/../.."

PACKAGES="systemd-sysv dbus procps iproute2 iputils-ping curl ca-certificates tcpdump python3-minimal python3-apt
    ansible-core puppet-agent unattended-upgrades tshark"

directory=$PWD/target/container
root=$directory/root-$(sha256sum tests/container/image.sh | cut -c1-12)
if [ ! -e "$root" ]; then
    echo "making a Debian; this takes two minutes" >&2
    rm -rf "$directory"
    mkdir -p "$directory"
    # where this machine gets its packages from
    # shellcheck disable=SC2016 # apt fills it in
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' 'Origin: Debian' \
        >"$directory/sources.list"
    # shellcheck source=/dev/null
    mmdebstrap --quiet --variant=apt --format=directory --include="$(echo "$PACKAGES" | tr -s ' \n' ,)" \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$directory/new" "$directory/sources.list" >&2
    # nothing is to be had from outside
    rm -rf "$directory/new/etc/apt/sources.list" "$directory/new/etc/apt/sources.list.d" "$directory"/new/var/lib/apt/lists/*
    mkdir "$directory/new/etc/apt/sources.list.d"
    rm -rf "$directory/new/dev" && mkdir "$directory/new/dev"
    mv "$directory/new" "$root"
fi
echo "$root"
