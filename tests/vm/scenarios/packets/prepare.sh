#!/bin/sh
# prepare.sh DIRECTORY: puts the daemon there, and the test binaries that need nothing but a kernel.
set -eu

cp target/release/traffic-mirror "$1/traffic-mirror"
for test in packets; do
    # cargo tells where it has put it
    binary=$(cargo test --profile tests --locked --quiet --package traffic-mirror-tests --test "$test" --no-run \
        --message-format=json | sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
    [ -x "$binary" ] || { echo "vm: cargo has not built the test $test" >&2; exit 1; }
    cp "$binary" "$1/test-$test"
done
