#!/bin/sh
# run.sh SCENARIO [KERNEL...]: runs a scenario in a virtual machine of its own for each kernel package. A machine is Debian
# with systemd, all in memory; without KVM it is emulated.
#
#   setup.sh               the tools
#   image.sh               Debian and kernels, made once
#   guest/                 what every machine has, in /vm: guest/start runs the scenario
#   scenarios/NAME/        prepare.sh DIRECTORY, on this machine, puts there what else must be in /vm
#                          scenario.sh, in the virtual one; prints a line for each check, fails if one fails
#
# The first serial port is the console, kept in target/vm; what the scenario says comes by the second, and its last line,
# "exit CODE", alone makes a success. A machine that hangs or crashes does not say it.
set -eu
cd "$(dirname "$0")/../.."

KERNELS="linux-image-cloud-amd64 linux-image-6.12-cloud-amd64"
TIMEOUT_S=${TIMEOUT_S:-1200}
MEMORY_MIB=2048

scenario=$1
shift
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $KERNELS
[ "$(id -u)" = 0 ] || { echo "vm: run as root" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

prepare() {
    mkdir -p "$scratch/payload/vm" "$scratch/payload/etc/systemd/system"
    cp tests/vm/guest/* tests/vm/scenarios/"$scenario"/scenario.sh "$scratch/payload/vm"
    mv "$scratch/payload/vm/vm-scenario.service" "$scratch/payload/etc/systemd/system"
    tests/vm/scenarios/"$scenario"/prepare.sh "$scratch/payload/vm"
    (cd "$scratch/payload" && find . -mindepth 1 | cpio --create --format=newc --owner=0:0 --quiet) >"$scratch/payload.cpio"
}

# boot ROOT MODULES CONSOLE INITRD: the scenario's lines go to standard output.
boot() {
    cat "$1" "$2" "$scratch/payload.cpio" >"$4"
    timeout --foreground "$TIMEOUT_S" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m "$MEMORY_MIB" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$2.vmlinuz" -initrd "$4" \
        -append "console=ttyS0 panic=-1 rdinit=/lib/systemd/systemd systemd.wants=vm-scenario.service
                 systemd.mask=serial-getty@ttyS0.service systemd.show_status=0" \
        -serial "file:$3" -serial stdio </dev/null
}

# What the kernel says when something is wrong with it.
COMPLAINTS='BUG: |WARNING: |Oops: |general protection fault|Kernel panic|KASAN|refcount_t'

# judge KERNEL RESULT CONSOLE
judge() {
    if [ "$(tail -n 1 "$2")" != "exit 0" ]; then
        if ! grep -q '^exit ' "$2"; then
            echo "FAILED the machine did not come to its end; its console:"
            tail -n 100 "$3"
        fi
        echo "FAILED $scenario on $1; the console is in $3"
        return 1
    fi
    if grep -E "$COMPLAINTS" "$3"; then
        echo "FAILED the kernel complains; the console is in $3"
        return 1
    fi
}

# trial KERNEL: what it prints is shown when all have ended.
trial() {
    modules=$(tests/vm/image.sh "$1")
    console=target/vm/$scenario-$1.console
    result=$scratch/$1.result
    echo "== $scenario on $(basename "$modules" .cpio)"
    begin=$(date +%s)
    boot "$root" "$modules" "$console" "$scratch/$1.initrd" >"$result" || true
    cat "$result"
    status=0
    judge "$1" "$result" "$console" || status=1
    echo "   $(($(date +%s) - begin)) s"
    return "$status"
}

prepare
root=$(tests/vm/image.sh root)
for kernel in "$@"; do
    tests/vm/image.sh "$kernel" >/dev/null
done
# all at once: most of the time a machine waits for something
trials=
for kernel in "$@"; do
    trial "$kernel" >"$scratch/$kernel.said" 2>&1 &
    trials="$trials $kernel:$!"
done
failures=0
for each in $trials; do
    wait "${each#*:}" || failures=$((failures + 1))
    cat "$scratch/${each%:*}.said"
done
exit "$failures"
