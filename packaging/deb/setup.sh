#!/bin/sh
# Installs what the packages take on Debian 12: setup.sh, or setup.sh arm64 for a cross build, too. Run again, it does nothing.
set -eu
cd "$(dirname "$0")/../.."

./setup.sh packages deb debhelper dpkg-dev go-md2man apt-utils gpg gpg-agent lintian
if [ "${1:-}" = arm64 ]; then
    ./setup.sh packages deb gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    rustup target add aarch64-unknown-linux-gnu
fi
