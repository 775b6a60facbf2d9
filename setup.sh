#!/bin/sh
# Installs what is needed on Debian 12, where rustup and git are: `setup.sh demo` for the build and the demo, `setup.sh`
# for all that tests and checks take. Run again, it does nothing.
set -eu
cd "$(dirname "$0")"
what=${1:-all}

BPF_LINKER=0.13.0
# bpf-linker must be built with the LLVM that rustc 1.98 has (22.1.8)
LLVM=22
BUILD="build-essential pkg-config llvm-$LLVM-dev libpolly-$LLVM-dev zlib1g-dev libzstd-dev"
DEMO="iproute2"
TESTS="iputils-ping ethtool procps strace bpftool util-linux nftables"
# what people save the file with
EDITORS="vim nano ansible-core puppet-agent"

case $what in
demo)
    wanted="$BUILD $DEMO"
    components="rust-src"
    ;;
all)
    wanted="$BUILD $DEMO $TESTS $EDITORS"
    components="rust-src rustfmt clippy"
    ;;
*)
    echo "usage: setup.sh [demo]" >&2
    exit 1
    ;;
esac

missing() {
    for package in $wanted; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

packages=$(missing)
if [ -n "$packages" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: these packages are missing; install them as root:" $packages >&2
        exit 1
    fi
    apt-get update --quiet
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $packages
fi

# promtool judges the metrics; of its package it alone is taken, since all of it would start a server
if [ "$what" = all ] && ! command -v promtool >/dev/null; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: promtool of the package prometheus is missing; install it as root" >&2
        exit 1
    fi
    (
        directory=$(mktemp -d)
        trap 'rm -rf "$directory"' EXIT
        cd "$directory"
        apt-get update --quiet
        apt-get download --quiet --option APT::Sandbox::User=root prometheus
        dpkg-deb --extract prometheus_*.deb .
        install usr/bin/promtool /usr/local/bin/
    )
fi

if ! command -v rustup >/dev/null; then
    echo "setup: rustup is missing; install it from your distribution or from rustup.rs" >&2
    exit 1
fi
# the toolchain of rust-toolchain.toml
# shellcheck disable=SC2086
rustup component add $components 2>/dev/null

if [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $BPF_LINKER" ]; then
    LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install bpf-linker --version "$BPF_LINKER" --locked --force \
        --no-default-features --features "llvm-$LLVM"
fi
