#!/bin/sh
# prepare.sh DIRECTORY: puts the daemon there, and the test binaries that need nothing but a kernel. If TESTS is set, only the
# tests run that it names.
set -eu

built=target/release
if [ "$ARCH" != "$(dpkg --print-architecture)" ]; then
    # as Rust calls it; cargo reads the variable
    CARGO_BUILD_TARGET=$(dpkg-architecture --target-arch "$ARCH" --query DEB_TARGET_GNU_CPU)-unknown-linux-gnu
    export CARGO_BUILD_TARGET
    built=target/$CARGO_BUILD_TARGET/release
fi
echo "${TESTS:-}" >"$1/tests"
cp "$built/traffic-mirror" "$1/traffic-mirror"
for test in packets; do
    # cargo tells where it has put it
    binary=$(cargo test --profile tests --locked --quiet --package traffic-mirror-tests --test "$test" --no-run \
        --message-format=json | sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
    [ -x "$binary" ] || { echo "vm: cargo has not built the test $test" >&2; exit 1; }
    cp "$binary" "$1/test-$test"
done
