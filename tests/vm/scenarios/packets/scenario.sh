#!/bin/sh
# The tests with packets, on this kernel; with the seconds since the start, since a slow one is slower here.
# the mechanism that the daemon would choose
case $(uname -r) in
6.1.*) export TEST_ATTACH=clsact ;;
*) export TEST_ATTACH=tcx ;;
esac
# a twentieth, as emulation takes some twenty times as long
export TEST_PACKETS=5000
export TRAFFIC_MIRROR_BIN=/vm/traffic-mirror
export TEST_STATUS=library
# and the host has its own tests to run
export TEST_PATIENCE=10
# Debian's kernels have them all
export TEST_QDISCS="tbf bfifo htb sfq fq_codel cake"
export TEST_MODULES="sctp vrf ipvlan xfrm_user ip_gre ipip sit ip6_gre ip6_tunnel wireguard xfrm_interface"
run() {
    # shellcheck disable=SC2046
    /vm/test-packets --test-threads=1 $(cat tests) 2>&1
    echo "$?" >/run/status
}
start=$(date +%s)
run | while IFS= read -r line; do
    echo "$(($(date +%s) - start)) s: $line"
done
exit "$(cat /run/status)"
