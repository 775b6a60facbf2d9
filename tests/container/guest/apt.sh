# shellcheck shell=sh
# The packages of this tree in apt. To be sourced.

apt_up() {
    cat >/etc/apt/sources.list.d/traffic-mirror.sources <<END
Types: deb
URIs: file:///test/apt
Suites: stable
Components: main
Signed-By: /test/apt/traffic-mirror.asc
END
    DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet update
}
