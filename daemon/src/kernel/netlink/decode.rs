//! Input: the payload of one rtnetlink message. Output: a type of [`network`](crate::network).
//! Reads only the attributes that are wanted, so that what a newer kernel adds cannot break it.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, NLA_HEADER_SIZE, NlasIterator, parse_ip, parse_mac, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeader;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader, NeighbourState as Nud};
use netlink_packet_route::route::{RouteHeader, RouteType};
use netlink_packet_route::tc::{TcHandle, TcHeader};

use crate::network::{
    Link, LinkKind, Neighbour, NeighbourState, Queue, Route, RouteKind, TcFilter,
};

// Attributes that libc does not name: include/uapi/linux/{if_link,neighbour,rtnetlink,pkt_cls}.h.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_IPVLAN_MODE: u16 = 1;
const IPVLAN_MODE_L3S: u16 = 2;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_GSO_MAX_SEGS: u16 = 40;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
const IFLA_STATS64: u16 = 23;
const TCA_STATS_QUEUE: u16 = 3;

// Sizes of the fixed headers, from the same files.
const IFINFOMSG_BYTES: usize = 16;
const IFADDRMSG_BYTES: usize = 8;
const RTMSG_BYTES: usize = 12;
const NDMSG_BYTES: usize = 12;
const TCMSG_BYTES: usize = 20;

/// The attributes in `bytes`: kind without flags, and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), DecodeError>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Ok((kind, &attribute.into_inner()[NLA_HEADER_SIZE..length]))
    })
}

/// A string that may or may not end in a zero byte.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Decodes `struct ifinfomsg`.
pub(super) fn link(payload: &[u8]) -> Result<Link, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    let kind = match header.link_layer_type {
        LinkLayerType::Ether => LinkKind::Ethernet,
        LinkLayerType::Loopback => LinkKind::Loopback,
        other => LinkKind::Other(other.into()),
    };
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Running),
        mac: None,
        kind,
        master: None,
        parent: None,
        info_kind: None,
        altnames: Vec::new(),
        is_l3s: false,
        no_arp: header.flags.contains(LinkFlags::Noarp),
        qdisc: String::new(),
        gso_max: [0; 2],
        has_xdp: false,
    };
    let mut elsewhere = false;
    for attribute in attributes(&payload[IFINFOMSG_BYTES..]) {
        match attribute? {
            (libc::IFLA_IFNAME, value) => link.name = text(value),
            (libc::IFLA_MTU, value) => link.mtu = parse_u32(value)?,
            (libc::IFLA_ADDRESS, value) if !matches!(kind, LinkKind::Other(_)) => {
                link.mac = parse_mac(value).ok();
            }
            (libc::IFLA_MASTER, value) => link.master = Some(parse_u32(value)?),
            (libc::IFLA_LINK, value) => link.parent = Some(parse_u32(value)?),
            (IFLA_LINK_NETNSID, _) => elsewhere = true,
            (libc::IFLA_LINKINFO, value) => (link.info_kind, link.is_l3s) = info(value)?,
            (IFLA_PROP_LIST, value) => link.altnames = altnames(value)?,
            (libc::IFLA_QDISC, value) => link.qdisc = text(value),
            (IFLA_XDP, value) => link.has_xdp = has_xdp(value)?,
            (IFLA_GSO_MAX_SEGS, value) => link.gso_max[0] = parse_u32(value)?,
            (IFLA_GSO_MAX_SIZE, value) => link.gso_max[1] = parse_u32(value)?,
            _ => {}
        }
    }
    // IFLA_LINK is the other end of these pairs, and 0 for a tunnel that is bound to no interface
    let pair = matches!(link.info_kind.as_deref(), Some("veth" | "vxcan" | "netkit"));
    link.parent = link
        .parent
        .filter(|parent| *parent != 0 && !elsewhere && !pair);
    Ok(link)
}

fn altnames(value: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut names = Vec::new();
    for attribute in attributes(value) {
        if let (IFLA_ALT_IFNAME, value) = attribute? {
            names.push(text(value));
        }
    }
    Ok(names)
}

/// Whether any program is attached, whatever the mode (`XDP_ATTACHED_NONE` is 0).
fn has_xdp(value: &[u8]) -> Result<bool, DecodeError> {
    for attribute in attributes(value) {
        if let (IFLA_XDP_ATTACHED, value) = attribute? {
            return Ok(value.first().is_some_and(|&mode| mode != 0));
        }
    }
    Ok(false)
}

/// The kind, and whether that is an ipvlan in mode l3s.
fn info(value: &[u8]) -> Result<(Option<String>, bool), DecodeError> {
    let (mut kind, mut is_l3s) = (None, false);
    for attribute in attributes(value) {
        match attribute? {
            (IFLA_INFO_KIND, value) => kind = Some(text(value)),
            // of the kind that came before
            (IFLA_INFO_DATA, value) if kind.as_deref() == Some("ipvlan") => {
                for attribute in attributes(value) {
                    is_l3s |= attribute? == (IFLA_IPVLAN_MODE, &IPVLAN_MODE_L3S.to_ne_bytes()[..]);
                }
            }
            _ => {}
        }
    }
    Ok((kind, is_l3s))
}

/// Decodes the host's own address in `struct ifaddrmsg`: `IFA_ADDRESS` is the peer's where there is
/// an `IFA_LOCAL`.
pub(super) fn address(payload: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    if !is_ip(AddressHeader::parse(payload)?.family) {
        return Ok(None);
    }
    let mut local = None;
    let mut address = None;
    for attribute in attributes(&payload[IFADDRMSG_BYTES..]) {
        match attribute? {
            (libc::IFA_LOCAL, value) => local = Some(parse_ip(value)?),
            (libc::IFA_ADDRESS, value) => address = Some(parse_ip(value)?),
            _ => {}
        }
    }
    Ok(local.or(address))
}

/// Decodes `struct rtmsg`.
pub(super) fn route(payload: &[u8]) -> Result<Route, DecodeError> {
    let kind = match RouteHeader::parse(payload)?.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Multicast => RouteKind::Multicast,
        other => RouteKind::Other(other.into()),
    };
    let mut route = Route {
        interface: 0,
        gateway: None,
        source: None,
        mtu: None,
        kind,
        assumed: false,
    };
    for attribute in attributes(&payload[RTMSG_BYTES..]) {
        match attribute? {
            (libc::RTA_OIF, value) => route.interface = parse_u32(value)?,
            (libc::RTA_GATEWAY, value) => route.gateway = Some(parse_ip(value)?),
            // struct rtvia: a family of two bytes, then the address
            (RTA_VIA, value) => {
                route.gateway = value.get(2..).and_then(|address| parse_ip(address).ok());
            }
            (libc::RTA_PREFSRC, value) => route.source = Some(parse_ip(value)?),
            (libc::RTA_METRICS, value) => route.mtu = metric_mtu(value)?,
            _ => {}
        }
    }
    Ok(route)
}

fn metric_mtu(value: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in attributes(value) {
        if let (RTAX_MTU, value) = attribute? {
            return parse_u32(value).map(Some);
        }
    }
    Ok(None)
}

/// Decodes `struct ndmsg`, and whether another process manages the entry: the kernel keeps it
/// resolved (`NTF_MANAGED`), a routing daemon has learned it, or it is to stay (`NTF_EXT_LEARNED`,
/// `NTF_STICKY`). `None` for a bridge's forwarding entry.
pub(super) fn neighbour(payload: &[u8]) -> Result<Option<(Neighbour, bool)>, DecodeError> {
    let header = NeighbourHeader::parse(payload)?;
    if !is_ip(header.family) {
        return Ok(None);
    }
    let mut address = None;
    let mut mac = None;
    let mut managed = header
        .flags
        .intersects(NeighbourFlags::ExtLearned | NeighbourFlags::Sticky);
    for attribute in attributes(&payload[NDMSG_BYTES..]) {
        match attribute? {
            (libc::NDA_DST, value) => address = Some(parse_ip(value)?),
            (libc::NDA_LLADDR, value) => mac = parse_mac(value).ok(),
            (NDA_FLAGS_EXT, value) => managed |= parse_u32(value)? & NTF_EXT_MANAGED != 0,
            _ => {}
        }
    }
    let state = neighbour_state(header.state);
    Ok(address.map(|address| {
        (
            Neighbour {
                interface: header.ifindex,
                address,
                mac,
                state,
            },
            managed,
        )
    }))
}

fn neighbour_state(state: Nud) -> NeighbourState {
    match state {
        Nud::None => NeighbourState::None,
        Nud::Incomplete => NeighbourState::Incomplete,
        Nud::Reachable => NeighbourState::Reachable,
        Nud::Stale => NeighbourState::Stale,
        Nud::Delay => NeighbourState::Delay,
        Nud::Probe => NeighbourState::Probe,
        Nud::Failed => NeighbourState::Failed,
        Nud::Noarp => NeighbourState::NoArp,
        Nud::Permanent => NeighbourState::Permanent,
        other => NeighbourState::Other(other.into()),
    }
}

/// Decodes `struct tcmsg` of a filter. `None` for the classifier that holds the filters of one
/// priority, which `tcf_chain_dump` lists without options before them.
pub(super) fn filter(payload: &[u8]) -> Result<Option<TcFilter>, DecodeError> {
    let header = TcHeader::parse(payload)?;
    let mut kind = String::new();
    let mut options = None;
    for attribute in attributes(&payload[TCMSG_BYTES..]) {
        match attribute? {
            (libc::TCA_KIND, value) => kind = text(value),
            (libc::TCA_OPTIONS, value) => options = Some(value),
            _ => {}
        }
    }
    let Some(options) = options else {
        return Ok(None);
    };
    let mut filter = TcFilter {
        // the low half of tcm_info is the protocol
        priority: TcHandle::from(header.info).major,
        handle: header.handle.into(),
        kind,
        name: None,
        program_id: None,
    };
    if filter.kind == "bpf" {
        for attribute in attributes(options) {
            match attribute? {
                (TCA_BPF_NAME, value) => filter.name = Some(text(value)),
                (TCA_BPF_ID, value) => filter.program_id = Some(parse_u32(value)?),
                _ => {}
            }
        }
    }
    Ok(Some(filter))
}

/// Decodes `struct tcmsg` of a queueing discipline: its interface and its kind.
pub(super) fn qdisc(payload: &[u8]) -> Result<(Option<u32>, String), DecodeError> {
    let interface = tc_interface(payload)?;
    for attribute in attributes(&payload[TCMSG_BYTES..]) {
        if let (libc::TCA_KIND, value) = attribute? {
            return Ok((interface, text(value)));
        }
    }
    Ok((interface, String::new()))
}

/// Decodes `struct tcmsg` of a root queueing discipline: its interface, and `struct
/// gnet_stats_queue`. `None` for others.
pub(super) fn queue(payload: &[u8]) -> Result<Option<(u32, Queue)>, DecodeError> {
    let is_root = TcHeader::parse(payload)?.parent == TcHandle::ROOT;
    let Some(interface) = tc_interface(payload)?.filter(|_| is_root) else {
        return Ok(None);
    };
    let mut queue = Queue::default();
    for attribute in attributes(&payload[TCMSG_BYTES..]) {
        match attribute? {
            (libc::TCA_KIND, value) => queue.kind = text(value),
            (libc::TCA_STATS2, value) => {
                for attribute in attributes(value) {
                    if let (TCA_STATS_QUEUE, value) = attribute? {
                        let word =
                            |at: usize| value.get(4 * at..4 * at + 4).map_or(Ok(0), parse_u32);
                        (queue.packets, queue.bytes, queue.drops) = (word(0)?, word(1)?, word(2)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some((interface, queue)))
}

/// Decodes the sum of `tx_errors` and `tx_dropped` of `struct rtnl_link_stats64`. `None` if the
/// kernel does not report them.
pub(super) fn device_drops(payload: &[u8]) -> Result<Option<u64>, DecodeError> {
    const TX_ERRORS: usize = 5;
    const TX_DROPPED: usize = 7;
    LinkHeader::parse(payload)?;
    for attribute in attributes(&payload[IFINFOMSG_BYTES..]) {
        if let (IFLA_STATS64, value) = attribute? {
            let word = |at: usize| {
                value
                    .get(8 * at..8 * at + 8)
                    .and_then(|bytes| bytes.try_into().ok())
            };
            let counts = [TX_ERRORS, TX_DROPPED].map(|at| word(at).map_or(0, u64::from_ne_bytes));
            return Ok(Some(counts.iter().sum()));
        }
    }
    Ok(None)
}

/// The interface in `struct tcmsg`; a block that interfaces share has none
/// (`TCM_IFINDEX_MAGIC_BLOCK`).
pub(super) fn tc_interface(payload: &[u8]) -> Result<Option<u32>, DecodeError> {
    Ok(u32::try_from(TcHeader::parse(payload)?.index).ok())
}

fn is_ip(family: AddressFamily) -> bool {
    matches!(family, AddressFamily::Inet | AddressFamily::Inet6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for length in (0..120).cycle().take(20_000) {
            // small values make many plausible attributes
            let bytes: Vec<u8> = (0..length)
                .map(|_| random() % if length % 2 == 0 { 24 } else { 255 })
                .collect();
            let _ = link(&bytes);
            let _ = address(&bytes);
            let _ = route(&bytes);
            let _ = neighbour(&bytes);
            let _ = filter(&bytes);
            let _ = qdisc(&bytes);
            let _ = queue(&bytes);
            let _ = device_drops(&bytes);
        }
    }

    #[test]
    fn a_name_ends_at_its_zero_and_need_not_be_utf_8() {
        assert_eq!(text(b"eth0\0"), "eth0");
        assert_eq!(text(b"eth0"), "eth0");
        assert_eq!(text(b""), "");
        assert_eq!(text(b"eth\xff\0"), "eth\u{fffd}");
    }
}
