//! Keys as other tools call them.

/// What else the keys of the format are called: by tcpdump, nft, tc, Suricata and others.
const SYNONYMS: [(&str, &[&str]); 16] = [
    (
        "destination_port",
        &[
            "dport",
            "dst_port",
            "dstport",
            "dest_port",
            "dst-port",
            "destination-port",
            "dest-port",
        ],
    ),
    (
        "source_port",
        &["sport", "src_port", "srcport", "src-port", "source-port"],
    ),
    (
        "destination",
        &[
            "dst",
            "daddr",
            "dst_ip",
            "dest_ip",
            "destination_ip",
            "dst_addr",
            "destination_address",
        ],
    ),
    (
        "source",
        &[
            "src",
            "saddr",
            "src_ip",
            "source_ip",
            "src_addr",
            "source_address",
        ],
    ),
    ("protocol", &["proto", "ip_proto", "ip_protocol", "l4proto"]),
    ("interface", &["iface", "ifname", "dev", "device", "nic"]),
    ("vlan", &["vlan_id", "vid", "vlanid"]),
    (
        "server_name",
        &[
            "sni",
            "domain",
            "domains",
            "host",
            "hostname",
            "http_host",
            "tls_sni",
            "servername",
            "server-name",
        ],
    ),
    (
        "bidirectional",
        &["bidir", "bi", "both_ways", "bothways", "symmetric"],
    ),
    (
        "to",
        &[
            "target",
            "targets",
            "collector",
            "collectors",
            "endpoint",
            "endpoints",
        ],
    ),
    ("address", &["ip", "host", "addr", "remote", "server"]),
    (
        "limit",
        &["rate", "rate_limit", "ratelimit", "bandwidth", "max_rate"],
    ),
    ("sample", &["sampling", "sample_rate", "ratio"]),
    ("snap", &["snaplen", "truncate_to", "max_bytes"]),
    ("checksum", &["udp_checksum", "csum", "udpcsum"]),
    ("direction", &["dir", "hook"]),
];

/// The key that another tool calls `given`, if it is one of `keys`.
pub(super) fn meant(given: &str, keys: &[&'static str]) -> Option<&'static str> {
    let given = given.to_ascii_lowercase();
    SYNONYMS
        .iter()
        .find(|(key, synonyms)| keys.contains(key) && synonyms.contains(&&*given))
        .map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synonym_stands_for_a_key_of_its_table() {
        let keys = ["to", "address", "destination_port"];
        assert_eq!(meant("dport", &keys), Some("destination_port"));
        assert_eq!(meant("DPort", &keys), Some("destination_port"));
        assert_eq!(meant("sport", &keys), None);
        assert_eq!(meant("to", &keys), None);
    }
}
