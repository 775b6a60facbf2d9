//! The cached state of a datagram's first fragment, which alone has ports, for the later ones.
//! Input: fragments. Output: the ports that filters are matched against. Must not know: maps, the
//! clock.
//!
//! The sender of the first fragment chooses the ports, and a receiver takes the one that comes
//! first and drops those that overlap (`inet_frag_queue_insert`). So a fragment that differs never
//! replaces another: the datagram becomes ambiguous. The receiver may also drop a first fragment
//! later, for reasons that are unknown here. Then the true first arrives within the receiver's
//! timeout and differs: so a first fragment is compared for longer than its ports are used.

use crate::abi::{First, MAX_FIRSTS};
use crate::packet::{
    ETHER_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, MAX_TAGS, Packet, VLAN_BYTES, mix, protocol,
};

/// How long the ports of a first fragment are used, in units of 2^30 ns. Fragments of a datagram
/// come one after the other, though a busy host may delay them.
const TOLD_FOR: u64 = 8;
/// How long it is compared with other first fragments, in the same units: a later fragment that got
/// its ports at the last moment waits for as long as Linux waits for the rest of an IPv4 datagram
/// (30 s, `IP_FRAG_TIME`) or of an IPv6 one (60 s, `IPV6_FRAG_TIMEOUT`), and its timers are late by
/// at most an eighth (`calc_wheel_index`).
const HELD_FOR: [u64; 2] = [TOLD_FOR + 33, TOLD_FOR + 64];
/// Unit of fragment offsets, bytes (RFC 791).
const UNIT_BYTES: u32 = 8;
/// Bytes of an IPv6 fragment header.
const FRAGMENT_BYTES: u32 = 8;
/// Bytes of a TCP header, which an IPv6 first fragment must hold completely
/// (`ipv6frag_thdr_truncated`).
const TCP_BYTES: u32 = 20;
/// Bits of the time that are kept: a week.
const TIME_BITS: u32 = 19;

const PROTOCOL_SHIFT: u32 = 32;
const LOOP: u64 = 1 << 40;
const PORTED_SHIFT: u32 = 41;
/// First fragments that differ, or that the receiver may drop because of a later one.
const AMBIGUOUS: u64 = 1 << 42;
/// A first fragment that cannot be read up to its ports, or that the kernel may drop for its
/// headers.
const UNPARSED: u64 = 1 << 43;
const IPV6_SHIFT: u32 = 44;
const TIME_SHIFT: u32 = 45;
const TOLD: u64 = (1 << TIME_SHIFT) - 1;

/// Places that a datagram may have: two that fall together do not push each other out.
const PLACES: u32 = 4;
/// Bits of a key that follow from its place in the table; they hold the end of the first fragment.
const PLACE_BITS: u32 = 14;
const _: () = assert!(MAX_FIRSTS == (PLACES as usize) << PLACE_BITS);

/// The path that stands for all paths in [`key`].
pub const ANY_WAY: u32 = u32::MAX;

/// The datagram of a fragment (RFC 791, RFC 8200 section 4.5), on one path, as a hash. The secret
/// keeps senders from targeting the datagrams of others.
#[must_use]
#[inline(always)]
pub fn key(packet: &Packet, way: u32, secret: u64) -> u64 {
    // over IPv6 later fragments need not repeat it
    let protocol = if packet.version == 4 {
        packet.protocol
    } else {
        0
    };
    let mut key = secret ^ u64::from(packet.version) ^ u64::from(protocol) << 8;
    key = mix(key ^ packet.source[0]);
    key = mix(key ^ packet.source[1]);
    key = mix(key ^ packet.destination[0]);
    key = mix(key ^ packet.destination[1]);
    mix(key ^ (u64::from(packet.identification) | u64::from(way) << 32))
}

/// The secret of [`key`] for one path, which differs with the VLAN tags in the frame: the kernel
/// does not use the outermost alone.
#[must_use]
#[inline(always)]
pub fn secret_of_tags<F: Frame>(frame: &mut F, packet: &Packet, secret: u64) -> u64 {
    const NUMBER_AND_TYPE: u32 = 0x0fff_ffff;
    let offset = u32::from(packet.offset);
    if packet.headerless != 0 || offset <= ETHER_BYTES {
        return secret;
    }
    let Some(tags) = frame.window::<{ (MAX_TAGS * VLAN_BYTES) as usize }>(ETHER_BYTES) else {
        return secret;
    };
    let (mut secret, mut tag) = (secret, 0);
    while tag < MAX_TAGS {
        if offset > ETHER_BYTES + tag * VLAN_BYTES {
            secret =
                mix(secret ^ u64::from(tags.u32((tag * VLAN_BYTES) as usize) & NUMBER_AND_TYPE));
        }
        tag += 1;
    }
    secret
}

/// The place of the datagram with this key, otherwise a free one, otherwise one that is in use.
/// `read` returns the content of a place.
#[must_use]
#[inline(always)]
pub fn place_of(key: u64, now: u64, read: impl Fn(u32) -> Option<First>) -> u32 {
    let begin = (key as u32 & ((1 << PLACE_BITS) - 1)) * PLACES;
    let (mut free, mut at) = (begin, PLACES);
    while at > 0 {
        at -= 1;
        let Some(place) = read(begin + at) else { break };
        if ends(place, key) >> PLACE_BITS == 0 {
            return begin + at;
        }
        if !is_live(place, now, HELD_FOR) {
            free = begin + at;
        }
    }
    free
}

/// What a fragment is; of two the greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    /// A fragment with known ports, possibly those of its first fragment.
    Known,
    /// Of an outer packet of a mirror's.
    Loop,
    /// A first one that is not cached, or a later one of such a datagram.
    Unparsed,
    /// A later one whose first was not seen, or is no longer cached.
    Orphan,
    /// Of a datagram with several different first fragments, or with a later one that makes the
    /// kernel drop it.
    Ambiguous,
}

/// What `place` is to hold once a first fragment was seen, and what that is. `reach` is from
/// [`reach`], `now` the time in ns.
///
/// A place that is in use for another datagram stays so: a flood turns later datagrams into orphans
/// and evicts none.
#[must_use]
#[inline(always)]
pub fn first(
    place: First,
    packet: &Packet,
    key: u64,
    reach: u32,
    is_loop: bool,
    now: u64,
) -> (First, Lookup) {
    let (told, reach) = (telling(packet, reach, is_loop), u64::from(reach));
    let lookup = if told & UNPARSED != 0 {
        Lookup::Unparsed
    } else if is_loop {
        Lookup::Loop
    } else {
        Lookup::Known
    };
    if is_live(place, now, HELD_FOR) {
        let held = ends(place, key);
        if held >> PLACE_BITS != 0 {
            return (place, lookup);
        }
        if place.value & TOLD != told || held != reach {
            return (contested(packet, key, now), Lookup::Ambiguous);
        }
    }
    (holding(told, key, reach, now), lookup)
}

/// An element of the table.
#[inline(always)]
fn holding(told: u64, key: u64, reach: u64, now: u64) -> First {
    let value = told | now >> 30 << TIME_SHIFT;
    First {
        check: key ^ value ^ reach,
        value,
    }
}

/// Where the first fragment of the datagram with this key ends; more than [`PLACE_BITS`] if the
/// place is another's, or if two CPUs have written it at the same time.
#[inline(always)]
fn ends(place: First, key: u64) -> u64 {
    place.check ^ place.value ^ key
}

/// The state that a first fragment leaves for the later ones.
#[inline(always)]
fn telling(packet: &Packet, reach: u32, is_loop: bool) -> u64 {
    let version = u64::from(packet.version == 6) << IPV6_SHIFT;
    if packet.unknown != 0 || reach == 0 {
        return UNPARSED | version;
    }
    let ports = u64::from(packet.source_port) | u64::from(packet.destination_port) << 16;
    let flags = if is_loop { LOOP } else { 0 } | u64::from(packet.ported & 1) << PORTED_SHIFT;
    ports | u64::from(packet.protocol) << PROTOCOL_SHIFT | flags | version
}

#[inline(always)]
fn is_live(First { check, value }: First, now: u64, lifetime: [u64; 2]) -> bool {
    let age = (now >> 30).wrapping_sub(value >> TIME_SHIFT) & ((1 << TIME_BITS) - 1);
    check | value != 0 && age <= lifetime[(value >> IPV6_SHIFT & 1) as usize]
}

/// The content of a place after two CPUs have seen fragments of its datagram at the same time.
#[must_use]
#[inline(always)]
pub fn contested(packet: &Packet, key: u64, now: u64) -> First {
    holding(
        AMBIGUOUS | u64::from(packet.version == 6) << IPV6_SHIFT,
        key,
        0,
        now,
    )
}

/// The content of `place` after a later fragment that begins at `begin` (from [`begin`]), and its
/// lookup result. If that is [`Lookup::Known`], [`tell`] gives the ports.
#[must_use]
#[inline(always)]
pub fn follow(place: First, key: u64, begin: u32, now: u64) -> (First, Lookup) {
    let (reach, value) = (ends(place, key), place.value);
    if reach >> PLACE_BITS != 0 || !is_live(place, now, HELD_FOR) {
        (place, Lookup::Orphan)
    } else if value & AMBIGUOUS != 0 {
        (place, Lookup::Ambiguous)
    } else if value & UNPARSED != 0 {
        (place, Lookup::Unparsed)
    } else if u64::from(begin) < reach {
        (
            holding(AMBIGUOUS | value & 1 << IPV6_SHIFT, key, 0, now),
            Lookup::Ambiguous,
        )
    } else if !is_live(place, now, [TOLD_FOR; 2]) {
        (place, Lookup::Orphan)
    } else {
        (
            place,
            if value & LOOP != 0 {
                Lookup::Loop
            } else {
                Lookup::Known
            },
        )
    }
}

/// Gives a later fragment the ports of its first one.
#[inline(always)]
pub fn tell(packet: &mut Packet, First { value, .. }: First) {
    packet.protocol = (value >> PROTOCOL_SHIFT) as u8;
    packet.source_port = value as u16;
    packet.destination_port = (value >> 16) as u16;
    packet.ported = (value >> PORTED_SHIFT & 1) as u16;
}

/// Whether any host drops a first fragment with this many bytes, from the IP header on: for its
/// IPv4 checksum (`ip_rcv_core`), or because its header claims more. It is not cached, and compared
/// with no other.
#[must_use]
#[inline(always)]
pub fn is_dropped<F: Frame>(frame: &mut F, packet: &Packet, bytes: u32) -> bool {
    let mut sum = 0xffff;
    // one with options is not cached anyway
    if packet.version == 4
        && header_bytes(packet) == IPV4_BYTES
        && let Some(header) = frame.window::<{ IPV4_BYTES as usize }>(packet.offset.into())
    {
        sum = 0;
        let mut at = 0;
        while at < IPV4_BYTES as usize {
            sum += u32::from(header.u16(at));
            at += 2;
        }
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    folded != 0xffff || packet.ip_bytes() > bytes
}

/// The end of a first fragment's payload, in units of 8 bytes; 0 if the kernel may drop it while it
/// accepts others of the datagram, or drops the datagram because of it. Such a fragment is not
/// cached.
///
/// What IPv4 options and IPv6 extension headers must be like depends on the kernel and its settings
/// (`ip_options_compile`, `ip6_parse_tlv`, `accept_source_route`), and some in a row are dropped (a
/// fragment header after another, `ipv6_frag_rcv`). What is not the last of a datagram has whole
/// units (`ip6_frag_queue`), and at least one (`ip_frag_queue`).
#[must_use]
#[inline(always)]
pub const fn reach(packet: &Packet) -> u32 {
    let (headers, stated) = (header_bytes(packet), packet.ip_bytes());
    let is_tcp6 = packet.version == 6 && packet.protocol == protocol::TCP;
    let (plain, least) = match packet.version {
        4 => (IPV4_BYTES, UNIT_BYTES),
        _ => (
            IPV6_BYTES + FRAGMENT_BYTES,
            if is_tcp6 { TCP_BYTES } else { UNIT_BYTES },
        ),
    };
    let payload = stated.wrapping_sub(plain);
    let is_whole = stated >= plain + least && payload % UNIT_BYTES == 0;
    if headers == plain && is_whole {
        payload / UNIT_BYTES
    } else {
        0
    }
}

/// Where a later fragment begins, in units of 8 bytes; 0, which is within any first one, for one
/// without payload, which has the kernel throw the datagram away (`ip_frag_queue`,
/// `ip6_frag_queue`).
#[must_use]
#[inline(always)]
pub fn begin<F: Frame>(frame: &mut F, packet: &Packet) -> u32 {
    let ipv6 = packet.version == 6;
    // in the header before the payload, or in that of IPv4
    let at = if ipv6 {
        u32::from(packet.transport).wrapping_sub(6)
    } else {
        u32::from(packet.offset) + 6
    };
    let field = frame
        .window::<2>(at)
        .map_or(0, |field| u32::from(field.u16(0)));
    let (offset, more) = if ipv6 {
        (field >> 3, field & 1)
    } else {
        (field & 0x1fff, field & 0x2000)
    };
    let least = if more != 0 { UNIT_BYTES } else { 1 };
    if packet.ip_bytes() < header_bytes(packet) + least {
        0
    } else {
        offset
    }
}

#[inline(always)]
const fn header_bytes(packet: &Packet) -> u32 {
    packet.transport.wrapping_sub(packet.offset) as u32
}

#[cfg(test)]
mod tests;
