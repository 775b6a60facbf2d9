#!/bin/sh
# Installs what the virtual machines need on Debian 12: those of ARCH, amd64 or arm64, by default that of this machine.
# Run again, it does nothing.
set -eu
cd "$(dirname "$0")/../.."

case ${ARCH:-$(dpkg --print-architecture)} in
arm64) emulator=qemu-system-arm ;;
*) emulator=qemu-system-x86 ;;
esac
./setup.sh packages vm $emulator mmdebstrap cpio kmod
