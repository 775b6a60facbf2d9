#!/bin/sh
# Makes the packages from what cargo has built: build.sh [ARCHITECTURE], amd64 or arm64, by default that of this machine.
# They are written to target/deb.
set -eu
cd "$(dirname "$0")/../.."

for tool in dpkg-buildpackage dh go-md2man; do
    command -v "$tool" >/dev/null || {
        echo "deb: $tool is missing; apt-get install debhelper dpkg-dev go-md2man" >&2
        exit 1
    }
done
own=$(dpkg --print-architecture)
architecture=${1:-$own}
case $architecture in
amd64) triple=x86_64-unknown-linux-gnu ;;
arm64) triple=aarch64-unknown-linux-gnu ;;
*)
    echo "deb: there is no package for $architecture: amd64 or arm64" >&2
    exit 1
    ;;
esac
built=target/release
[ "$architecture" = "$own" ] || built=target/$triple/release
for program in traffic-mirror traffic-mirror-collector traffic-mirror-resolver; do
    [ -x "$built/$program" ] || {
        echo "deb: $built/$program is not built; run make build" >&2
        exit 1
    }
done
# the program of another architecture does not run here, and completes the same
native=target/release/traffic-mirror
[ -x "$native" ] || {
    echo "deb: $native is not built; run make build" >&2
    exit 1
}

stage=target/deb/stage-$architecture
rm -rf "$stage"
mkdir -p "$stage/staged" "$stage/etc"
cp -r packaging/deb "$stage/debian"
for unit in traffic-mirror traffic-mirror-collector; do
    cp "systemd/$unit.service" "$stage/debian/$unit.service"
    cp "$built/$unit" "$stage/staged/"
done
for unit in service path; do
    cp "systemd/traffic-mirror-resolver.$unit" "$stage/debian/traffic-mirror.traffic-mirror-resolver.$unit"
done
cp "$built/traffic-mirror-resolver" "$stage/staged/"
cp packaging/deb/mirror.toml "$stage/staged/"
cp etc/mirror.toml "$stage/etc/"
packaging/man/build.sh "$stage/staged/man"
packaging/completions/build.sh "$stage/staged/completions" "$native"
cp -r README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md RELEASING.md SECURITY.md docs packaging "$stage/"
(cd "$stage" && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage --build=binary --host-arch "$architecture" --unsigned-source --unsigned-changes -d)
ls -l target/deb/*_"$architecture".deb
