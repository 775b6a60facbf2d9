//! Whether a segmenter is wanted, which costs a host that has no use for it nothing.

use std::collections::BTreeMap;

use traffic_mirror_ebpf::abi::{self, EndpointPair, Oversize};
use traffic_mirror_ebpf::packet::protocol::{SCTP, TCP, UDP};

use crate::compile::hooks::Hook;
use crate::desired::{Action, Desired, Filter};
use crate::network::{Direction, Link, Network};

/// The monitored interface with the longest packets.
pub fn longest<'n>(hooks: &BTreeMap<u32, Hook>, network: &'n Network) -> Option<&'n Link> {
    hooks
        .values()
        .filter_map(|hook| network.links.get(&hook.interface))
        .max_by_key(|link| link.mtu)
}

/// Length of an interface's longest packet after encapsulation, bytes, if copies are sent and it
/// exceeds the MTU.
pub fn too_long(endpoint: &abi::Endpoint, longest: &Link) -> Option<u32> {
    let bytes = if endpoint.snap == 0 {
        longest.mtu
    } else {
        longest.mtu.min(endpoint.snap)
    };
    let wrapped = bytes + endpoint.outer_bytes;
    (endpoint.has_way() && wrapped > endpoint.mtu).then_some(wrapped)
}

/// Whether a segmenter is wanted: a superpacket of the longest packets would not fit, and may be of
/// a kind that cannot be segmented after encapsulation or has checksums to be computed; or a
/// superpacket came that could not be sent without one. `endpoints` are in the order of the file.
pub(in crate::compile) fn is_wanted(
    desired: &Desired,
    endpoints: &[EndpointPair],
    hooks: &BTreeMap<u32, Hook>,
    network: &Network,
) -> bool {
    let longest = longest(hooks, network);
    let is_sent_bare = hooks.values().any(|hook| {
        hook.direction == Direction::Egress && network.unsummed.contains(&hook.interface)
    });
    let needs = |(position, [endpoint, _]): (usize, &EndpointPair)| {
        let cut = cut(endpoint, longest, is_sent_bare);
        endpoint.has_way()
            && desired
                .filters
                .iter()
                .filter(|filter| filter.enabled && filter.to.contains(&position))
                .any(|filter| {
                    filter.action == Action::Mirror
                        && cut
                            .iter()
                            .flatten()
                            .any(|protocol| takes(filter, *protocol))
                })
    };
    desired.enabled && (network.segmenter_missed || endpoints.iter().enumerate().any(needs))
}

/// Protocols whose superpackets are segmented before they are sent to an endpoint, given the
/// interface with the longest packets and whether a monitored interface has no TX checksum offload.
pub(in crate::compile) fn cut(
    endpoint: &abi::Endpoint,
    longest: Option<&Link>,
    is_sent_bare: bool,
) -> [Option<u8>; 3] {
    let too_long = longest.filter(|longest| too_long(endpoint, longest).is_some());
    let too_long = too_long.filter(|_| endpoint.oversize != Oversize::Drop as u32);
    let is_summed = endpoint.summed != 0;
    // a TCP superpacket that does not fit gets smaller segments instead, unless not even the
    // original fits
    let is_tcp = is_summed || too_long.is_some_and(|longest| longest.mtu > endpoint.mtu);
    let is_sctp = is_summed || too_long.is_some();
    let is_udp = is_sctp || is_sent_bare;
    [
        is_udp.then_some(UDP),
        is_sctp.then_some(SCTP),
        is_tcp.then_some(TCP),
    ]
}

/// Whether a filter may match packets of a protocol.
pub(in crate::compile) fn takes(filter: &Filter, protocol: u8) -> bool {
    filter.protocol.is_empty() || filter.protocol.contains(&protocol)
}
