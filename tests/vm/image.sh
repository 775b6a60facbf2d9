#!/bin/sh
# image.sh root          makes a Debian with systemd
# image.sh KERNEL        makes the modules of a kernel package, such as linux-image-cloud-amd64
#
# Both for ARCH, amd64 or arm64, by default that of this machine.
#
# Each prints the path of a cpio archive; beside that of the modules lies the kernel, PATH.vmlinuz. Both are kept below
# target/vm until the list of packages or the version of the kernel changes.
set -eu
cd "$(dirname "$0")/../.."

own=$(dpkg --print-architecture)
ARCH=${ARCH:-$own}

PACKAGES="systemd-sysv udev dbus kmod procps iproute2 iputils-ping bpftool nftables python3-minimal wireguard-tools"
# what of a kernel the tests may need
MODULES="net drivers/net lib crypto arch/x86/crypto arch/arm64/crypto"

cache=target/vm
mkdir -p "$cache"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Packs a directory. An archive is there when it is complete. It is not compressed: the emulated processor is slow at
# unpacking.
pack() {
    (cd "$1" && find . -mindepth 1 | cpio --create --format=newc --owner=0:0 --quiet) >"$2.new"
    mv "$2.new" "$2"
}

# Where this machine gets its packages from.
sources() {
    # shellcheck disable=SC2016 # apt fills it in
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' 'Origin: Debian'
}

# The options of mmdebstrap. No program of another architecture runs here, so its packages are only unpacked.
variant() {
    if [ "$ARCH" = "$own" ]; then
        echo --variant=apt
    else
        echo "--variant=extract --architectures=$ARCH --include=?essential --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    fi
}

# configure ROOT: what the scripts of unpacked packages would have made, as far as systemd does not make it when it boots.
configure() {
    for file in passwd group; do
        cp "$1/usr/share/base-passwd/$file.master" "$1/etc/$file"
    done
    ln -s mawk "$1/usr/bin/awk"
    # else systemd takes this for the first start, enables what it finds and asks questions
    : >"$1/etc/machine-id"
}

root() {
    path=$cache/root-$ARCH-$(sha256sum tests/vm/image.sh | cut -c1-12).cpio
    if [ ! -e "$path" ]; then
        echo "making a Debian; this takes a minute" >&2
        sources >"$scratch/sources.list"
        # shellcheck source=/dev/null disable=SC2046
        mmdebstrap --quiet $(variant) --format=directory --include="$(echo "$PACKAGES" | tr ' ' ,)" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$scratch/root" "$scratch/sources.list" >&2
        rm -f "$cache/root-$ARCH"-*.cpio
        # device nodes are made by the kernel
        rm -rf "$scratch/root/dev" && mkdir "$scratch/root/dev"
        [ "$ARCH" = "$own" ] || configure "$scratch/root"
        pack "$scratch/root" "$path"
    fi
    echo "$path"
}

# Lets apt look for packages of another architecture, by lists of its own: this machine's stay as they are.
look_elsewhere() {
    [ "$ARCH" != "$own" ] || return 0
    lists=$PWD/$cache/apt-$ARCH
    mkdir -p "$lists/lists/partial"
    sources >"$lists/sources.list"
    cat >"$lists/apt.conf" <<END
APT::Architecture "$ARCH";
APT::Architectures { "$ARCH"; };
APT::Sandbox::User "root";
Dir::State "$lists";
Dir::State::status "/dev/null";
Dir::Cache "$lists";
Dir::Etc::sourcelist "$lists/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
    export APT_CONFIG="$lists/apt.conf"
    # once in ten hours
    [ -n "$(find "$lists" -name updated -mmin -600)" ] || apt-get update --quiet >&2
    touch "$lists/updated"
}

kernel() {
    look_elsewhere
    # the package of that name is empty, and depends on the newest
    package=$(apt-cache depends "$1" | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')
    [ -n "$package" ] || { echo "vm: apt knows no package $1; apt-get update" >&2; exit 1; }
    version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
    path=$cache/${package}_$version.cpio
    if [ ! -e "$path" ]; then
        echo "getting $package" >&2
        (cd "$scratch" && apt-get download --quiet --option APT::Sandbox::User=root "$package" >&2)
        dpkg-deb --extract "$scratch/$package"_*.deb "$scratch/kernel"
        release=${package#linux-image-}
        from=$scratch/kernel/lib/modules/$release
        to=$scratch/modules/usr/lib/modules/$release
        mkdir -p "$to"
        cp "$from"/modules.order "$from"/modules.builtin* "$to"
        for directory in $MODULES; do
            [ -d "$from/kernel/$directory" ] || continue
            mkdir -p "$to/kernel/$(dirname "$directory")"
            cp -r "$from/kernel/$directory" "$to/kernel/$directory"
        done
        # the emulated processor lacks what it takes (xsave)
        rm -f "$to"/kernel/arch/x86/crypto/aesni*
        depmod --basedir "$scratch/modules/usr" "$release"
        cp "$scratch/kernel/boot/vmlinuz-$release" "$path.vmlinuz"
        pack "$scratch/modules" "$path"
    fi
    echo "$path"
}

case $1 in
root) root ;;
*) kernel "$1" ;;
esac
