//! Other mirrors, as the file names them.

/// Addresses and networks of other mirrors in a file, at most.
pub const MAX_PEERS: usize = 64;

/// The address of another mirror, or a network of such.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Peer {
    /// The address, network byte order; IPv4 fills the first word.
    pub address: [u32; 4],
    /// The bits of it that count, network byte order.
    pub mask: [u32; 4],
    /// 4 or 6; 0 for none, and nothing follows.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
}

impl Peer {
    /// Whether a packet comes from there, or goes there. `addresses` are source and destination as
    /// in the header; IPv4 fills the first two words.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, addresses: &[u32; 8], ipv6: bool) -> bool {
        if (self.version == 6) != ipv6 {
            return false;
        }
        let words = if ipv6 { 4 } else { 1 };
        let (mut source, mut i) = (0, 0);
        while i < words {
            source |= (addresses[i] ^ self.address[i]) & self.mask[i];
            i += 1;
        }
        source == 0
    }
}

const _: () = assert!(size_of::<Peer>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_where_a_packet_comes_from() {
        let [net, host, other] =
            [[10, 1, 2, 0], [10, 1, 2, 3], [10, 1, 3, 3]].map(u32::from_ne_bytes);
        let mask = u32::from_ne_bytes([255, 255, 255, 0]);
        let peer = Peer {
            address: [net, 0, 0, 0],
            mask: [mask, 0, 0, 0],
            version: 4,
            reserved: 0,
        };
        let of = |source, destination| [source, destination, 0, 0, 0, 0, 0, 0];
        assert!(peer.has(&of(host, other), false) && !peer.has(&of(other, host), false));
        assert!(!peer.has(&of(other, other), false) && !peer.has(&of(host, other), true));
        let [one, two] = [[1, 2, 3, 4], [1, 2, 3, 5]];
        let peer = Peer {
            address: one,
            mask: [u32::MAX; 4],
            version: 6,
            reserved: 0,
        };
        let of = |source: [u32; 4], to: [u32; 4]| {
            [
                source[0], source[1], source[2], source[3], to[0], to[1], to[2], to[3],
            ]
        };
        assert!(peer.has(&of(one, two), true) && !peer.has(&of(two, one), true));
        assert!(!peer.has(&of(two, two), true) && !peer.has(&of(one, two), false));
    }
}
