//! Input: a verdict, the file that the daemon follows and the addresses of its DNS names. Output:
//! the verdict with these names. Pure.

use traffic_mirror_ebpf::abi::Drop;
use traffic_mirror_resolver::Names;

use super::{Flow, Miss, Verdict};
use crate::compile::NO_ADDRESS;
use crate::desired::{Desired, Filter};
use crate::status::{origin_of, origins};

impl Verdict {
    /// Whether a filter misses, or an endpoint gets nothing, for want of the address of a DNS name.
    pub fn lacks_address(&self) -> bool {
        let is_none = |wants: &String| wants == NO_ADDRESS;
        let mut misses = self.near_misses.iter().flat_map(|miss| &miss.wants);
        let no_address = Drop::NoAddress.label();
        misses.any(is_none) || self.goes_to.iter().any(|target| target.state == no_address)
    }

    /// Says of which DNS names the addresses are by which filters matched and endpoints are
    /// reached.
    pub fn add_dns_names(&mut self, desired: &Desired, names: &Names) {
        let by_name = |name: &str| {
            let place = desired
                .filters
                .binary_search_by(|one| one.name.as_str().cmp(name));
            place.ok().map(|place| &*desired.filters[place])
        };
        if let Some(Flow {
            source,
            destination,
            ..
        }) = self.packet
        {
            for one in &mut self.matches {
                if let Some(filter) = by_name(&one.filter) {
                    one.dns_names = origins(filter, (source, destination), names);
                }
            }
        }
        for miss in &mut self.near_misses {
            if let Some(filter) = by_name(&miss.filter) {
                miss.dns_names = wanted(miss, filter);
            }
        }
        for target in &mut self.goes_to {
            target.dns_name = origin_of(desired, &target.endpoint, target.address, names);
        }
    }
}

/// The names that a filter gives in the field that fails; of a bidirectional one those of both
/// sides, since the packet may be on its way back.
fn wanted(miss: &Miss, filter: &Filter) -> Vec<String> {
    let sides = [
        ("source", &filter.source_name),
        ("destination", &filter.destination_name),
    ];
    let is_address = sides.iter().any(|(field, _)| *field == miss.field);
    let given = sides
        .into_iter()
        .filter(|(field, _)| *field == miss.field || is_address && filter.bidirectional);
    given
        .flat_map(|(_, names)| names.iter().map(ToString::to_string))
        .collect()
}
