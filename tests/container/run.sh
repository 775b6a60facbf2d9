#!/bin/sh
# run.sh SCENARIO...: runs each scenario in a Debian of its own, with systemd, on the kernel of this machine: in namespaces
# and an overlay, so that nothing of the machine changes.
#
#   image.sh               the Debian, made once
#   boot.sh                what becomes systemd
#   scenarios/NAME/        scenario.sh, run as root in there, in /test; prints a line for each check, fails if one fails
#
# /test has the files of the scenario, those of tests/vm/guest, README.md, and repositories of packages: `apt` has those in
# target/deb, `next` the same with a higher version, too.
set -eu
cd "$(dirname "$0")/../.."

[ $# -gt 0 ] || { echo "usage: run.sh SCENARIO..." >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "container: run as root" >&2; exit 1; }

scratch=$(mktemp -d)
init=
# ends what still runs in there with its first process
clean() {
    [ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true
    mountpoint --quiet "$scratch/root" && umount "$scratch/root"
    rm -rf "$scratch"
}
trap clean EXIT
trap "exit 1" INT TERM HUP

inside() {
    nsenter --target "$init" --all --root --wd=/ env --chdir=/test --ignore-environment \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

# scenario NAME
scenario() {
    echo "== $1, Debian $(cat "$image/etc/debian_version") on Linux $(uname -r)"
    begin=$(date +%s)
    mkdir -p "$scratch/upper/test" "$scratch/work" "$scratch/root"
    cp -r tests/vm/guest/* tests/container/guest/* "tests/container/scenarios/$1"/* README.md packaging "$scratch/upper/test/"
    cp -a "$scratch/apt" "$scratch/next" "$scratch/upper/test/"
    mount -t overlay -o "lowerdir=$image,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
    unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child \
        tests/container/boot.sh "$scratch/root" >"$scratch/console" 2>&1 &
    outer=$!
    latest=$(($(date +%s) + 60))
    until init=$(pgrep --parent "$outer") && inside systemctl is-system-running --wait >/dev/null 2>&1; do
        if [ "$(date +%s)" -gt "$latest" ]; then
            echo "FAILED the container did not come up"
            inside systemctl --failed --no-legend || cat "$scratch/console"
            return 1
        fi
        sleep 0.2
    done
    status=0
    inside sh ./scenario.sh || status=$?
    kill -KILL "$init"
    wait "$outer" 2>/dev/null || true
    init=
    umount "$scratch/root"
    rm -rf "$scratch/upper" "$scratch/work"
    echo "   $(($(date +%s) - begin)) s"
    return "$status"
}

image=$(tests/container/image.sh)
export GNUPGHOME="$scratch/gnupg"
mkdir -m 700 "$GNUPGHOME"
KEY=packages@example.net
gpg --batch --quiet --passphrase '' --quick-generate-key "Packages <$KEY>" default default never
packaging/apt/build.sh "$scratch/apt" $KEY >/dev/null
tests/next.sh "$scratch/higher"
cp -r "$scratch/apt" "$scratch/next"
# apt asks for what is newer, in whole seconds
sleep 1
PACKAGES="$scratch/higher" packaging/apt/build.sh "$scratch/next" $KEY >/dev/null
gpgconf --kill gpg-agent
failures=0
for name in "$@"; do
    scenario "$name" || failures=$((failures + 1))
done
exit "$failures"
