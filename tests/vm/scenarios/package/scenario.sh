#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# The life of the package under systemd: install, reload, restart, crash, upgrade, stop, wrong files, purge.
# "mirrored" is what the collector's kernel has unwrapped; "a steady stream" goes on while something happens, and each of its
# datagrams must be copied once.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/vm/guest/site.sh
. ./site.sh

UNIT=traffic-mirror
FILE=/etc/mirror.toml
COLLECTOR_DIRECTORY=/var/lib/prometheus/node-exporter
export DEBIAN_FRONTEND=noninteractive

# A file that mirrors datagrams to a port.
file_for() {
    cat >$FILE.new <<EOF
[[interface]]
name = "edge0"

[endpoint.collector]
address = "192.0.2.10"

[[filter]]
name = "stream"
protocol = ["udp"]
destination_port = [$1]
to = ["collector"]
EOF
    mv $FILE.new $FILE
}

wrong_file() {
    file_for '"forty"'
}

# Without warnings of a terminal that is none.
apt() {
    apt-get --quiet --quiet --yes "$@"
}

property() {
    systemctl show --property="$1" --value $UNIT
}

is_property() {
    is "$(property "$1")" "$2"
}

live() {
    traffic-mirror wait --timeout 60
}

signal() {
    systemctl kill --kill-whom=main --signal="$1" $UNIT
}

# Whether the daemon runs, and is not the one with the process number $1.
is_successor_of() {
    [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != "$1" ]
}

# Whether status says so, by its exit code and in words.
is_hanging() {
    said=$(traffic-mirror status) && return 1
    echo "$said" | grep -q '^daemon  *HANGS'
}

is_next_version() {
    dpkg-query --show --showformat='${Version}' "$UNIT" | grep -q '+next$'
}

# Nothing of ours is in the kernel. What is removed is freed some time later.
bare() {
    soon is_bare >/dev/null || is_bare
}

is_bare() {
    left=$(in_kernel)
    echo "$left"
    [ -z "$left" ]
}

# A line for each pin, filter, program and map. TCX links have no tool to list them; they hold their programs.
in_kernel() {
    find /sys/fs/bpf -mindepth 1 ! -path /sys/fs/bpf/traffic-mirror
    for hook in "edge0 ingress" "edge0 egress" "edge1 egress"; do
        # shellcheck disable=SC2086
        tc filter show dev $hook | sed "s/^/$hook: /"
    done
    bpftool prog show | grep -e 'name mirror_' -e 'name encap'
    maps | comm -13 /run/maps-before -
}

# Type and name of each map, but for those that systemd has for services.
maps() {
    bpftool map show | sed -n 's/^[0-9]*: \([^ ]*array  name .*\)/\1/p' | sort
}

# Whether `in_kernel` would see what is left: the three programs, pins and maps.
seen() {
    in_kernel >/run/seen
    cat /run/seen
    is "$(grep -c 'sched_cls .*name mirror_' /run/seen)" 2 &&
        is "$(grep -c 'sched_cls .*name encap' /run/seen)" 1 &&
        grep -q '^/sys/fs/bpf/traffic-mirror/maps-' /run/seen &&
        grep -q 'array  name CONTROL' /run/seen
}

# What is left of the package on disks, in memory and in systemd.
leftovers() {
    find /etc /usr /var /run /sys/fs/bpf \( -name '*traffic-mirror*' -o -name 'mirror.toml*' -o -name '*.prom' \)
    systemctl list-unit-files --no-legend $UNIT.service
}

# The unit's restrictions, as the process has them.
confined() {
    process=/proc/$(property MainPID)/status
    # CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF
    is "$(sed -n 's/^CapEff:\t//p' "$process")" 000000c000001000 &&
        is "$(sed -n 's/^CapBnd:\t//p' "$process")" 000000c000001000 &&
        is "$(sed -n 's/^NoNewPrivs:\t//p' "$process")" 1 &&
        is "$(sed -n 's/^Seccomp:\t//p' "$process")" 2
}

no_network_sockets() {
    sockets=$(ss --no-header --all --processes --family=inet | grep -w "pid=$(property MainPID)")
    is "$sockets" ""
}

# A limit of starts in a minute is not what is tested.
forget_starts() {
    systemctl reset-failed $UNIT 2>/dev/null
}

site_up
maps >/run/maps-before

# --- install
check "the package is installed" apt install /vm/this.deb || conclude $UNIT
check "the unit is enabled" systemctl is-enabled $UNIT
check "the unit is active" systemctl is-active $UNIT
check "nothing in the unit is unknown to systemd" is "$(systemd-analyze verify --man=no $UNIT.service 2>&1 | grep $UNIT)" ""
pid=$(property MainPID)
receiver_up
check "the file that is shipped mirrors nothing" copies none
file_for 4000
check "a file that is saved is taken" live
check "the journal finds entries by their fields" soon eval "journalctl -u $UNIT EVENT=added FILTER=stream -o cat | grep -q '+ filter stream'"
check "bash loads its completions" bash -c '. /usr/share/bash-completion/completions/traffic-mirror && complete -p traffic-mirror'
check "the version has a revision" eval "traffic-mirror --version | grep -q '^revision [0-9a-f]'"
receiver_down
check "control: a collector without GUE receiver gets nothing" copies none
receiver_up
check "what the file asks for is mirrored" copies all
check "without a restart" is_property MainPID "$pid"
check "control: what is in the kernel is seen" seen
check "the process has three capabilities and a system call filter" confined
check "the process has no network sockets" no_network_sockets
check "metrics are where node_exporter, installed later, looks" soon grep -q '^traffic_mirror_config_last_reload_successful 1' $COLLECTOR_DIRECTORY/traffic-mirror.prom
echo "   $(systemd-analyze security --no-pager $UNIT | tail -n 1)"

# --- restart, crash, upgrade under a stream
stream_begin
check "systemctl restart" systemctl restart $UNIT
check "another process runs" is_successor_of "$pid"
check "systemctl restart under a steady stream: each datagram is mirrored once" stream_end all

pid=$(property MainPID)
stream_begin
signal KILL
check "after kill -9 systemd starts it again" soon is_successor_of "$pid"
check "kill -9 under a steady stream: each datagram is mirrored once" stream_end all

forget_starts
pid=$(property MainPID)
stream_begin
signal STOP
check "a daemon that hangs is degraded" soon is_hanging
check "the watchdog starts another" soon is_successor_of "$pid"
check "status is well again" soon traffic-mirror status
check "a hang under a steady stream: each datagram is mirrored once" stream_end all

forget_starts
pid=$(property MainPID)
stream_begin
check "the package is upgraded" apt install /vm/next.deb
check "to the next version" is_next_version
check "the upgrade has restarted it" is_successor_of "$pid"
check "upgrade under a steady stream: each datagram is mirrored once" stream_end all
check "the user's file is kept" grep -q 'destination_port = \[4000\]' $FILE

# --- reload
pid=$(property MainPID)
stream_begin
wrong_file
check "systemctl reload with a wrong file fails" fails systemctl reload $UNIT
check "the unit stays active" is_property ActiveState active
check "a wrong file under a steady stream: each datagram is mirrored once" stream_end all
file_for 4001
check "systemctl reload with a right file" systemctl reload $UNIT
check "it is taken" live
check "what it does not ask for is not mirrored any more" copies none
file_for 4000
check "and back" live
check "what it asks for is mirrored" copies all
check "by the same process" is_property MainPID "$pid"

# --- stop, start
forget_starts
check "systemctl stop" systemctl stop $UNIT
check "nothing is left in the kernel" bare
check "nothing is mirrored" copies none
check "no metrics are left" fails ls /run/traffic-mirror $COLLECTOR_DIRECTORY/traffic-mirror.prom
check "systemctl start" systemctl start $UNIT
check "what the file asks for is mirrored" copies all
check "metrics are where node_exporter looks" soon grep -q '^traffic_mirror_' $COLLECTOR_DIRECTORY/traffic-mirror.prom

# --- detach
systemctl stop $UNIT
check "detach" traffic-mirror detach
check "leaves the directory that tmpfiles.d made" test -d /sys/fs/bpf/traffic-mirror
check "and the unit starts" systemctl start $UNIT
systemctl stop $UNIT
rmdir /sys/fs/bpf/traffic-mirror
check "without that directory the unit starts, too" systemctl start $UNIT
check "what the file asks for is mirrored" copies all
forget_starts

# --- no bpf file system at the start
systemctl stop $UNIT
umount /sys/fs/bpf
check "without bpf file system the start fails" fails systemctl start $UNIT
check "and says what to do" soon eval "journalctl -u $UNIT -p err | grep -q 'mount -t bpf bpf /sys/fs/bpf'"
systemctl stop $UNIT
mount -t bpf bpf /sys/fs/bpf
systemd-tmpfiles --create traffic-mirror.conf
forget_starts

# --- wrong file at the start
wrong_file
check "nothing is live: with a wrong file the start fails" fails systemctl start $UNIT
check "with exit code 78" is_property ExecMainStatus 78
check "the unit is failed" is_property ActiveState failed
check "it is not tried again" is_property NRestarts 0
check "nothing is in the kernel" bare
file_for 4000
check "with a right file it starts" systemctl start $UNIT
check "what the file asks for is mirrored" copies all

forget_starts
pid=$(property MainPID)
stream_begin
wrong_file
signal KILL
check "wrong file and kill -9: systemd starts it again" soon is_successor_of "$pid"
check "and tells what is wrong" is_property StatusText \
    "the file is invalid; mirroring continues with the previous configuration until the file is valid"
check "systemctl restart with a wrong file" systemctl restart $UNIT
check "the package is installed anew" apt install --allow-downgrades /vm/this.deb
check "the unit is active" is_property ActiveState active
check "wrong file, kill -9, restart and another package: each datagram is mirrored once" stream_end all
file_for 4000
check "a right file is taken" live
check "nothing is told to be wrong" is_property StatusText ""
check "what it asks for is mirrored" copies all

# --- remove
forget_starts
pid=$(property MainPID)
signal USR2
check "after SIGUSR2 the unit ends" soon is_property ActiveState inactive
check "and everything is still mirrored" copies all
check "the package is removed" apt remove $UNIT
check "nothing of the daemon that had ended is left in the kernel" bare
check "nothing is mirrored" copies none
check "the user's file is kept" test -e $FILE
check "the package is installed again" apt install /vm/next.deb
check "what the file asks for is mirrored" copies all
check "the package is purged" apt purge $UNIT
check "nothing is left in the kernel" bare
check "nothing is left elsewhere" is "$(leftovers)" ""
conclude $UNIT
