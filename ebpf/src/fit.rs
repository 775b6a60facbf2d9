//! Input: how long a packet is, and an endpoint. Output: how the packet is sent there. Must not
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
    /// Length without Ethernet padding, 0 if there is none.
    pub trim: u32,
    /// 1 for a superpacket that the kernel can cut only as long as it is not wrapped: of UDP, and
    /// its checksums are not left to the output interface. Whatever makes room in it leaves
    /// `csum_start` as it is (`skb_headers_offset_update`), so that `__udp_gso_segment` refuses it.
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
    /// Outer fragments; 1 if it is sent whole, 0 if it must be cut into packets first, which are
    /// then looked at one by one.
    pub fragments: u32,
    /// Outer payload of each fragment but the last, bytes: a multiple of 8.
    pub piece: u32,
}

/// Least that a fragment carries, bytes: the kernel leaves an IP header in a packet that it cuts
/// the front of (`bpf_skb_adjust_room`).
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

    /// Bytes of the longest outer packet that its header can tell the length of, be it in fragments
    /// (RFC 791, RFC 8200).
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
            // cut, it is no superpacket any more (`bpf_skb_change_tail`)
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
mod tests {
    use super::*;

    fn endpoint(mtu: u32, outer_bytes: u32, oversize: Oversize) -> Endpoint {
        Endpoint {
            limit_bits: 0,
            limit_packets: 0,
            backlog: 1 << 26,
            state: 0,
            interface: 1,
            mtu,
            breaker: 1,
            outer_bytes,
            link_bytes: 14,
            link_known: 1,
            oversize: oversize as u32,
            snap: 0,
            sample: 1,
            link: [0; 16],
            outer: [0; crate::abi::OUTER_MAX_BYTES],
            segmenter: 0,
            checksum: 0,
            own_route: 0,
            summed: 0,
            reserved: 0,
        }
    }

    fn plain(bytes: u32) -> Size {
        Size {
            packets: 1,
            bytes,
            segment: bytes,
            gso: 0,
            trim: 0,
            bare: 0,
            brittle: 0,
        }
    }

    #[test]
    fn fragments_hold_all_of_it_and_fit() {
        for (outer_bytes, header) in [(32, 20), (52, 48)] {
            for mtu in [1280, 1400, 1500, 1501, 9000] {
                for bytes in (mtu - outer_bytes + 1..9100).chain([20_000, 65_535 - 32]) {
                    let fit = Fit::of(
                        &plain(bytes),
                        6,
                        &endpoint(mtu, outer_bytes, Oversize::Fragment),
                    )
                    .unwrap();
                    let Fit {
                        fragments, piece, ..
                    } = fit;
                    assert!(
                        fragments > 1 && piece % 8 == 0 && piece + header <= mtu,
                        "{bytes} {mtu}: {fit:?}"
                    );
                    let last = bytes + 12 - (fragments - 1) * piece;
                    assert!(
                        (PIECE_MIN..=piece).contains(&last),
                        "{bytes} {mtu}: {fit:?}"
                    );
                    assert_eq!(fit.outer_bytes, bytes + 12 + fragments * header);
                }
            }
        }
    }

    #[test]
    fn what_fits_is_whole() {
        for oversize in [Oversize::Fragment, Oversize::Truncate, Oversize::Drop] {
            let (fits, endpoint) = (plain(1468), endpoint(1500, 32, oversize));
            let fit = Fit::of(&fits, 6, &endpoint).unwrap();
            assert!(Fit::is_plain(&fits, &endpoint) && Fit::plain(&fits, &endpoint) == fit);
            assert!(!Fit::is_plain(&plain(1469), &endpoint));
            assert!(!Fit::is_plain(
                &fits,
                &Endpoint {
                    snap: 2000,
                    ..endpoint
                }
            ));
            assert_eq!(
                (fit.fragments, fit.is_truncated, fit.length, fit.outer_bytes),
                (1, 0, 0, 1500)
            );
        }
        let padded = Size {
            trim: 40,
            ..plain(40)
        };
        assert_eq!(
            Fit::of(&padded, 6, &endpoint(1500, 32, Oversize::Drop))
                .unwrap()
                .length,
            40
        );
        let endpoint = endpoint(1500, 32, Oversize::Drop);
        assert!(Fit::is_plain(&padded, &endpoint) && Fit::plain(&padded, &endpoint).length == 40);
    }

    #[test]
    fn what_does_not_fit_is_treated_as_asked() {
        let fit = |oversize| Fit::of(&plain(1469), 6, &endpoint(1500, 32, oversize));
        assert_eq!(fit(Oversize::Drop), Err(Drop::Oversize));
        let cut = fit(Oversize::Truncate).unwrap();
        assert_eq!(
            (cut.length, cut.is_truncated, cut.bytes, cut.outer_bytes),
            (1468, 1, 1468, 1500)
        );
        assert_eq!(fit(Oversize::Fragment).unwrap().fragments, 2);
        assert_eq!(
            Fit::of(&plain(1469), 6, &endpoint(80, 52, Oversize::Fragment)),
            Err(Drop::Oversize)
        );
    }

    /// What was put together of them would be longer than an IP header can tell: nobody could.
    #[test]
    fn no_outer_packet_is_longer_than_its_header_can_say() {
        for (outer_bytes, most) in [(32, 65_535 - 32), (52, 65_535 - 12)] {
            for mtu in [1500, 65_535, 65_600, 100_000] {
                let of = |bytes, oversize| {
                    Fit::of(&plain(bytes), 6, &endpoint(mtu, outer_bytes, oversize))
                };
                assert!(
                    of(most, Oversize::Fragment).is_ok_and(|fit| fit.bytes == most),
                    "{mtu}"
                );
                assert_eq!(
                    of(most + 1, Oversize::Fragment),
                    Err(Drop::Oversize),
                    "{mtu}"
                );
                assert!(
                    of(most + 1, Oversize::Truncate)
                        .is_ok_and(|cut| cut.outer_bytes <= mtu && cut.bytes <= most)
                );
            }
        }
    }

    #[test]
    fn where_nothing_fits_nothing_is_sent() {
        for (mtu, outer_bytes) in [(0, 32), (32, 32), (52, 52)] {
            for oversize in [Oversize::Fragment, Oversize::Truncate, Oversize::Drop] {
                assert_eq!(
                    Fit::of(&plain(100), 6, &endpoint(mtu, outer_bytes, oversize)),
                    Err(Drop::Oversize)
                );
            }
        }
    }

    #[test]
    fn a_snap_comes_first() {
        let snapped = Endpoint {
            snap: 128,
            ..endpoint(1500, 32, Oversize::Drop)
        };
        let cut = Fit::of(&plain(9000), 6, &snapped).unwrap();
        assert_eq!((cut.length, cut.is_truncated, cut.fragments), (128, 1, 1));
        assert_eq!(Fit::of(&plain(128), 6, &snapped).unwrap().is_truncated, 0);
    }

    #[test]
    fn superpackets_are_whole_where_their_segments_fit() {
        let size = |segment, gso| Size {
            packets: 10,
            bytes: 10 * segment,
            segment,
            gso,
            trim: 0,
            bare: 0,
            brittle: 0,
        };
        let endpoint = endpoint(1500, 32, Oversize::Fragment);
        let flags = |size, protocol| Fit::of(&size, protocol, &endpoint).map(|fit| fit.flags);
        assert_eq!(flags(size(1468, 1428), 6), Ok(cb::FIXED));
        assert_eq!(flags(size(1500, 1460), 6), Ok(0));
        assert_eq!(flags(size(1501, 1461), 6), Err(Drop::NoSegmenter));
        assert_eq!(flags(size(1469, 1441), 17), Err(Drop::NoSegmenter));
        assert_eq!(flags(size(1468, 1440), 17), Ok(cb::FIXED));
        // an MTU beyond 64 KiB makes no IP packet longer
        let wide = Endpoint {
            mtu: 100_000,
            ..endpoint
        };
        assert_eq!(
            Fit::of(&size(65_536, 65_496), 6, &wide),
            Err(Drop::NoSegmenter)
        );
        assert_eq!(
            Fit::of(&size(65_535, 65_495), 6, &wide).map(|fit| fit.flags),
            Ok(0)
        );
        let snapped = Endpoint {
            snap: 128,
            ..endpoint
        };
        let cut = Fit::of(&size(1500, 1460), 17, &snapped).unwrap();
        assert_eq!((cut.length, cut.bytes, cut.is_truncated), (128, 128, 1));
        assert_eq!(
            Fit::of(&size(128, 88), 6, &snapped).unwrap().is_truncated,
            0
        );
    }

    #[test]
    fn what_cannot_be_cut_once_wrapped_or_needs_checksums_is_cut_before() {
        let size = |gso, bare| Size {
            packets: 10,
            bytes: 10_000,
            segment: 40 + gso,
            gso,
            trim: 0,
            bare,
            brittle: 0,
        };
        let whole = Endpoint {
            segmenter: 9,
            ..endpoint(1500, 32, Oversize::Fragment)
        };
        let fragments = |size: Size, protocol, endpoint: &Endpoint| {
            Fit::of(&size, protocol, endpoint).map(|fit| fit.fragments)
        };
        assert_eq!(fragments(size(1000, 0), 17, &whole), Ok(1));
        assert_eq!(fragments(size(1000, 1), 17, &whole), Ok(0));
        assert_eq!(
            fragments(
                size(1000, 1),
                17,
                &Endpoint {
                    oversize: Oversize::Drop as u32,
                    ..whole
                }
            ),
            Ok(0)
        );
        for segmenter in [0, Endpoint::SEGMENTER_REFUSED] {
            assert_eq!(
                fragments(size(1000, 1), 17, &Endpoint { segmenter, ..whole }),
                Err(Drop::NoSegmenter)
            );
        }
        let summed = Endpoint { summed: 1, ..whole };
        for (gso, protocol) in [(1000, 6), (1440, 6), (1000, 17)] {
            assert_eq!(
                fragments(size(gso, 0), protocol, &summed),
                Ok(0),
                "{gso} {protocol}"
            );
        }
        assert_eq!(
            fragments(
                size(1000, 0),
                6,
                &Endpoint {
                    snap: 128,
                    ..summed
                }
            ),
            Ok(0)
        );
        assert_eq!(
            Fit::of(&plain(1000), 6, &summed).map(|fit| fit.fragments),
            Ok(1)
        );
    }

    #[test]
    fn what_the_kernel_may_not_cut_smaller_is_cut_into_packets_first() {
        let size = |gso, brittle| Size {
            packets: 10,
            bytes: 15_000,
            segment: 40 + gso,
            gso,
            trim: 0,
            bare: 0,
            brittle,
        };
        let endpoint = Endpoint {
            segmenter: 9,
            ..endpoint(1500, 32, Oversize::Fragment)
        };
        let fragments = |size: Size| Fit::of(&size, 6, &endpoint).map(|fit| fit.fragments);
        assert_eq!(
            (fragments(size(1460, 0)), fragments(size(1460, 1))),
            (Ok(1), Ok(0))
        );
        assert_eq!(
            fragments(size(1400, 1)),
            Ok(1),
            "segments that keep their size"
        );
    }

    #[test]
    fn superpackets_that_do_not_fit_are_cut_into_packets_first() {
        let size = |gso| Size {
            packets: 10,
            bytes: 15_000,
            segment: 40 + gso,
            gso,
            trim: 0,
            bare: 0,
            brittle: 0,
        };
        for (oversize, udp) in [
            (Oversize::Fragment, Ok(0)),
            (Oversize::Truncate, Ok(0)),
            (Oversize::Drop, Err(Drop::Oversize)),
        ] {
            let endpoint = Endpoint {
                segmenter: 9,
                ..endpoint(1500, 32, oversize)
            };
            let fragments =
                |gso, protocol| Fit::of(&size(gso), protocol, &endpoint).map(|fit| fit.fragments);
            assert_eq!(fragments(1452, 17), udp);
            assert_eq!(fragments(1428, 17), Ok(1));
            assert_eq!(fragments(1452, 6), Ok(1), "TCP is cut smaller instead");
            assert_eq!(fragments(GSO_BY_FRAGS, 132), Ok(0));
        }
    }
}
