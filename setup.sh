#!/bin/sh
# Installs what is needed on Debian 12, where rustup and git are: `setup.sh demo` for the build and the demo, `setup.sh`
# for all that tests and checks take, `setup.sh packages WHO PACKAGE...` for what WHO takes beside. Run again, it does nothing.
set -eu
cd "$(dirname "$0")"
what=${1:-all}

BPF_LINKER=0.13.0
# bpf-linker must be built with the LLVM that rustc 1.98 has (22.1.8)
LLVM=22
BUILD="build-essential pkg-config llvm-$LLVM-dev libpolly-$LLVM-dev zlib1g-dev libzstd-dev"
DEMO="iproute2"
TESTS="iputils-ping ethtool procps strace bpftool util-linux nftables curl openssl libpcre2-8-0 libcrypt1"
# what people save the file with
EDITORS="vim nano ansible-core puppet-agent"

# install_packages WHO PACKAGE...: those that are missing.
install_packages() {
    who=$1
    shift
    packages=$(for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done)
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        # shellcheck disable=SC2086
        echo "$who: these packages are missing; install them as root:" $packages >&2
        exit 1
    fi
    apt-get update --quiet
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $packages
}

case $what in
packages)
    shift
    install_packages "$@"
    exit
    ;;
demo)
    wanted="$BUILD $DEMO"
    components="rust-src"
    ;;
all)
    wanted="$BUILD $DEMO $TESTS $EDITORS"
    components="rust-src rustfmt clippy"
    ;;
*)
    echo "usage: setup.sh [demo | packages WHO PACKAGE...]" >&2
    exit 1
    ;;
esac

# shellcheck disable=SC2086
install_packages setup $wanted

# promtool judges metrics and rules, nginx has clients, and tests start the others to see alerts fire; only the programs are
# taken out of the packages, since an installed package would start its server
PROGRAMS="promtool prometheus prometheus-node-exporter prometheus-alertmanager nginx"
# where Debian's Alertmanager reads them
TEMPLATES=/usr/share/prometheus/alertmanager
lacks_programs() {
    for program in $PROGRAMS; do
        command -v "$program" >/dev/null || return 0
    done
    [ ! -e $TEMPLATES/default.tmpl ]
}
if [ "$what" = all ] && lacks_programs; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: one of these programs is missing; install them as root:" "$PROGRAMS" >&2
        exit 1
    fi
    (
        directory=$(mktemp -d)
        trap 'rm -rf "$directory"' EXIT
        cd "$directory"
        apt-get update --quiet
        apt-get download --quiet --option APT::Sandbox::User=root prometheus prometheus-node-exporter \
            prometheus-alertmanager nginx
        for package in *.deb; do
            dpkg-deb --extract "$package" .
        done
        for program in $PROGRAMS; do
            found=usr/bin/$program
            [ -e "$found" ] || found=usr/sbin/$program
            install "$found" /usr/local/bin/
        done
        install -D --mode=0644 --target-directory=$TEMPLATES .$TEMPLATES/*.tmpl
    )
fi

if ! command -v rustup >/dev/null; then
    echo "setup: rustup is missing; install it from your distribution or from rustup.rs" >&2
    exit 1
fi
# not every rustup installs by itself what rust-toolchain.toml asks for
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
rustup run "$toolchain" rustc --version >/dev/null 2>&1 ||
    rustup --quiet toolchain install --no-self-update --profile minimal "$toolchain"
# shellcheck disable=SC2086
rustup --quiet component add --toolchain "$toolchain" $components

if [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $BPF_LINKER" ]; then
    LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install bpf-linker --version "$BPF_LINKER" --locked --force \
        --no-default-features --features "llvm-$LLVM"
fi
