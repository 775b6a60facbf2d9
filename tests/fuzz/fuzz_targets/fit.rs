//! Any sizes and any endpoint: how a packet is sent, and the headers that it gets.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use traffic_mirror_ebpf::abi::{Drop, Endpoint, OUTER_MAX_BYTES, Oversize};
use traffic_mirror_ebpf::fit::{Fit, GSO_BY_FRAGS, Size};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, FRAGMENT6_BYTES, IPV4_BYTES, IPV6_BYTES, OUTER4_BYTES, OUTER6_BYTES,
    Variable, fragment6, outer4, outer6, template,
};
use traffic_mirror_tests::lab::packet::checksum;

/// What the kernel lets a packet and an endpoint be.
struct Case {
    size: Size,
    protocol: u32,
    endpoint: Endpoint,
}

/// Most of what an IP header can say of its length, the header included.
const IPV4_MAX_BYTES: u32 = 65_535;
const IPV6_MAX_BYTES: u32 = IPV6_BYTES as u32 + 65_535;
/// Bytes of a BIG TCP packet (`GSO_MAX_SIZE`), and segments (`GSO_MAX_SEGS`).
const GSO_MAX_BYTES: u32 = 8 * 65_535;
const GSO_MAX_SEGMENTS: u32 = 65_535;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(case) = Case::draw(&mut Unstructured::new(bytes)) {
        let fit = Fit::of(&case.size, case.protocol, &case.endpoint);
        if Fit::is_plain(&case.size, &case.endpoint) {
            let plain = Fit::plain(&case.size, &case.endpoint);
            assert_eq!(fit, Ok(plain), "{}", case.context(&plain));
        }
        match fit {
            Err(reason) => case.assert_dropped(reason),
            Ok(fit) if case.size.gso != 0 => case.assert_superpacket(&fit),
            Ok(fit) => case.assert_packet(&fit),
        }
        // nothing to draw from is all zeros
        let _ = headers(&mut Unstructured::new(bytes));
    }
});

impl Case {
    fn draw(u: &mut Unstructured<'_>) -> Result<Self> {
        let outer_bytes = *u.choose(&[OUTER4_BYTES, OUTER6_BYTES])? as u32;
        let oversize = *u.choose(&[Oversize::Fragment, Oversize::Truncate, Oversize::Drop])? as u32;
        let endpoint = Endpoint {
            backlog: 0,
            summed: 0,
            reserved: 0,
            limit_bits: 0,
            limit_packets: 0,
            state: 0,
            interface: 1,
            mtu: if u.ratio(3, 4)? {
                u.int_in_range(0..=70_000)?
            } else {
                u.int_in_range(0..=i32::MAX as u32)?
            },
            breaker: 1,
            outer_bytes,
            link_bytes: 14,
            link_known: 1,
            oversize,
            snap: if u.arbitrary()? {
                0
            } else {
                u.int_in_range(96..=65_535)?
            },
            sample: 1,
            link: [0; 16],
            outer: [0; OUTER_MAX_BYTES],
            segmenter: 0,
            checksum: 0,
            own_route: 0,
        };
        let size = if u.ratio(1, 3)? {
            let gso = u.int_in_range(1..=65_535)?;
            let (headers, packets) = (
                u.int_in_range(28..=400)?,
                u.int_in_range(1..=GSO_MAX_SEGMENTS)?,
            );
            let packets = packets.min(GSO_MAX_BYTES / gso).max(1);
            let segment = headers + gso;
            Size {
                packets,
                bytes: packets * segment,
                segment,
                gso,
                trim: 0,
                bare: 0,
                brittle: 0,
            }
        } else {
            let bytes = u.int_in_range(20..=IPV6_MAX_BYTES)?;
            Size {
                packets: 1,
                bytes,
                segment: bytes,
                gso: 0,
                trim: if u.arbitrary()? { bytes } else { 0 },
                bare: 0,
                brittle: 0,
            }
        };
        let protocol = u32::from(u.arbitrary::<u8>()?);
        Ok(Self {
            size,
            protocol,
            endpoint: Endpoint {
                segmenter: u.int_in_range(0..=1)?,
                ..endpoint
            },
        })
    }

    fn is_ipv6(&self) -> bool {
        self.endpoint.outer_bytes == OUTER6_BYTES as u32
    }

    /// Bytes of the longest packet to the endpoint.
    fn most(&self) -> u32 {
        self.endpoint.mtu.min(if self.is_ipv6() {
            IPV6_MAX_BYTES
        } else {
            IPV4_MAX_BYTES
        })
    }

    fn context(&self, fit: &Fit) -> String {
        let Self {
            size,
            protocol,
            endpoint:
                Endpoint {
                    mtu,
                    outer_bytes,
                    oversize,
                    snap,
                    ..
                },
        } = self;
        format!("{size:?} {protocol} {mtu} {outer_bytes} {oversize} {snap}: {fit:?}")
    }

    fn assert_packet(&self, fit: &Fit) {
        let context = self.context(fit);
        let Self { size, endpoint, .. } = self;
        let snapped = if endpoint.snap == 0 {
            size.bytes
        } else {
            size.bytes.min(endpoint.snap)
        };
        assert!(fit.bytes <= snapped && fit.bytes != 0, "{context}");
        assert_eq!(fit.is_truncated != 0, fit.bytes < size.bytes, "{context}");
        assert_eq!(
            fit.length,
            if fit.is_truncated != 0 {
                fit.bytes
            } else {
                size.trim
            },
            "{context}"
        );
        if fit.fragments > 1 {
            assert!(
                endpoint.oversize == Oversize::Fragment as u32 && fit.bytes == snapped,
                "{context}"
            );
            self.assert_fragments(fit, &context);
        } else {
            assert_eq!(
                (fit.fragments, fit.outer_bytes),
                (1, fit.bytes + endpoint.outer_bytes),
                "{context}"
            );
            assert!(fit.outer_bytes <= self.most(), "{context}");
            let is_cut =
                endpoint.oversize == Oversize::Truncate as u32 && fit.outer_bytes == self.most();
            assert!(fit.bytes == snapped || is_cut, "{context}");
        }
    }

    /// They hold all of it, each fits, and what they become when they are put together is an IP
    /// packet (RFC 791, RFC 8200).
    fn assert_fragments(&self, fit: &Fit, context: &str) {
        let Fit {
            fragments, piece, ..
        } = *fit;
        let whole = if self.is_ipv6() {
            IPV6_BYTES
        } else {
            IPV4_BYTES
        } as u32;
        let header = whole
            + if self.is_ipv6() {
                FRAGMENT6_BYTES as u32
            } else {
                0
            };
        let payload = fit.bytes + ENCAPSULATION_BYTES as u32;
        let before = u64::from(fragments - 1) * u64::from(piece);
        let last = u64::from(payload).checked_sub(before).expect(context);
        assert!(
            piece % 8 == 0 && header + piece <= self.endpoint.mtu,
            "{context}"
        );
        assert!(last > 0 && last <= u64::from(piece), "{context}");
        assert_eq!(fit.outer_bytes, payload + fragments * header, "{context}");
        let most = if self.is_ipv6() {
            IPV6_MAX_BYTES
        } else {
            IPV4_MAX_BYTES
        };
        assert!(whole + payload <= most, "{context}");
    }

    fn assert_superpacket(&self, fit: &Fit) {
        let context = self.context(fit);
        let Self { size, endpoint, .. } = self;
        if fit.fragments == 0 {
            // what fits needs no segmenter, and where all would be dropped it is of no use
            let fits = size.segment + endpoint.outer_bytes <= self.most();
            let is_sent = endpoint.oversize != Oversize::Drop as u32 || size.gso == GSO_BY_FRAGS;
            assert!(!fits && is_sent && endpoint.segmenter != 0, "{context}");
            return;
        }
        assert_eq!((fit.fragments, fit.piece), (1, 0), "{context}");
        if fit.is_truncated != 0 {
            assert!(
                fit.length == endpoint.snap && fit.bytes == endpoint.snap,
                "{context}"
            );
            assert!(fit.outer_bytes <= self.most(), "{context}");
        } else {
            assert_eq!((fit.length, fit.bytes), (0, size.bytes), "{context}");
            // smaller segments are the kernel's, which takes the outer header off each
            let inner = if fit.flags == 0 {
                size.segment - endpoint.outer_bytes
            } else {
                size.segment
            };
            assert!(endpoint.snap == 0 || inner <= endpoint.snap, "{context}");
            assert!(inner + endpoint.outer_bytes <= self.most(), "{context}");
        }
    }

    /// What fits is sent.
    fn assert_dropped(&self, reason: Drop) {
        let Self { size, endpoint, .. } = self;
        let fits = size.segment.saturating_add(endpoint.outer_bytes) <= self.most();
        assert!(!fits, "{reason:?}: {}", self.context(&Fit::default()));
    }
}

/// The headers hold what they are given, and an IPv4 header's checksum is right.
fn headers(u: &mut Unstructured<'_>) -> Result<()> {
    let variable = Variable {
        length: u.arbitrary()?,
        flow: u.arbitrary()?,
        udp_length: u.arbitrary()?,
        identification: u.arbitrary()?,
        offset: 8 * u.int_in_range(0..=0x1fff)?,
        more: u.arbitrary()?,
        inner_ipv6: u.arbitrary()?,
        checksum: 0,
        payload: 0,
    };
    let (source, destination, port): ([u8; 16], [u8; 16], u16) =
        (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    let first = |address: [u8; 16]| <[u8; 4]>::try_from(&address[..4]).expect("four bytes");
    let (outer, _) =
        template(first(source).into(), first(destination).into(), port).expect("one family");
    let header = &bytes(&outer4(words(&outer), variable))[..IPV4_BYTES];
    assert_eq!(checksum::sum(&[header]), 0xffff, "{variable:?}");
    assert_eq!(header[2..4], (variable.length as u16).to_be_bytes());
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    assert_eq!(
        (u32::from(fragment & 0x1fff) * 8, fragment >> 13),
        (variable.offset, variable.more.into())
    );

    let (outer, _) = template(source.into(), destination.into(), port).expect("one family");
    let all = bytes(&fragment6(outer6(words(&outer), variable), variable));
    let (ip, behind) = all.split_at(IPV6_BYTES);
    let (fragment, udp) = behind.split_at(FRAGMENT6_BYTES);
    assert_eq!(
        (ip[0], &ip[8..24], &ip[24..40]),
        (0x60, &source[..], &destination[..])
    );
    assert_eq!(ip[1] & 0xf0, 0, "ECN and DSCP are 0");
    let place = u32::from(u16::from_be_bytes([fragment[2], fragment[3]]));
    assert_eq!(
        (ip[6], place & !7, place & 7),
        (44, variable.offset, variable.more.into())
    );
    assert_eq!(fragment[4..8], variable.identification.to_be_bytes());
    assert!(
        udp[0] >= 0xc0 && udp[2..4] == port.to_be_bytes() && udp[6..8] == [0, 0],
        "{udp:02x?}"
    );
    assert_eq!(
        udp[8..12],
        [0, if variable.inner_ipv6 { 41 } else { 4 }, 0, 0]
    );
    Ok(())
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|i| {
        u64::from_ne_bytes(bytes[8 * i..][..8].try_into().expect("eight bytes"))
    })
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
