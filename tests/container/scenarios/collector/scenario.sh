#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# traffic-mirror-collector, which takes no tunnel of the kernel: pcap, tap, allow-list, service; and the dissector.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/container/guest/apt.sh
. ./apt.sh
# shellcheck source=tests/vm/guest/collector.sh
. ./collector.sh
LIST=192.0.2.1,192.0.2.64/26,fd09::1,fd09::40/122
OTHERS="192.0.2.64 192.0.2.200"

# The program, in the background: what it writes is in /run/output, what it says in /run/said.
begin() {
    rm -f /run/ended
    {
        traffic-mirror-collector "$@" >/run/output 2>/run/said
        touch /run/ended
    } &
    soon eval "ss --no-header --udp --listening --numeric | grep -q :6080"
}

end() {
    pkill --signal "${1:-INT}" --exact traffic-mirror-
    soon test -e /run/ended
    cat /run/said
}

# lines WANTED FILTER: packets that tcpdump finds in the output, "ipv4 ipv6"
lines() {
    tcpdump -n -r /run/output 2>/dev/null >/run/lines
    cat /run/lines
    is "$(grep -c ' IP .*\.4000: ' /run/lines) $(grep -c ' IP6 .*\.4000: ' /run/lines)" "$1"
}

apt_up
check "the packages are installed" apt-get --quiet --yes install traffic-mirror traffic-mirror-collector
systemctl stop traffic-mirror
hosts_up

# --- pcap, over IPv4 and IPv6
check "without an allow-list the program ends" fails traffic-mirror-collector --pcap
check "without IPv6 the error has the remedy" eval "
    systemd-run --quiet --wait --pipe --property=RestrictAddressFamilies=AF_INET \
        traffic-mirror-collector --from any --tap ids 2>&1 | grep -F -- '--listen 0.0.0.0:6080'"
check "an interface that is no tap stays" eval "traffic-mirror-collector --from any --tap lo 2>&1 | grep 'another interface'"
begin --from $LIST --pcap
check "the daemon sends there" mirror_to 192.0.2.10
send "$OTHERS" 192.0.2.10
check "SIGUSR1 prints the counters" eval "pkill -USR1 --exact traffic-mirror-; soon grep -q '20 copies' /run/said"
check "with those of a stranger" soon grep -q '10 from other senders' /run/said
check "it ends" end INT
check "both families of two hosts, nothing of the third" lines "10 10"
begin --from $LIST --pcap
check "the daemon sends to its IPv6 address, without checksums" mirror_to fd09::10
send "fd09::40 fd09::c8" fd09::10
end INT >/dev/null
check "both families over IPv6" lines "10 10"
check "a reader that goes away ends it" eval "
    (traffic-mirror-collector --from $LIST --pcap; touch /run/gone) | head -c 1 >/dev/null &
    soon eval 'ss --no-header --udp --listening --numeric | grep -q :6080'
    soon eval 'send fd09::40 fd09::10; test -e /run/gone'"

mkfifo /run/stopped
{
    traffic-mirror-collector --from $LIST --pcap >/run/stopped 2>/dev/null
    touch /run/gone2
} &
sleep infinity </run/stopped &
stopped=$!
soon eval "ss --no-header --udp --listening --numeric | grep -q :6080"
python3 -c "
import socket
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
[end.sendto(bytes([0, 4, 0, 0, 0x45, 0, 0x05, 0x78]) + bytes(1396), ('192.0.2.10', 6080)) for _ in range(2000)]" || true
check "a reader that has stopped does not keep a second SIGTERM from ending it" soon eval "
    pkill -TERM --exact traffic-mirror-; test -e /run/gone2"
kill "$stopped"

# --- the tap, and the service
mirror_to 192.0.2.10
begin --from $LIST --tap ids
soon ip link show ids up >/dev/null
counting ids
send "$OTHERS" 192.0.2.10
check "the tap has a frame for each" counts "10 10 20"
end TERM >/dev/null
check "and goes with the program" fails ip link show ids
check "the service does not start before it is set up" fails systemctl start traffic-mirror-collector
sed -i "s|^FROM=.*|FROM=$LIST|" /etc/default/traffic-mirror-collector
systemctl reset-failed traffic-mirror-collector
check "the service" systemctl enable --now traffic-mirror-collector
soon ip link show mirror0 up >/dev/null
counting mirror0
send "$OTHERS" 192.0.2.10
check "feeds its tap" counts "10 10 20"
echo "   $(systemd-analyze security --no-pager traffic-mirror-collector | tail -n 1)"
check "as a user of its own" fails is "$(ps -o user= "$(systemctl show --property=MainPID --value traffic-mirror-collector)")" root
systemctl stop traffic-mirror-collector

# --- the dissector, on what comes by the wire
tcpdump --interface collector0 -c 10 -w /run/wire udp port 6080 >/dev/null 2>/run/tcpdump &
soon grep -q listening /run/tcpdump
send 192.0.2.64 192.0.2.10
wait $!
tshark -X lua_script:/usr/share/traffic-mirror-collector/gue.lua -r /run/wire -T fields -e gue.protocol -e udp.dstport \
    -e data.text -e ip.version -e ipv6.version >/run/dissected 2>/run/errors
check "tshark knows GUE and what is in it" eval "cat /run/dissected /run/errors
    is \"\$(grep -c '6080,4000' /run/dissected)\" 10"
conclude traffic-mirror-collector
