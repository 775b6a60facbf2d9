#!/usr/bin/env bash
# Runs `cargo test` with the arguments given, and says at the end which tests took the longest and how long all took.
#
# The test binaries are asked for the times by what libtest calls unstable options; cargo starts them by tests/timed.sh, so
# that nothing is built otherwise than by `cargo test` alone.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

# most tests wait for the kernel or for the daemon most of the time
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
times=target/test-times
mkdir -p target
: >$times
began=$SECONDS
status=0
TEST_TIMES=$root/$times TEST_PCAPS=$root/target/pcap cargo --config "target.'cfg(all())'.runner='$root/tests/timed.sh'" test --profile tests --locked --no-fail-fast "$@" || status=$?
echo "== the ten slowest tests, seconds ($RUST_TEST_THREADS at a time):"
sort --numeric-sort --reverse $times | sed --quiet "1,10s/^/   /p"
echo "== $(wc -l <$times) tests: $((SECONDS - began)) s with what was built"
exit "$status"
