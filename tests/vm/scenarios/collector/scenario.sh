#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# The kernel's own GUE receiver on a collector, as docs/collector.md sets it up: packets of both families, of two hosts, and
# nothing of a third.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/vm/guest/collector.sh
. ./collector.sh
TUNNEL=/usr/share/traffic-mirror-collector/gue-tunnel

# What is left of the tunnel.
leftovers() {
    ip netns list | grep -w mirror
    ip -oneline link show | grep -w mirror
    nft list tables | grep gue_collector
    ip fou show
}

# Packets that the allow-list has dropped.
dropped() {
    nft list chain inet gue_collector input | sed -n 's/.*counter packets \([0-9]*\) .*/\1/p'
}

check "the packages are installed" dpkg --install ./traffic-mirror_*.deb ./traffic-mirror-collector_*.deb
systemctl stop traffic-mirror
hosts_up

for family in IPv4 IPv6; do
    case $family in
    IPv4) here=192.0.2.10 sources=192.0.2.1,192.0.2.64/26 others="192.0.2.64 192.0.2.200" policy= ;;
    # the kernel's receiver takes only what a checksum protects
    IPv6) here=fd09::10 sources=fd09::1,fd09::40/122 others="fd09::40 fd09::c8" policy="checksum = true" ;;
    esac
    check "$family: gue-tunnel up" $TUNNEL up $here $sources
    check "$family: the daemon sends there" mirror_to $here "$policy"
    counting mirror mirror
    send "$others" $here
    check "$family: both families of two hosts, nothing of the third" counts "10 10 0"
    check "$family: which is counted" is "$(dropped)" 10
    if [ $family = IPv4 ]; then
        awk '/^## / { is_here = $0 ~ /wants Ethernet/; next } is_here && /^    / { print substr($0, 5) }' collector.md >/run/tap.sh
        check "Ethernet: the commands of the manual" sh -e /run/tap.sh
        counting ids mirror
        send "$others" $here
        check "Ethernet: each packet is a frame" counts "10 10 20"
    fi
    check "$family: gue-tunnel down" $TUNNEL down
    check "$family: leaves nothing" is "$(leftovers)" ""
done
conclude traffic-mirror
