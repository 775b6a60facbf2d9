//! Input: the file's settings about other mirrors. Output: the table of peers, and the keys of the
//! flow hash.

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use traffic_mirror_ebpf::abi::{FLOW_KEYS, FlowKeys, MAX_PEERS, Peer};

use crate::config::Secret;

/// Hashed together with the seed, so that the hash serves no other purpose.
const PURPOSE: &[u8] = b"traffic-mirror flow hash";

/// The table of peers.
pub(in crate::compile) fn peers(peers: &[IpNet]) -> [Peer; MAX_PEERS] {
    let mut table = [Peer::default(); MAX_PEERS];
    table
        .iter_mut()
        .zip(peers)
        .for_each(|(place, peer)| *place = element(*peer));
    table
}

fn element(peer: IpNet) -> Peer {
    match peer {
        IpNet::V4(net) => Peer {
            address: [u32::from_ne_bytes(net.network().octets()), 0, 0, 0],
            mask: [u32::from_ne_bytes(net.netmask().octets()), 0, 0, 0],
            version: 4,
            reserved: 0,
        },
        IpNet::V6(net) => Peer {
            address: bytemuck::cast(net.network().octets()),
            mask: bytemuck::cast(net.netmask().octets()),
            version: 6,
            reserved: 0,
        },
    }
}

/// A peer as the file has it; `None` for a place without one.
pub(in crate::compile) fn peer_name(peer: &Peer) -> Option<String> {
    let bits = peer.mask.iter().map(|word| word.count_ones()).sum::<u32>() as u8;
    let net = match peer.version {
        4 => IpNet::new(
            std::net::Ipv4Addr::from(peer.address[0].to_ne_bytes()).into(),
            bits,
        ),
        6 => IpNet::new(
            std::net::Ipv6Addr::from(bytemuck::cast::<_, [u8; 16]>(peer.address)).into(),
            bits,
        ),
        _ => return None,
    };
    let net = net.ok()?;
    Some(if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    })
}

/// The keys: from the file's seed, the same on each host that has the same one, or from a secret of
/// this pin path.
pub(in crate::compile) fn flow_keys(seed: Option<&Secret>, secret: u64) -> FlowKeys {
    let secret = secret.to_ne_bytes();
    let (kind, material) = match seed {
        Some(seed) => (1u8, seed.text().as_bytes()),
        None => (0, &secret[..]),
    };
    let mut keys = [0; FLOW_KEYS];
    for (block, keys) in (0u8..).zip(keys.chunks_mut(4)) {
        let hash = Sha256::new()
            .chain_update(PURPOSE)
            .chain_update([kind, block])
            .chain_update(material)
            .finalize();
        keys.iter_mut()
            .zip(hash.as_chunks().0)
            .for_each(|(key, bytes)| *key = u64::from_be_bytes(*bytes));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn one_seed_gives_one_set_of_keys_and_others_give_others() {
        let seed = |text: &str| Secret::new(text.to_owned());
        let keys = |text: &str, secret| flow_keys(Some(&seed(text)), secret);
        assert_eq!(
            keys("one seed for all hosts", 1),
            keys("one seed for all hosts", 2)
        );
        assert_ne!(
            keys("one seed for all hosts", 1),
            keys("one seed for all host", 1)
        );
        assert_ne!(flow_keys(None, 1), flow_keys(None, 2));
        assert_ne!(
            flow_keys(None, 0x3131_3131_3131_3131),
            keys("11111111", 0),
            "a secret is no seed"
        );
        let mut all = flow_keys(None, 1).to_vec();
        all.dedup();
        assert_eq!(all.len(), FLOW_KEYS);
    }

    #[test]
    fn peers_survive_the_table() {
        let nets = ["10.1.2.3", "192.0.2.0/24", "2001:db8::1", "2001:db8::/33"];
        let parse = |net: &&str| {
            net.parse()
                .unwrap_or_else(|_| IpNet::from(net.parse::<IpAddr>().unwrap()))
        };
        let parsed: Vec<IpNet> = nets.iter().map(parse).collect();
        let table = peers(&parsed);
        let names: Vec<String> = table.iter().map_while(peer_name).collect();
        assert_eq!(names, nets);
    }
}
