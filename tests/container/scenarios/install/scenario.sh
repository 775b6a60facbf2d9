#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# README.md as it stands: its install chapter, its first copy, and what becomes of both in upgrades.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
export DEBIAN_FRONTEND=noninteractive
UNIT=traffic-mirror

# chapter TITLE: its commands, with the address of the repository here; comments in them are what a terminal shows
chapter() {
    awk -v title="## $1" '
        /^## / { is_here = $0 == title; next }
        is_here && /^    # / { is_output = 1; next }
        is_here && /^    / && !is_output { print substr($0, 5); next }
        !/^    / { is_output = 0 }
    ' README.md | sed 's|https://packages.example.net/|http://127.0.0.1:8000/|'
}

# Serves a repository, instead of the one before.
serve() {
    [ ! -e /run/server ] || kill "$(cat /run/server)"
    (cd "$1" && exec python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1) &
    echo $! >/run/server
    soon curl --silent --fail --output /dev/null http://127.0.0.1:8000/traffic-mirror.asc
}

version() {
    dpkg-query --show --showformat='${Version}' "$UNIT"
}

is_version() {
    is "$(version)" "$1"
}

# A page of the host, fetched by the client.
fetch() {
    ip netns exec client curl --silent --fail --max-time 10 --output /dev/null http://198.51.100.7:443/
}

# packets NAME: what a filter has counted
packets() {
    traffic-mirror status --json | python3 -c "
import json, sys
print(sum(one['packets'] for one in json.load(sys.stdin)['filters'] if one['name'] == '$1'))"
}

# At the end of the collector's program: tcpdump has shown as many packets as the filter has counted, of both directions.
collected() {
    counted=$(packets checkout)
    pkill -INT --exact traffic-mirror-
    soon test -e /run/collected.end || return 1
    cat /run/collected*
    [ "$counted" -ge 10 ] &&
        is "$(grep -c ' IP 198.51.100.' /run/collected)" "$counted" &&
        grep -q ' > 198.51.100.7.443: ' /run/collected &&
        grep -q ' IP 198.51.100.7.443 > ' /run/collected
}

# The host of README.md: eth0 to clients, eth1 to the collector 192.0.2.10.
for host in client collector; do
    ip netns add $host
    ip -n $host link set lo up
done
ip link add eth0 type veth peer name eth0 netns client
ip link add eth1 type veth peer name eth0 netns collector
ip address add 198.51.100.7/24 dev eth0
ip address add 192.0.2.1/24 dev eth1
ip -n client address add 198.51.100.1/24 dev eth0
ip -n collector address add 192.0.2.10/24 dev eth0
for end in "" "-n client" "-n collector"; do
    # shellcheck disable=SC2086
    ip $end link set eth0 up
done
ip link set eth1 up
(cd /test && exec python3 -m http.server --bind 198.51.100.7 443 >/dev/null 2>&1) &
soon fetch

# --- a host that has the file before the package, as a template has written it
serve /test/apt
began=$(date +%s)
chapter Install >/run/install.sh
chapter "The first copy" >/run/collect.sh
awk '/^```toml/ { is_here = 1; next } /^```/ { is_here = 0 } is_here' README.md >/run/mirror.toml
check "README.md has an install chapter, a file and commands for the collector" \
    test "$(wc -l </run/install.sh)" -gt 5 -a "$(wc -l </run/mirror.toml)" -gt 10 -a "$(wc -l </run/collect.sh)" = 2
sed 's/^/   # /' /run/install.sh
check "the install chapter" sh -e /run/install.sh </dev/null || conclude $UNIT
check "the service runs, and is started at boot" eval "systemctl is-active $UNIT && systemctl is-enabled $UNIT"
check "metrics are where node_exporter, installed later, looks" \
    soon grep -q '^traffic_mirror_build_info' /var/lib/prometheus/node-exporter/traffic-mirror.prom
check "it mirrors nothing yet" is "$(grep -v '^#' /etc/mirror.toml)" ""

sed -n 1p /run/collect.sh | sed 's/^/   # /'
sed -n 1p /run/collect.sh >/run/package.sh
check "the collector's package" sh -e /run/package.sh </dev/null
check "its service waits until somebody says who may send" fails systemctl is-enabled $UNIT-collector
sed -n 2p /run/collect.sh | sed 's/^/   # /'
sed -n 2p /run/collect.sh >/run/receive.sh
{
    ip netns exec collector sh /run/receive.sh >/run/collected 2>/run/collected.errors
    touch /run/collected.end
} &
soon pgrep --exact traffic-mirror- >/dev/null
cp /run/mirror.toml /etc/mirror.toml
check "check of the file" traffic-mirror check
check "a saved file is live" traffic-mirror wait --timeout 30
check "a page is fetched" fetch
check "status is well" soon traffic-mirror status
check "the collector has a copy of each packet, both ways" collected
grep -m 4 ' IP ' /run/collected | cut -c1-110 | sed 's/^/   /'
echo "   $(($(date +%s) - began)) s from the install chapter to the first copy"
traffic-mirror status | sed 's/^/   /'
check "a report is made" eval "traffic-mirror report --redact >/run/report"
check "it has the unit" grep -q '^ *Active: active (running)' /run/report
check "and its log" eval "sed '1,/^== log$/d' /run/report | grep -q 'loaded the file'"
check "and no address of the host" fails grep -F -e 192.0.2. -e 198.51.100. /run/report
check "the schemas of its JSON are there" test -s /usr/share/traffic-mirror/schema/status.schema.json

# --- an upgrade that nobody attends, with a file that was edited
was=$(version)
pid=$(systemctl show --property=MainPID --value $UNIT)
serve /test/next
cat >/etc/apt/apt.conf.d/60traffic-mirror <<END
Unattended-Upgrade::Origins-Pattern { "origin=traffic-mirror"; };
END
check "apt sees the next version" eval "apt-get --quiet update && apt-cache policy $UNIT | grep -F '$was+next'"
check "unattended-upgrade" eval "unattended-upgrade --verbose </dev/null"
check "it has upgraded the package" is_version "$was+next"
check "and started the new daemon" fails is "$(systemctl show --property=MainPID --value $UNIT)" "$pid"
check "the file that was edited is kept" cmp /run/mirror.toml /etc/mirror.toml
check "and is live" traffic-mirror wait --timeout 30
before=$(packets checkout)
check "a page is fetched" fetch
check "and mirrored" test "$(packets checkout)" -gt "$before"
check "downgrade" apt-get --quiet --yes --allow-downgrades install "$UNIT=$was" </dev/null
check "to the version before" is_version "$was"
check "the file is kept" cmp /run/mirror.toml /etc/mirror.toml
check "and is live" traffic-mirror wait --timeout 30

# --- restart loops, daemon-reload
pid=$(systemctl show --property=MainPID --value $UNIT)
check "daemon-reload" systemctl daemon-reload
check "changes nothing" is "$(systemctl show --property=MainPID --value $UNIT)" "$pid"
check "eight restarts in a row" eval "for _ in 1 2 3 4 5 6 7 8; do systemctl restart $UNIT || exit 1; done"
check "leave the file live" traffic-mirror wait --timeout 30

# --- DNS names
RESOLVER=$UNIT-resolver
check "the resolver waits for a file with DNS names" systemctl is-active $RESOLVER.path
check "it does not run without any" fails systemctl is-active $RESOLVER
echo "198.51.100.7 shop.example.com" >>/etc/hosts
sed 's/"198.51.100.7"/"shop.example.com"/' /run/mirror.toml >/etc/mirror.toml
check "a file with a DNS name is valid" traffic-mirror check --any-host
check "and is live" traffic-mirror wait --timeout 30
check "the resolver runs" soon systemctl is-active $RESOLVER
check "and knows the address" soon eval "traffic-mirror status shop.example.com | grep '1 address until'"
before=$(packets checkout)
# the daemon gathers what the resolver writes for a second
fetched_and_mirrored() { fetch >/dev/null && test "$(packets checkout)" -gt "$before"; }
check "a page is fetched and mirrored" soon fetched_and_mirrored
check "check knows the name" is "$(traffic-mirror check 2>&1 >/dev/null)" ""
check "the daemon may open no network socket" is \
    "$(systemctl show --property=RestrictAddressFamilies --value $UNIT)" "AF_NETLINK AF_UNIX"
check "and has none" fails eval "ss --all --numeric --processes --tcp --udp --raw | grep -F '\"traffic-mirror\"'"
check "the resolver is no user of the host" test \
    "$(stat --format=%u "/proc/$(systemctl show --property=MainPID --value $RESOLVER)")" -ge 61184
check "without a capability" grep -q '^CapBnd:.0*$' "/proc/$(systemctl show --property=MainPID --value $RESOLVER)/status"
check "systemd rates its exposure 1.7 or less" systemd-analyze security --no-pager --threshold=17 $RESOLVER
check "a restart of the daemon" systemctl restart $UNIT
check "keeps the address" eval "traffic-mirror status shop.example.com | grep '1 address until'"
cp /run/mirror.toml /etc/mirror.toml
check "a file without DNS names is live" traffic-mirror wait --timeout 30
check "the resolver ends" soon fails systemctl is-active $RESOLVER

# --- the unit
check "systemd rates its exposure 1.7 or less" systemd-analyze security --no-pager --threshold=17 $UNIT
mkdir -p /etc/systemd/system/$UNIT.service.d /etc/edge
cat >/etc/systemd/system/$UNIT.service.d/file.conf <<END
[Service]
ExecStart=
ExecStart=/usr/sbin/traffic-mirror --config /etc/edge/mirror.toml run
END
cp /run/mirror.toml /etc/edge/mirror.toml
systemctl daemon-reload
systemctl reset-failed $UNIT
check "a unit with another file starts" systemctl restart $UNIT
check "which is live" traffic-mirror wait --timeout 30
sed -i 's/443/"forty"/' /etc/edge/mirror.toml
check "a reload with an error in that file fails" fails systemctl reload $UNIT
check "and the service goes on" systemctl is-active $UNIT
sed 's/443/444/' /run/mirror.toml >/etc/edge/mirror.toml
check "a reload with a right one" systemctl reload $UNIT
check "ends when it is live" traffic-mirror wait --timeout 0
rm -r /etc/systemd/system/$UNIT.service.d /etc/edge
systemctl daemon-reload
check "back to the usual file" systemctl restart $UNIT

# --- purge, and a file that is there before the package
check "the packages are purged" apt-get --quiet --yes purge $UNIT $UNIT-collector </dev/null
check "nothing is left" is "$(find /etc /usr /var /run /sys/fs/bpf ! -path '/var/cache/apt/*' ! -path '/var/log/*' \
    ! -path '/etc/apt/*' ! -path '/var/lib/apt/*' ! -path '/var/lib/systemd/deb-systemd-helper-*' \
    \( -name '*traffic-mirror*' -o -name 'mirror.toml*' -o -name '*.prom' \) | grep -v '^/run/mirror.toml$')" ""
cp /run/mirror.toml /etc/mirror.toml
check "installing beside an existing file asks nothing" apt-get --quiet --yes install $UNIT </dev/null
check "the file is kept" cmp /run/mirror.toml /etc/mirror.toml
check "and is live" traffic-mirror wait --timeout 30
conclude $UNIT
