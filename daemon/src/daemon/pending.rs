//! The events since the last round.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::load::trim;
use super::timers::Timers;
use crate::compile::called;
use crate::debounce::Debounce;
use crate::desired::Desired;
use crate::dns::Resolver;
use crate::kernel::netlink::Event;
use crate::metrics::Textfile;
use crate::network::{Link, Network, Path};
use crate::source::ConfigSource;
use crate::triggers::{End, Trigger, Triggers};

/// Changes of the network come in bursts.
const QUIET: Duration = Duration::from_millis(20);
const QUIET_MOST: Duration = Duration::from_secs(1);

/// The events since the last round, except those that the source holds.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) reload: bool,
    pub(super) network: BTreeSet<Event>,
    pub(super) cgroups: bool,
    pub(super) timer: bool,
}

impl Pending {
    /// Whether another process may have undone something that the network does not show.
    pub(super) fn may_have_undone(&self) -> bool {
        let is_innocent = |event: &Event| {
            matches!(
                event,
                Event::Neighbour { .. } | Event::Address | Event::Route
            )
        };
        self.timer || !self.network.iter().all(is_innocent)
    }

    /// Whether anything that was seen of the network bears on what is desired.
    pub(super) fn concerns(&self, network: &Network, desired: &Desired) -> bool {
        self.timer
            || self.cgroups
            || self.network.iter().any(|event| match *event {
                Event::Neighbour { interface, address } => {
                    is_next_hop(network, desired, interface, address)
                }
                Event::Tc { interface } => has_program_of_ours(network, desired, interface),
                Event::Overrun
                | Event::Link { .. }
                | Event::Address
                | Event::Route
                | Event::Policy => true,
            })
    }
}

/// What has come, for the log.
impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.iter().map(Event::to_string);
        let others = [
            (self.reload, "SIGHUP"),
            (self.cgroups, "cgroups"),
            (self.timer, "the check for silent changes"),
        ];
        let others = others.iter().filter(|(is_so, _)| *is_so);
        let parts: Vec<String> = others
            .map(|(_, what)| (*what).to_owned())
            .chain(network)
            .collect();
        f.write_str(&match parts.is_empty() {
            true => "a file or a timer".to_owned(),
            false => parts.join(", "),
        })
    }
}

/// Whether copies go by that next hop.
fn is_next_hop(network: &Network, desired: &Desired, interface: u32, address: IpAddr) -> bool {
    desired.endpoints.iter().any(|endpoint| {
        let route = network
            .paths
            .get(&endpoint.name)
            .and_then(|path| path.route.as_ref());
        route.is_some_and(|r| {
            r.interface == interface && r.gateway.or(endpoint.address) == Some(address)
        })
    })
}

/// Whether programs of ours belong on an interface: somebody may have taken them off. That we put
/// them there ends in a look that finds nothing to do.
fn has_program_of_ours(network: &Network, desired: &Desired, interface: u32) -> bool {
    let is_output = |path: &Path| {
        path.route
            .as_ref()
            .is_some_and(|route| route.interface == interface)
    };
    let is_listed = |link: &Link| {
        desired
            .interfaces
            .iter()
            .any(|listed| called(&listed.name, link).is_some())
    };
    network.paths.values().any(is_output)
        || network.segmenter_parts.contains(&interface)
        || network.links.get(&interface).is_some_and(is_listed)
}

/// Waits until something is due, the next timer at the latest, or until it is time to end, and
/// meanwhile writes the metrics. In a `hurry` it takes no more than what has come already.
pub(super) fn gather(
    triggers: &Triggers,
    (source, resolver): (&mut ConfigSource, &mut Resolver),
    metrics: &mut Textfile,
    timers: &Timers,
    hurry: bool,
) -> Result<Pending, End> {
    let (mut pending, mut has_all) = (Pending::default(), false);
    let mut debounce = Debounce::default();
    loop {
        let now = Instant::now();
        let network = debounce.due().map(|due| due.max(timers.rested));
        let timer = timers.drift.min(timers.pulse.due());
        let due = [source.due(), resolver.due(), network]
            .into_iter()
            .flatten()
            .fold(timer, Instant::min);
        if due <= now || pending.reload || has_all {
            return Ok(pending);
        }
        if metrics.due() <= now {
            metrics.write();
            trim();
            continue;
        }
        let patience = if hurry {
            Duration::ZERO
        } else {
            due.min(metrics.due()) - now
        };
        match triggers.next(patience) {
            Some(Trigger::End(end)) => return Err(end),
            Some(Trigger::File(save)) => source.tell(save),
            Some(Trigger::Names(save)) => resolver.tell(save),
            Some(Trigger::Reload) => pending.reload = true,
            Some(Trigger::Network(events)) => {
                pending.network.extend(events);
                debounce.extend(Instant::now(), QUIET, QUIET_MOST);
            }
            Some(Trigger::Cgroups) => {
                pending.cgroups = true;
                debounce.extend(Instant::now(), QUIET, QUIET_MOST);
            }
            None => has_all = hurry,
        }
    }
}
