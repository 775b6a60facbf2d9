#!/bin/sh
# Runs the fuzzers: run.sh [TARGET [SECONDS]]. TARGET is frames, fit, hello, quic, toml, programs, hostile, or all of them in turns; 0
# seconds are until Ctrl-C. SEED begins where another run began.
#
# `run.sh build` only compiles them.
#
# `run.sh minimise` writes what frames, fit, hello and quic have found on this machine into corpus/, as little of it as covers the same.
set -eu
cd "$(dirname "$0")"
export PATH="$PATH:$HOME/.cargo/bin"

target=${1:-all}
seconds=${2:-60}
root=$(cd ../.. && pwd)
work=$root/target/fuzz
mkdir -p "$work/log" "$work/found"

# a line of hexadecimal digits for each input, since what is in the repository is text
unpack() {
    rm -rf "$work/seeds/$1"
    mkdir -p "$work/seeds/$1"
    DIRECTORY="$work/seeds/$1" perl -ne \
        'chomp; open my $file, ">", "$ENV{DIRECTORY}/$."; binmode $file; print $file pack "H*", $_' "corpus/$1.hex"
}

pack() {
    perl -0777 -ne 'print unpack("H*", $_), "\n"' "$1"/* | LC_ALL=C sort | awk '{ print length, $0 }' |
        sort --numeric-sort --stable | cut -d' ' -f2- >"$2"
}

# the least is what the longest header chains, a hello with a few extensions, and a file of a dozen filters, take
max_bytes() {
    case $1 in
    fit) echo 128 ;;
    frames) echo 1024 ;;
    *) echo 4096 ;;
    esac
}

seeds() {
    case $1 in
    # the golden files are the corpus: they are kept up to date, and are read by people
    toml) echo ../golden/config/ok ../golden/config/bad ../golden/plan ../../etc ;;
    *) unpack "$1" && echo "$work/seeds/$1" ;;
    esac
}

binary() {
    cargo build --release --locked --quiet --bin "$1"
    find "$work" -path "*/release/$1" -type f -perm -u+x
}

guided() {
    name=$1
    program=$(binary "$name")
    inputs=$(seeds "$name")
    log=$work/log/$name
    mkdir -p "$work/corpus/$name"
    set -- -max_total_time="$seconds" -max_len="$(max_bytes "$name")" -timeout=20 -rss_limit_mb=2048 -seed="${SEED:-0}"
    if [ -e "$name.dict" ]; then set -- "$@" -dict="$name.dict"; fi
    echo "fuzz: $name, guided by coverage, ${seconds} s; tail -f $log"
    status=0
    # shellcheck disable=SC2086
    "$program" "$@" -artifact_prefix="$work/found/$name-" "$work/corpus/$name" $inputs >"$log" 2>&1 || status=$?
    case $status in
    0 | 72) grep -E 'DONE|interrupted' "$log" | sed "s/^/fuzz: $name: /" ;;
    *)
        grep -vE '^#[0-9]|^INFO|^WARNING|^NOTE|^stack backtrace|^ +[0-9]+: |^ +at ' "$log" | tail -n 40
        echo "fuzz: $name has found something; to see it again: $program $work/found/$name-..." >&2
        exit 1
        ;;
    esac
    # Ctrl-C ends all of them
    [ "$status" = 0 ] || exit 0
}

programs() {
    echo "fuzz: programs, by BPF_PROG_TEST_RUN, ${seconds} s"
    (cd "$root" && cargo run --profile tests --locked --quiet --package traffic-mirror-tests --bin fuzz -- \
        --seconds "$seconds" ${SEED:+--seed "$SEED"})
}

hostile() {
    echo "fuzz: hostile, to a host with sockets behind a mirror, ${seconds} s"
    (cd "$root" && cargo run --profile tests --locked --quiet --package traffic-mirror-tests --bin hostile -- \
        --seconds "$seconds" ${SEED:+--seed "$SEED"})
}

minimise() {
    for name in frames fit hello quic; do
        program=$(binary "$name")
        rm -rf "$work/minimised"
        mkdir -p "$work/minimised"
        # shellcheck disable=SC2046
        "$program" -merge=1 -max_len=256 "$work/minimised" $(seeds "$name") "$work/corpus/$name" >"$work/log/minimise" 2>&1
        pack "$work/minimised" "corpus/$name.hex"
    done
}

case $target in
all) for each in frames fit hello quic toml; do guided "$each"; done && programs && hostile ;;
frames | fit | hello | quic | toml) guided "$target" ;;
programs) programs ;;
hostile) hostile ;;
build) cargo build --release --locked --quiet --bins ;;
minimise) minimise ;;
*) echo "fuzz: there is no target $target: frames, fit, hello, quic, toml, programs, hostile or all" >&2 && exit 1 ;;
esac
