//! What must be done with a frame: the parser on this side, what was remembered of fragments, and
//! the file read filter by filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use traffic_mirror_ebpf::abi::{First, MAX_FIRSTS, Skipped, cb};
use traffic_mirror_ebpf::fragment_key::{
    ANY_WAY, Lookup, begin, first, follow, is_dropped, key, place_of, reach, secret_of_tags, tell,
};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, Head, Quoted, is_wrapped, is_wrapped_in_error, quoted_udp,
};
use traffic_mirror_ebpf::icmp::{Ports, is_ours};
use traffic_mirror_ebpf::packet::{Address, Bytes, Packet, parse, protocol};
use traffic_mirror_tests::oracle::naive::{Answer, Flow, Unknown, ask};

use crate::draw::Case;
use crate::stage::Stage;

/// What the programs must say of a frame.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Of a packet that a mirror has sent: what filters would say.
    pub(crate) answer: Answer,
    pub(crate) skipped: Option<Skipped>,
}

/// Remembers fragments as the programs do.
pub(crate) struct Expecter {
    firsts: Vec<First>,
}

impl Default for Expecter {
    fn default() -> Self {
        Self {
            firsts: vec![First::default(); MAX_FIRSTS],
        }
    }
}

impl Expecter {
    /// `is_nested` says whether the packet was counted as nested, which depends on what came
    /// before.
    pub(crate) fn expect(
        &mut self,
        stage: &Stage,
        case: &Case,
        hook: u32,
        is_nested: bool,
    ) -> Result<Expected> {
        let skipped = |reason| {
            Ok(Expected {
                skipped: Some(reason),
                ..Expected::default()
            })
        };
        if case.is_marked(stage.secret()) {
            let again = case.context.cb[cb::ENDPOINT] & (cb::PROBE | cb::DONE | cb::HEADERLESS)
                == cb::PROBE;
            return if again {
                Ok(Expected::default())
            } else {
                skipped(Skipped::Copy)
            };
        }
        let ethertype = case
            .bytes
            .get(12..14)
            .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let mut packet = Packet::default();
        if let Err(reason) = parse(&mut Bytes(&case.bytes), ethertype, &mut packet) {
            return skipped(reason);
        }
        let mut looped = find_loop(stage, &case.bytes, &packet)
            .filter(|&looped| looped != Skipped::Nested || is_nested);
        let mut doubt = None;
        if packet.fragment != 0 {
            let is_lost = packet.fragment == Packet::FIRST && is_lost(&case.bytes, &packet);
            looped = looped.filter(|_| !is_lost);
            let is_loop;
            (doubt, is_loop) = self.follow(
                stage,
                case,
                hook,
                &mut packet,
                looped == Some(Skipped::Loop),
            )?;
            looped = looped.or(is_loop.then_some(Skipped::Loop));
        }
        let doubt = doubt.or((packet.unknown != 0).then_some(Skipped::Unparsed));
        let answer = ask(&stage.desired, &stage.place(case.direction), &flow(&packet));
        let skipped = looped.or(doubt);
        Ok(Expected { answer, skipped })
    }

    /// Why something of a fragment is unknown, and whether a mirror has sent it.
    fn follow(
        &mut self,
        stage: &Stage,
        case: &Case,
        hook: u32,
        packet: &mut Packet,
        is_looped: bool,
    ) -> Result<(Option<Skipped>, bool)> {
        let is_first = packet.fragment == Packet::FIRST;
        if is_first && is_lost(&case.bytes, packet) {
            return Ok((None, false));
        }
        let clock = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("read the clock")?;
        let now = clock.tv_sec() as u64 * 1_000_000_000 + clock.tv_nsec() as u64;
        // `eth_type_trans`
        let kind = match &case.bytes[..6] {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
            [first, ..] if first & 1 != 0 => 2,
            address => 3 * u32::from(*address != stage.mac),
        };
        let way = hook | u32::from(packet.vlan) << 16 | kind << 28;
        let mut frame = Bytes(&case.bytes);
        let extent = if is_first {
            reach(packet)
        } else {
            begin(&mut frame, packet)
        };
        let (mut lookup, mut last) = (Lookup::Known, First::default());
        let secret = secret_of_tags(&mut frame, packet, stage.secret());
        for (way, secret) in [(way, secret), (ANY_WAY, stage.secret())] {
            let key = key(packet, way, secret);
            let at = place_of(key, now, |at| self.firsts.get(at as usize).copied());
            let place = self
                .firsts
                .get_mut(at as usize)
                .context("a place for a fragment")?;
            let (left, is) = if is_first {
                first(*place, packet, key, extent, is_looped, now)
            } else {
                follow(*place, key, extent, now)
            };
            (*place, last, lookup) = (left, left, lookup.max(is));
        }
        match lookup {
            Lookup::Known if !is_first => tell(packet, last),
            Lookup::Unparsed | Lookup::Orphan if !is_first => packet.forget_ports(),
            Lookup::Ambiguous => packet.forget_ports(),
            _ => {}
        }
        let doubt = match lookup {
            Lookup::Known | Lookup::Loop => None,
            Lookup::Orphan => Some(Skipped::Orphan),
            Lookup::Ambiguous => Some(Skipped::Ambiguous),
            Lookup::Unparsed => Some(Skipped::Unparsed),
        };
        Ok((doubt, lookup == Lookup::Loop))
    }
}

fn is_lost(frame: &[u8], packet: &Packet) -> bool {
    let bytes = frame.len() as u32 - u32::from(packet.offset);
    is_dropped(&mut Bytes(frame), packet, bytes)
}

fn flow(packet: &Packet) -> Flow {
    let address = |[first, second]: Address| -> IpAddr {
        match packet.version {
            4 => Ipv4Addr::from_bits((first >> 32) as u32).into(),
            _ => Ipv6Addr::from_bits(u128::from(first) << 64 | u128::from(second)).into(),
        }
    };
    Flow {
        source: address(packet.source),
        destination: address(packet.destination),
        protocol: packet.protocol,
        ports: (packet.ported != 0).then_some((packet.source_port, packet.destination_port)),
        vlan: packet.vlan,
        unknown: match packet.unknown {
            0 => Unknown::Nothing,
            Packet::PORTS => Unknown::Ports,
            _ => Unknown::Transport,
        },
    }
}

/// `find_loop` of ebpf/src/bpf/loop_guard.rs, as if nothing were left for nested packets.
fn find_loop(stage: &Stage, frame: &[u8], packet: &Packet) -> Option<Skipped> {
    let (ip, at) = (usize::from(packet.offset), usize::from(packet.transport));
    let (kind, ipv6) = (frame.get(at).copied(), packet.version == 6);
    match packet.protocol {
        protocol::UDP
            if packet.fragment != Packet::LATER
                && head(frame, at).is_some_and(|head| is_wrapped(&head)) =>
        {
            if is_known(stage, frame, ip, at, ipv6) {
                return Some(Skipped::Loop);
            }
            (nesting(frame, at) > 1).then_some(Skipped::Nested)
        }
        protocol::ICMP if matches!(kind, Some(3 | 4 | 5 | 11 | 12)) => {
            about_copy(stage, frame, at + 8, ipv6)
        }
        protocol::ICMPV6 if matches!(kind, Some(0..128)) => about_copy(stage, frame, at + 8, ipv6),
        _ => None,
    }
}

fn about_copy(stage: &Stage, frame: &[u8], at: usize, ipv6: bool) -> Option<Skipped> {
    let udp = quoted(frame, at);
    let is_other =
        udp == 0 || head(frame, at + udp).is_some_and(|head| !is_wrapped_in_error(&head));
    (!is_other && is_known(stage, frame, at, at + udp, ipv6)).then_some(Skipped::Loop)
}

fn quoted(frame: &[u8], at: usize) -> usize {
    let quoted = frame
        .get(at..at + size_of::<Quoted>())
        .and_then(|bytes| <&Quoted>::try_from(bytes).ok());
    quoted.map_or(0, quoted_udp) as usize
}

fn nesting(frame: &[u8], udp: usize) -> usize {
    let next = |at: &usize| {
        let inner = at + ENCAPSULATION_BYTES;
        Some(quoted(frame, inner))
            .filter(|&udp| udp != 0)
            .map(|udp| inner + udp)
    };
    let headers = std::iter::successors(Some(udp), next);
    headers
        .take_while(|&at| head(frame, at).is_some_and(|head| is_wrapped_in_error(&head)))
        .count()
}

/// Whether an outer header is that of a copy to an endpoint of the file.
fn is_known(stage: &Stage, frame: &[u8], ip: usize, udp: usize, ipv6: bool) -> bool {
    let Some(ports) = frame
        .get(udp..udp + 4)
        .and_then(|bytes| Ports::try_from(bytes).ok())
    else {
        return false;
    };
    let range = if ipv6 {
        ip + 8..ip + 40
    } else {
        ip + 12..ip + 20
    };
    let Some(bytes) = frame.get(range) else {
        return false;
    };
    let mut addresses = [0; 8];
    addresses
        .iter_mut()
        .zip(bytes.as_chunks().0)
        .for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
    stage
        .endpoints
        .iter()
        .any(|endpoint| is_ours(&addresses, ports, endpoint, ipv6))
}

fn head(frame: &[u8], at: usize) -> Option<Head> {
    let bytes = frame.get(at..at + size_of::<Head>())?;
    let word = |i: usize| {
        u32::from_ne_bytes([
            bytes[4 * i],
            bytes[4 * i + 1],
            bytes[4 * i + 2],
            bytes[4 * i + 3],
        ])
    };
    Some([word(0), word(1), word(2), word(3)])
}
