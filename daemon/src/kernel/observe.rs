//! Reads what [`Network`] holds, and has the kernel find neighbours that it does not know.

use super::{Kernel, KernelError};
use crate::desired::{Desired, Endpoint};
use crate::network::{LinkKind, Network, Path, RouteKind};

impl Kernel {
    /// What the network is like, as far as the file is concerned with it.
    ///
    /// # Errors
    /// A netlink request fails.
    pub fn observe(&mut self, desired: &Desired) -> Result<Network, KernelError> {
        let mut network = Network {
            links: self.netlink.links()?,
            refused: self.refused.clone(),
            rewired: self.rewired.clone(),
            ..Network::default()
        };
        for endpoint in &desired.endpoints {
            let path = self.path(endpoint, &network)?;
            network.paths.insert(endpoint.name.clone(), path);
        }
        Ok(network)
    }

    fn path(&mut self, endpoint: &Endpoint, network: &Network) -> Result<Path, KernelError> {
        // asked for with an interface, the kernel answers as if even an address of its own were elsewhere
        let anywhere = self.netlink.route(endpoint.address, None)?;
        let own = anywhere.as_ref().is_some_and(|route| route.kind == RouteKind::Local);
        let route = match &endpoint.interface {
            None => anywhere,
            Some(name) => match network.link(name) {
                None => None,
                Some(link) => self.netlink.route(endpoint.address, Some(link.index))?,
            },
        };
        let mut path = Path { own, route, mac: None };
        let Some(route) = path.route.as_ref().filter(|route| !own && !route.assumed) else { return Ok(path) };
        let ethernet = network.links.get(&route.interface).is_some_and(|l| l.kind == LinkKind::Ethernet && l.up);
        if ethernet {
            let next_hop = route.gateway.unwrap_or(endpoint.address);
            let neighbour = self.netlink.neighbour(route.interface, next_hop)?;
            path.mac = neighbour.and_then(|neighbour| neighbour.usable_mac());
            if path.mac.is_none() {
                // a full neighbour table, say, must not stand in the way of everything else; the next look tries again
                let _ = self.netlink.resolve(route.interface, next_hop);
            }
        }
        Ok(path)
    }
}
