//! Packets as a network stack hands them to a device: with the checksum still to be filled in, or
//! larger than the MTU and still to be cut into segments.

use super::packet::{Ip, Link, checksum};
use anyhow::{Result, bail, ensure};

/// `struct virtio_net_hdr` of `linux/virtio_net.h`, in host order: what a raw socket with
/// `PACKET_VNET_HDR` tells about a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CSUM`].
    pub flags: u8,
    /// [`VnetHeader::GSO_NONE`], or one of the other `GSO_*`.
    pub gso_type: u8,
    /// Length of all headers of the frame in bytes, Ethernet included.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where in the frame the sum begins.
    pub csum_start: u16,
    /// Where the checksum goes, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Its size in bytes.
    pub const BYTES: usize = 10;
    /// The checksum is to be filled in (`CHECKSUM_PARTIAL`).
    pub const NEEDS_CSUM: u8 = 1;
    /// One packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP segments over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// A UDP datagram that goes in IP fragments (UFO), over either; `gso_size` is what each
    /// carries.
    pub const GSO_UDP: u8 = 3;
    /// TCP segments over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP datagrams over either (`UDP_SEGMENT`; kernel 6.2 and newer).
    pub const GSO_UDP_L4: u8 = 5;

    /// Makes a frame with a finished TCP or UDP checksum a `CHECKSUM_PARTIAL` one: only the sum of
    /// the pseudo-header is left in the checksum field.
    pub fn partial(frame: &mut [u8]) -> Result<Self> {
        let start = Link::parse(frame)?.length;
        let ip = Ip::parse(&frame[start..])?;
        ensure!(
            ip.fragment.is_none(),
            "a fragment has no checksum of its own"
        );
        let csum_offset = match ip.protocol {
            6 => 16,
            17 => 6,
            protocol => {
                bail!("protocol {protocol}: only the checksums of TCP and UDP can be left open")
            }
        };
        let csum_start = start + ip.header_length;
        ensure!(
            ip.upper.len() >= csum_offset + 2,
            "transport header of {} bytes",
            ip.upper.len()
        );
        let pseudo =
            checksum::pseudo_header(ip.source, ip.final_destination, ip.protocol, ip.upper.len());
        let at = csum_start + csum_offset;
        frame[at..at + 2].copy_from_slice(&checksum::sum(&[&pseudo]).to_be_bytes());
        Ok(Self {
            flags: Self::NEEDS_CSUM,
            csum_start: u16::try_from(csum_start)?,
            csum_offset: csum_offset as u16,
            ..Self::default()
        })
    }

    /// Makes a frame a superpacket that will be cut into segments of `gso_size` bytes of payload:
    /// TCP, or UDP datagrams.
    pub fn gso(frame: &mut [u8], gso_size: u16) -> Result<Self> {
        let partial = Self::partial(frame)?;
        let start = Link::parse(frame)?.length;
        let ip = Ip::parse(&frame[start..])?;
        let (gso_type, transport) = match (ip.protocol, ip.source.is_ipv4()) {
            (6, v4) => {
                ensure!(
                    ip.upper.len() >= 20,
                    "TCP header of {} bytes",
                    ip.upper.len()
                );
                (
                    if v4 { Self::GSO_TCPV4 } else { Self::GSO_TCPV6 },
                    usize::from(ip.upper[12] >> 4) * 4,
                )
            }
            _ => (Self::GSO_UDP_L4, 8),
        };
        let hdr_len = u16::try_from(start + ip.header_length + transport)?;
        Ok(Self {
            gso_type,
            hdr_len,
            gso_size,
            ..partial
        })
    }

    /// The same for the frame without its Ethernet header.
    #[must_use]
    pub const fn without_link(self) -> Self {
        const ETHER_BYTES: u16 = 14;
        let (hdr_len, csum_start) = (self.hdr_len, self.csum_start);
        Self {
            hdr_len: hdr_len.saturating_sub(ETHER_BYTES),
            csum_start: csum_start.saturating_sub(ETHER_BYTES),
            ..self
        }
    }

    /// As the kernel reads it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let words = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ];
        for (to, word) in bytes[2..].as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_ne_bytes();
        }
        bytes
    }

    /// As the kernel writes it.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }
}
