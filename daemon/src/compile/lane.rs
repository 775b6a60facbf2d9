//! Whether a lane is wanted, which costs a host that has no use for it nothing.

use std::collections::BTreeMap;

use traffic_mirror_ebpf::abi::{self, EndpointPair, Oversize};
use traffic_mirror_ebpf::packet::protocol::{SCTP, TCP, UDP};

use super::hooks::Hook;
use crate::desired::{Action, Desired};
use crate::network::{Link, Network};

/// The interface with the longest packets, of those that are looked at.
pub fn longest<'n>(hooks: &BTreeMap<u32, Hook>, network: &'n Network) -> Option<&'n Link> {
    hooks.values().filter_map(|hook| network.links.get(&hook.interface)).max_by_key(|link| link.mtu)
}

/// Bytes that the longest packet of an interface has once wrapped, if copies are sent and that is too long.
pub fn too_long(endpoint: &abi::Endpoint, longest: &Link) -> Option<u32> {
    let bytes = if endpoint.snap == 0 { longest.mtu } else { longest.mtu.min(endpoint.snap) };
    let wrapped = bytes + endpoint.outer_bytes;
    (endpoint.has_way() && wrapped > endpoint.mtu).then_some(wrapped)
}

/// A superpacket of the longest packets would not fit, or one of any kind has come that could not be sent without. `endpoints` are
/// in the order of the file.
pub(super) fn is_wanted(
    desired: &Desired,
    endpoints: &[EndpointPair],
    hooks: &BTreeMap<u32, Hook>,
    network: &Network,
) -> bool {
    let longest = longest(hooks, network);
    let needs = |(position, [endpoint, _]): (usize, &EndpointPair)| {
        let Some(longest) = longest.filter(|longest| too_long(endpoint, longest).is_some()) else { return false };
        // TCP is cut smaller instead, unless not even what is not wrapped fits
        let is_tcp_too = longest.mtu > endpoint.mtu;
        let protocols = [Some(UDP), Some(SCTP), is_tcp_too.then_some(TCP)];
        endpoint.oversize != Oversize::Drop as u32
            && desired.filters.iter().filter(|filter| filter.enabled && filter.to.contains(&position)).any(|filter| {
                let takes = |protocol| filter.protocol.is_empty() || filter.protocol.contains(protocol);
                filter.action == Action::Mirror && protocols.iter().flatten().any(takes)
            })
    };
    desired.enabled && (network.lane_missed || endpoints.iter().enumerate().any(needs))
}
