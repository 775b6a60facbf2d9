#!/bin/sh
# Makes target/deb/traffic-mirror_VERSION_amd64.deb from target/release/traffic-mirror.
set -eu
cd "$(dirname "$0")/../.."

for tool in dpkg-buildpackage dh; do
    command -v "$tool" >/dev/null || { echo "deb: $tool is missing; apt-get install debhelper dpkg-dev" >&2; exit 1; }
done
[ -x target/release/traffic-mirror ] || { echo "deb: the daemon is not built; run make build" >&2; exit 1; }

stage=target/deb/stage
rm -rf "$stage"
mkdir -p "$stage/staged/etc" "$stage/etc"
cp -r packaging/deb "$stage/debian"
cp systemd/traffic-mirror.service "$stage/debian/traffic-mirror.service"
cp target/release/traffic-mirror "$stage/staged/"
cp packaging/deb/mirror.toml "$stage/staged/etc/"
cp etc/mirror.toml "$stage/etc/"
cp -r README.md ARCHITECTURE.md docs "$stage/"
(cd "$stage" && dpkg-buildpackage --build=binary --unsigned-source --unsigned-changes)
ls -l target/deb/*.deb
