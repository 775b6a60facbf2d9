# shellcheck shell=sh
# A collector, which is this machine, and the hosts that send to it, all in one namespace. To be sourced.
#
#   senders eth1 192.0.2.1, 192.0.2.64, 192.0.2.200 --- 192.0.2.10 collector0
#                fd09::1, fd09::40, fd09::c8            fd09::10
#
# 192.0.2.1 mirrors what a client sends to 10.0.0.254 and 2001:db8::fe; the others are programs.

hosts_up() {
    for host in client senders; do
        ip netns add "$host"
        ip -n "$host" link set lo up
    done
    ip link add collector0 type veth peer name eth1 netns senders
    ip -n client link add eth0 type veth peer name eth0 netns senders
    ip address add 192.0.2.10/24 dev collector0
    ip address add fd09::10/64 dev collector0 nodad
    ip link set collector0 up
    for address in 192.0.2.1 192.0.2.64 192.0.2.200; do ip -n senders address add $address/24 dev eth1; done
    ip -n senders address add fd09::1/64 dev eth1 nodad
    # which the kernel does not choose by itself
    for address in fd09::40 fd09::c8; do ip -n senders address add $address/64 dev eth1 nodad preferred_lft 0; done
    ip -n senders address add 10.0.0.254/24 dev eth0
    ip -n senders address add 2001:db8::fe/64 dev eth0 nodad
    ip -n client address add 10.0.0.1/24 dev eth0
    ip -n client address add 2001:db8::1/64 dev eth0 nodad
    ip -n senders link set eth0 up mtu 1400
    ip -n senders link set eth1 up
    ip -n client link set eth0 up mtu 1400
    for address in 192.0.2.1 192.0.2.64 192.0.2.200 fd09::1; do soon ping -q -c 1 -W 1 $address >/dev/null; done
    for address in 10.0.0.254 2001:db8::fe; do soon ip netns exec client ping -q -c 1 -W 1 $address >/dev/null; done
}

# mirror_to ADDRESS [LINE]: the daemon of 192.0.2.1 sends there; with a line of the endpoint's
# policy. Returns when the endpoint is ready.
mirror_to() {
    cat >/run/senders.toml <<END
[[interface]]
name = "eth0"

[endpoint.collector]
address = "$1"
${2:-}

[[filter]]
name = "marked"
protocol = ["udp"]
destination_port = [4000]
to = ["collector"]
END
    if [ ! -e /run/senders.pid ]; then
        nsenter --net=/run/netns/senders "${PROGRAM:-traffic-mirror}" --config /run/senders.toml \
            --pin-path /sys/fs/bpf/senders run --metrics /run/senders.prom >/run/senders.log 2>&1 &
        echo $! >/run/senders.pid
    fi
    nsenter --net=/run/netns/senders "${PROGRAM:-traffic-mirror}" --config /run/senders.toml --pin-path /sys/fs/bpf/senders \
        wait --timeout 60 &&
        soon nsenter --net=/run/netns/senders "${PROGRAM:-traffic-mirror}" --pin-path /sys/fs/bpf/senders status
}

# send SOURCES DESTINATION: 5 packets of each family by the daemon, and 5 copies of each from each other host
send() {
    ip netns exec client python3 copies.py packets 10.0.0.254 5
    ip netns exec client python3 copies.py packets 2001:db8::fe 5
    for source in $1; do
        ip netns exec senders python3 copies.py copies "$source" "$2" 10
    done
}

# counting INTERFACE [NAMESPACE]: begins to count what comes in there
counting() {
    rm -f /run/counted*
    ${2:+ip netns exec "$2"} python3 copies.py count "$1" /run/counted
}

# counts WANTED: "ipv4 ipv6 frames", as they come
counts() {
    wanted=$1
    kill -TERM "$(cat /run/counted.pid)"
    soon test -e /run/counted || return 1
    is "$(cat /run/counted)" "$wanted"
}
