# shellcheck shell=sh
# Three hosts: a client, the edge, which is this machine, and a collector. To be sourced.
#
#   client eth0 10.0.0.1 --- 10.0.0.254 edge0 | edge1 192.0.2.1 --- 192.0.2.10 eth0 collector
#
# The client sends numbered datagrams to port 4000 of the edge. At the collector the kernel's own GUE receiver unwraps what
# comes, and a socket there counts it, by the address that the datagrams were sent to.

site_up() {
    for host in client collector; do
        ip netns add "$host"
        ip -n "$host" link set lo up
        # ways back need not be the same
        ip netns exec "$host" sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    done
    ip link add edge0 type veth peer name eth0 netns client
    ip link add edge1 type veth peer name eth0 netns collector
    ip address add 10.0.0.254/24 dev edge0
    ip address add 192.0.2.1/24 dev edge1
    ip -n client address add 10.0.0.1/24 dev eth0
    ip -n collector address add 192.0.2.10/24 dev eth0
    ip link set edge0 up
    ip link set edge1 up
    ip -n client link set eth0 up
    ip -n collector link set eth0 up
    modprobe -a fou ipip
    ip -n collector link add mirror type ipip local 192.0.2.10 remote 192.0.2.1 \
        encap gue encap-sport auto encap-dport 6080
    ip -n collector address add 10.0.0.254/32 dev mirror
    ip -n collector link set mirror up
    soon ping -q -c 1 -W 1 192.0.2.10 >/dev/null
    soon ip netns exec client ping -q -c 1 -W 1 10.0.0.254 >/dev/null
}

# Lets the collector unwrap GUE, or not.
receiver_up() { ip -n collector fou add port 6080 gue; }
receiver_down() { ip -n collector fou del port 6080; }

# stream_begin [COUNT]: datagrams, one each millisecond, until `stream_end`, or so many.
stream_begin() {
    rm -rf /run/stream
    mkdir /run/stream
    ip netns exec collector python3 datagrams.py receive /run/stream/copied
    python3 datagrams.py receive /run/stream/arrived
    ip netns exec client python3 datagrams.py send /run/stream/sent "$@"
}

# stream_end all|none: every original must have arrived once, and every copy, or none. To be called by `check`.
stream_end() {
    for numbers in sent arrived copied; do
        kill -TERM "$(cat /run/stream/$numbers.pid)" 2>/dev/null
        soon test -e /run/stream/$numbers || return 1
    done
    python3 datagrams.py judge /run/stream "$1"
}

# As a check: sends some datagrams, and all are copied, or none.
copies() {
    stream_begin 20
    soon test -e /run/stream/sent && stream_end "$1"
}
