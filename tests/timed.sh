#!/usr/bin/env bash
# timed.sh BINARY [ARGUMENT...]: runs a test binary, and appends a line "SECONDS BINARY::TEST" for each test to the file
# $TEST_TIMES. Tests that measure time, processors or memory, or make hundreds of interfaces, which others wait for, come
# first, few at a time; the others then share the machine.
# What the tests that passed have sent and captured is removed.
set -euo pipefail

name=$(basename "$1")
name=${name%-*}
# --report-time is an unstable option of libtest
export RUSTC_BOOTSTRAP=1
# filters of test names, and how many of them run at a time
measuring=
few=1
case $name in
daemon)
    measuring="file:: churn:: system:: many::"
    few=2
    ;;
packets) measuring="delay:: stalled::" ;;
esac

run() {
    "$@" -Zunstable-options --report-time 2>&1 | note
}

# passes lines on, and notes the times
note() {
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line"
        [[ $line =~ ^test\ (.*)\ \.\.\.\ ([a-zA-Z]+)\ \<([0-9.]+)s\>$ ]] || continue
        echo "${BASH_REMATCH[3]} $name::${BASH_REMATCH[1]}" >>"$TEST_TIMES"
        if [ "${BASH_REMATCH[2]}" = ok ]; then
            rm -f "$TEST_PCAPS/${BASH_REMATCH[1]//::/.}.pcapng"
        fi
    done
}

# shellcheck disable=SC2086 # filters, each a word
if [ -n "$measuring" ] && [ $# = 1 ]; then
    status=0
    run "$@" --test-threads=$few $measuring || status=$?
    run "$@" $(printf -- '--skip %s ' $measuring) || status=$?
    exit "$status"
fi
run "$@"
