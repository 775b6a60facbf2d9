#!/bin/sh
# prepare.sh DIRECTORY: installs the package into the machine's root before it boots, with a file, as after a reboot.
set -eu

root=$(dirname "$1")
dpkg-deb --extract target/deb/traffic-mirror_*_"$ARCH".deb "$root"
# in the machine /lib is a link
cp -r "$root/lib" "$root/usr/"
rm -r "$root/lib"
systemctl --root="$root" --quiet enable traffic-mirror.service
cat >"$root/etc/mirror.toml" <<END
[[interface]]
name = "edge0"

[endpoint.collector]
address = "192.0.2.10"

[[filter]]
name = "stream"
protocol = ["udp"]
destination_port = [4000]
to = ["collector"]
END
