#!/bin/sh
# Installs what the packages take on Debian 12: setup.sh, or setup.sh arm64 for a cross build, too. Run again, it does nothing.
set -eu

wanted="debhelper dpkg-dev go-md2man apt-utils gpg gpg-agent lintian"
[ "${1:-}" != arm64 ] || wanted="$wanted gcc-aarch64-linux-gnu libc6-dev-arm64-cross"

missing() {
    for package in $wanted; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

packages=$(missing)
if [ -n "$packages" ]; then
    if [ "$(id -u)" != 0 ]; then
        # shellcheck disable=SC2086
        echo "deb: these packages are missing; install them as root:" $packages >&2
        exit 1
    fi
    apt-get update --quiet
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $packages
fi
[ "${1:-}" != arm64 ] || rustup target add aarch64-unknown-linux-gnu
