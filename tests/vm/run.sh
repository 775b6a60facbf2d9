#!/bin/sh
# run.sh SCENARIO...: runs each scenario in a virtual machine of its own for each kernel package in KERNELS. A machine is
# Debian with systemd, all in memory, and emulated. It is of ARCH, amd64 or arm64, by default that of this machine.
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

export ARCH="${ARCH:-$(dpkg --print-architecture)}"
TIMEOUT_S=${TIMEOUT_S:-3600}
MEMORY_MIB=2048
# MACHINE is the emulator with its processor. CONSOLE and SECOND are what the two serial ports are called in it; SECOND_PORT
# gives it the second.
case $ARCH in
amd64)
    KERNELS=${KERNELS:-linux-image-cloud-amd64 linux-image-6.12-cloud-amd64}
    # Without what an emulator is slow at: another level of page tables, and registers that each change of tasks saves.
    # Without AES, too: the kernel's code for it takes registers for granted that are off. Without fast string instructions,
    # since the kernel would copy and clear all memory by them, and the emulator takes them byte by byte: all took a fifth
    # longer.
    MACHINE="qemu-system-x86_64 -cpu max,la57=off,avx=off,mpx=off,pku=off,xsave=off,aes=off,erms=off,fsrm=off"
    CONSOLE=ttyS0
    SECOND=ttyS1
    SECOND_PORT="-serial stdio"
    # The emulated processor has an erratum for which the kernel polls while it is idle, which takes time from other machines. Its
    # counters look as if they ran apart, so each look at the clock would go to a device; they are one, that of this host.
    # A suite that took 196 s takes 129.
    TUNING="idle=halt"
    clock=/sys/devices/system/clocksource/clocksource0/current_clocksource
    if [ "$(cat $clock)" = tsc ]; then
        TUNING="$TUNING tsc=reliable"
    fi
    ;;
arm64)
    KERNELS=${KERNELS:-linux-image-cloud-arm64}
    # without signed pointers and large registers, at which an emulator is slow
    MACHINE="qemu-system-aarch64 -machine virt -cpu max,pauth=off,sve=off,sme=off"
    CONSOLE=ttyAMA0
    # the machine has one port that Linux may use
    SECOND=ttyS0
    SECOND_PORT="-chardev stdio,id=result -device pci-serial,chardev=result"
    TUNING=
    ;;
*)
    echo "vm: there is no machine of $ARCH: amd64 or arm64" >&2
    exit 1
    ;;
esac

[ $# -gt 0 ] || { echo "usage: run.sh SCENARIO..." >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "vm: run as root" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# prepare SCENARIO
prepare() {
    payload=$scratch/$1
    mkdir -p "$payload/vm" "$payload/etc/systemd/system" "$payload/usr"
    cp tests/vm/guest/* tests/vm/scenarios/"$1"/scenario.sh "$payload/vm"
    mv "$payload/vm/vm-scenario.service" "$payload/etc/systemd/system"
    ln -s "/dev/$SECOND" "$payload/vm/result"
    tests/vm/scenarios/"$1"/prepare.sh "$payload/vm"
    (cd "$payload" && find . -mindepth 1 | cpio --create --format=newc --owner=0:0 --quiet) >"$payload.cpio"
    rm -r "$payload"
}

# Without no_timer_check a kernel panics that finds no tick of its timer for some milliseconds, as on a busy host.
# One thread for both processors of a machine: with one for each they wait for each other on a busy host, and two machines with
# the same tests took 235 s in place of 170.
# boot MODULES INITRD CONSOLE: the scenario's lines go to standard output.
boot() {
    # shellcheck disable=SC2086
    timeout --foreground "$TIMEOUT_S" $MACHINE -accel tcg,thread=single -smp 2 -m "$MEMORY_MIB" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$1.vmlinuz" -initrd "$2" \
        -append "console=$CONSOLE panic=-1 no_timer_check $TUNING rdinit=/lib/systemd/systemd systemd.wants=vm-scenario.service
                 systemd.mask=serial-getty@$CONSOLE.service systemd.show_status=0" \
        -serial "file:$3" $SECOND_PORT </dev/null
}

# What the kernel says when something is wrong with it.
COMPLAINTS='BUG: |WARNING: |Oops: |Unable to handle kernel |general protection fault|Kernel panic|KASAN|refcount_t'

# While a kernel boots it changes its code under way (text_poke_bp), and on a busy host one of the emulated processors now and
# then still executes the breakpoint of before. Nothing of the scenario has run then.
EMULATOR_FAULT='int3: 0000'

# judge TRIAL RESULT CONSOLE
judge() {
    if [ "$(tail -n 1 "$2")" != "exit 0" ]; then
        if ! grep -q '^exit ' "$2"; then
            echo "FAILED the machine did not come to its end; its console:"
            tail -n 100 "$3"
        fi
        echo "FAILED $1; the console is in $3"
        return 1
    fi
    if grep -E "$COMPLAINTS" "$3"; then
        echo "FAILED the kernel complains; the console is in $3"
        return 1
    fi
}

# trial SCENARIO KERNEL: what it prints is shown when it has ended.
trial() {
    modules=$(tests/vm/image.sh "$2")
    console=target/vm/$1-$2.console
    result=$scratch/$1-$2.result
    initrd=$scratch/$1-$2.initrd
    echo "== $1 on $(basename "$modules" .cpio)"
    begin=$(date +%s)
    cat "$root" "$modules" "$scratch/$1.cpio" >"$initrd"
    boot "$modules" "$initrd" "$console" >"$result" || true
    if [ ! -s "$result" ] && grep -q "$EMULATOR_FAULT" "$console"; then
        echo "   started again: the emulator has executed a breakpoint that the kernel had replaced"
        boot "$modules" "$initrd" "$console" >"$result" || true
    fi
    rm "$initrd"
    cat "$result"
    status=0
    judge "$1 on $2" "$result" "$console" || status=1
    echo "   $(($(date +%s) - begin)) s"
    return "$status"
}

for scenario in "$@"; do
    prepare "$scenario"
done
root=$(tests/vm/image.sh root)
for kernel in $KERNELS; do
    tests/vm/image.sh "$kernel" >/dev/null
done
# all at once: much of the time a machine waits for something
trials=
for scenario in "$@"; do
    for kernel in $KERNELS; do
        trial "$scenario" "$kernel" >"$scratch/$scenario-$kernel.said" 2>&1 &
        trials="$trials $scenario-$kernel:$!"
    done
done
failures=0
for each in $trials; do
    wait "${each#*:}" || failures=$((failures + 1))
    cat "$scratch/${each%:*}.said"
done
exit "$failures"
