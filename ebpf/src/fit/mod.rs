//! Input: the length of a packet, and an endpoint. Output: how the packet is sent there. Must not
//! know: maps, the kernel.

use crate::abi::{Drop, Endpoint, Oversize, cb};
use crate::gue::{ENCAPSULATION_BYTES, FRAGMENT6_BYTES, IPV6_BYTES, OUTER6_BYTES};
use crate::packet::protocol;

/// How long a packet is, here and on the wire.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Packets on the wire.
    pub packets: u32,
    /// Their IP bytes.
    pub bytes: u32,
    /// IP bytes of the largest of them.
    pub segment: u32,
    /// Payload bytes of a segment, or [`GSO_BY_FRAGS`]; 0 if the packet is no superpacket.
    pub gso: u32,
    /// Length without Ethernet padding, 0 if there is no packet.
    pub trim: u32,
    /// 1 for a superpacket that the kernel can segment only before encapsulation: of UDP, with
    /// checksums that are not left to the output interface. Making room in it leaves `csum_start`
    /// as it is (`skb_headers_offset_update`), so `__udp_gso_segment` rejects it.
    pub bare: u32,
    /// 1 for a superpacket that this kernel may not survive cutting once its segments are made
    /// smaller.
    pub brittle: u32,
}

/// How a packet is sent to an endpoint.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fit {
    /// Flags of [`cb::ENDPOINT`].
    pub flags: u32,
    /// [`cb::LENGTH`].
    pub length: u32,
    /// IP bytes of the packets on the wire, without the outer headers.
    pub bytes: u32,
    /// Bytes of the outer packets.
    pub outer_bytes: u32,
    /// 1 if not all of it is sent.
    pub is_truncated: u32,
    /// Outer fragments; 1 if it is sent whole, 0 if it must be segmented first; the packets are
    /// then checked one by one.
    pub fragments: u32,
    /// Outer payload of each fragment but the last, bytes: a multiple of 8.
    pub piece: u32,
}

/// Smallest payload of a fragment, bytes: the kernel leaves an IP header in a packet whose front it
/// removes (`bpf_skb_adjust_room`).
const PIECE_MIN: u32 = 64;
/// [`Size::gso`] of a superpacket whose packets have different lengths: one of SCTP
/// (include/linux/skbuff.h).
pub const GSO_BY_FRAGS: u32 = 0xffff;

impl Fit {
    /// Whether a packet goes as it is, which nearly every one does: then [`Fit::of`] answers
    /// [`Fit::plain`].
    #[inline(always)]
    #[must_use]
    pub fn is_plain(size: &Size, endpoint: &Endpoint) -> bool {
        let fits =
            endpoint.mtu <= u16::MAX as u32 && size.segment + endpoint.outer_bytes <= endpoint.mtu;
        fits && endpoint.snap | endpoint.summed | size.bare == 0
    }

    /// How a packet goes that is sent as it is.
    #[inline(always)]
    #[must_use]
    pub fn plain(size: &Size, endpoint: &Endpoint) -> Self {
        Self {
            flags: cb::FIXED,
            length: size.trim,
            bytes: size.bytes,
            outer_bytes: size.bytes + size.packets * endpoint.outer_bytes,
            is_truncated: 0,
            fragments: 1,
            piece: 0,
        }
    }

    /// # Errors
    /// Why the packet is not sent.
    #[inline(always)]
    pub fn of(size: &Size, protocol: u32, endpoint: &Endpoint) -> Result<Self, Drop> {
        let most = Self::most(endpoint);
        let room = if endpoint.mtu < most {
            endpoint.mtu
        } else {
            most
        }
        .saturating_sub(endpoint.outer_bytes);
        let snap = if endpoint.snap == 0 {
            u32::MAX
        } else {
            endpoint.snap
        };
        if size.gso != 0 {
            return Self::of_superpacket(size, protocol, endpoint, room, snap);
        }
        let mut bytes = if size.bytes > snap { snap } else { size.bytes };
        let is_oversize = bytes > room;
        // a length of 0 would stand for all of it
        if is_oversize && (room == 0 || endpoint.oversize == Oversize::Drop as u32) {
            return Err(Drop::Oversize);
        }
        if is_oversize && endpoint.oversize == Oversize::Truncate as u32 {
            bytes = room;
        }
        let is_truncated = bytes < size.bytes;
        let length = if is_truncated { bytes } else { size.trim };
        let whole = Self {
            flags: cb::FIXED,
            length,
            bytes,
            outer_bytes: bytes + endpoint.outer_bytes,
            is_truncated: is_truncated as u32,
            fragments: 1,
            piece: 0,
        };
        if bytes > room {
            whole.in_fragments(endpoint)
        } else {
            Ok(whole)
        }
    }

    /// Bytes of the longest outer packet that a header can describe, even in fragments (RFC 791,
    /// RFC 8200).
    #[inline(always)]
    const fn most(endpoint: &Endpoint) -> u32 {
        let is_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
        u16::MAX as u32 + if is_ipv6 { IPV6_BYTES as u32 } else { 0 }
    }

    /// Pieces of about the same length (RFC 791, RFC 8200 section 4.5).
    #[inline(always)]
    fn in_fragments(self, endpoint: &Endpoint) -> Result<Self, Drop> {
        let is_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
        let header = endpoint.outer_bytes - ENCAPSULATION_BYTES as u32
            + if is_ipv6 { FRAGMENT6_BYTES as u32 } else { 0 };
        let most = endpoint.mtu.saturating_sub(header) & !7;
        if most == 0 || self.bytes + endpoint.outer_bytes > Self::most(endpoint) {
            return Err(Drop::Oversize);
        }
        let payload = self.bytes + ENCAPSULATION_BYTES as u32;
        let fragments = payload.div_ceil(most);
        // never; without it the compiler provides for a division by zero, which the verifier does
        // not let pass
        if fragments == 0 {
            return Err(Drop::Oversize);
        }
        let piece = (payload.div_ceil(fragments) + 7) & !7;
        let last = payload.wrapping_sub((fragments - 1) * piece);
        if piece < PIECE_MIN || last < PIECE_MIN || last > piece {
            return Err(Drop::Oversize);
        }
        Ok(Self {
            outer_bytes: payload + fragments * header,
            fragments,
            piece,
            ..self
        })
    }

    #[inline(always)]
    fn of_superpacket(
        size: &Size,
        protocol: u32,
        endpoint: &Endpoint,
        room: u32,
        snap: u32,
    ) -> Result<Self, Drop> {
        let whole = |flags| {
            Ok(Self {
                flags,
                length: 0,
                bytes: size.bytes,
                outer_bytes: size.bytes + size.packets * endpoint.outer_bytes,
                is_truncated: 0,
                fragments: 1,
                piece: 0,
            })
        };
        // each of its packets has a checksum of its own
        let is_apart = endpoint.summed != 0;
        if size.segment > snap && snap <= room && !is_apart {
            // a truncated superpacket becomes a plain packet (`bpf_skb_change_tail`)
            return Ok(Self {
                flags: cb::FIXED,
                length: snap,
                bytes: snap,
                outer_bytes: snap + endpoint.outer_bytes,
                is_truncated: 1,
                fragments: 1,
                piece: 0,
            });
        }
        let fits = size.segment <= room;
        if fits && size.bare == 0 && !is_apart {
            return whole(cb::FIXED);
        }
        // `skb_decrease_gso_size` takes the outer header off each segment's payload, and only TCP
        // can bear that
        let is_tcp = protocol == protocol::TCP as u32;
        if is_tcp
            && size.brittle == 0
            && size.segment <= room + endpoint.outer_bytes
            && size.gso > endpoint.outer_bytes
            && !is_apart
        {
            return whole(0);
        }
        // how long packets of SCTP are is seen when they are apart
        if endpoint.oversize == Oversize::Drop as u32 && size.gso != GSO_BY_FRAGS && !fits {
            return Err(Drop::Oversize);
        }
        if !endpoint.has_segmenter() {
            return Err(Drop::NoSegmenter);
        }
        whole(0).map(|fit| Self {
            fragments: 0,
            ..fit
        })
    }
}

#[cfg(test)]
mod tests;
