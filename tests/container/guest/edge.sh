# shellcheck shell=sh
# A host with a collector that answers, files for the role and the module, and the packages in apt. To be sourced, with apt.sh.

# file_of FILTER PORT ADDRESS ENDPOINT
file_of() {
    cat <<END
[[interface]]
name = "eth1"

[endpoint.$4]
address = "$3"

[[filter]]
name = "$1"
protocol = ["udp"]
destination_port = [$2]
to = ["$4"]
END
}

edge_up() {
    ip netns add collector
    ip -n collector link set lo up
    ip link add eth1 type veth peer name eth0 netns collector
    ip address add 192.0.2.1/24 dev eth1
    ip link set eth1 up
    ip -n collector address add 192.0.2.10/24 dev eth0
    ip -n collector link set eth0 up
    # who listens
    ip netns exec collector python3 -c 'import socket, time
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("192.0.2.10", 6080))
time.sleep(100000)' &
    file_of dns 53 192.0.2.10 ids >good.toml
    file_of other 123 192.0.2.10 ids >other.toml
    file_of other '"http"' 192.0.2.10 ids >bad.toml
    # whose address nobody has
    file_of other 123 192.0.2.99 nobody >dead.toml
    apt_up
}
