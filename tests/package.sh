#!/bin/sh
# Checks the packages in target/deb: what they hold, that lintian is content, that no path of this machine is in them, and that
# all versions are one. BLESS=1 writes tests/golden/package anew.
set -eu
cd "$(dirname "$0")/.."

failures=0
# fail WHAT: a line on standard error
fail() {
    echo "package: $1" >&2
    failures=$((failures + 1))
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
version=$(sed --quiet '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
for package in target/deb/*.deb; do
    name=$(dpkg-deb --field "$package" Package)
    [ "$(dpkg-deb --field "$package" Version)" = "$version" ] ||
        fail "$package is not version $version of Cargo.toml; write it into packaging/deb/changelog, too"

    # rights and names
    golden=tests/golden/package/$name.txt
    dpkg-deb --contents "$package" | awk '{ print $1, $2, $6 $7 $8 }' | LC_ALL=C sort -k 3 >"$scratch/contents"
    if [ -n "${BLESS:-}" ]; then
        mkdir -p tests/golden/package
        cp "$scratch/contents" "$golden"
    fi
    diff -u "$golden" "$scratch/contents" || fail "$package holds something else; BLESS=1 tests/package.sh accepts it"
    [ -z "$(dpkg-deb --info "$package" conffiles 2>/dev/null | grep mirror.toml)" ] ||
        fail "$package: /etc/mirror.toml must not be a conffile"

    rm -rf "$scratch/tree"
    dpkg-deb --extract "$package" "$scratch/tree"
    for path in "$HOME/" "$PWD/" /.cargo/ "$(rustc --print sysroot)"; do
        found=$(grep --recursive --files-with-matches --fixed-strings -- "$path" "$scratch/tree" || true)
        [ -z "$found" ] || fail "$package: the path $path stands in $found"
    done
    # only programs of this architecture run here
    if [ "$name" = traffic-mirror ] && [ "$(dpkg-deb --field "$package" Architecture)" = "$(dpkg --print-architecture)" ] &&
        git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
        "$scratch/tree/usr/sbin/traffic-mirror" --version | grep -q 'revision *[0-9a-f]\{12\}' ||
            fail "$package: --version names no revision; build it by make"
    fi
    # a page for each program, and no errors in any
    find "$scratch/tree" -path '*/man/*' -name '*.gz' | while read -r page; do
        gzip --decompress --stdout "$page" | grep -q '^\.TH ' || echo "$page"
    done >"$scratch/pages"
    [ ! -s "$scratch/pages" ] || fail "no man pages: $(cat "$scratch/pages")"
done
lintian --allow-root --fail-on error,warning target/deb/*.deb || fail "lintian is not content"
[ "$failures" = 0 ]
