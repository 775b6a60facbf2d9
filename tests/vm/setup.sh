#!/bin/sh
# Installs what the virtual machines need on Debian 12: those of ARCH, amd64 or arm64, by default that of this machine.
# Run again, it does nothing.
set -eu

case ${ARCH:-$(dpkg --print-architecture)} in
arm64) emulator=qemu-system-arm ;;
*) emulator=qemu-system-x86 ;;
esac
PACKAGES="$emulator mmdebstrap cpio kmod"

missing() {
    for package in $PACKAGES; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

packages=$(missing)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    # shellcheck disable=SC2086
    echo "vm: these packages are missing; install them as root:" $packages >&2
    exit 1
fi
apt-get update --quiet
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $packages
