//! Links, addresses, routes, neighbours, tc filters and IPsec policies, read over netlink. Input:
//! requests. Output: types of [`network`](crate::network) and coarse change events. Opens no other
//! socket.

mod decode;
mod device;
mod error;
mod monitor;
mod queue;
mod socket;
mod tc;
mod xfrm;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

pub use self::device::BARE_MTU;
pub use self::error::Error;
pub use self::monitor::{Event, Monitor};
use self::socket::{Answer, RequestSocket};
pub use self::tc::FilterPlace;
use self::xfrm::Xfrm;
use traffic_mirror_ebpf::packet::protocol;

use crate::network::{Link, Neighbour, NeighbourState, Route, RouteKind};

/// A socket for requests to the network namespace that the thread was in when it was opened.
pub struct Netlink {
    socket: RequestSocket,
    xfrm: Xfrm,
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: RequestSocket::open(NETLINK_ROUTE)?,
            xfrm: Xfrm::default(),
        })
    }

    /// All interfaces, by index.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn links(&mut self) -> Result<BTreeMap<u32, Link>, Error> {
        let what = "list the interfaces";
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self
            .socket
            .dump(&what, RouteNetlinkMessage::GetLink(message))?;
        let links = each(&what, &answers, libc::RTM_NEWLINK, decode::link)?;
        Ok(links.into_iter().map(|link| (link.index, link)).collect())
    }

    /// All addresses of this host, on all interfaces. A destination can be local without one:
    /// `127.0.0.2`, or by a `local` route.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let what = "list the addresses";
        let answers = self.socket.dump(
            &what,
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        )?;
        let addresses = each(&what, &answers, libc::RTM_NEWADDR, decode::address)?;
        Ok(addresses.into_iter().flatten().collect())
    }

    /// The route of a UDP packet of this host to `destination`, as in `ip route get ADDRESS ipproto
    /// udp dport PORT [oif INTERFACE]`: rules may match protocol and ports. Of several next hops it
    /// is the one that the kernel selects for this destination. `None` if there is no route, a
    /// route that rejects, or no such interface.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn route(
        &mut self,
        destination: SocketAddr,
        interface: Option<u32>,
    ) -> Result<Option<Route>, Error> {
        let Some(mut route) = self.look_up(destination, interface, RouteFlags::empty())? else {
            return Ok(None);
        };
        let may_be_assumed =
            destination.is_ipv4() && interface.is_some() && route.gateway.is_none();
        if may_be_assumed && route.kind != RouteKind::Local {
            route.assumed = self
                .look_up(destination, interface, RouteFlags::FibMatch)?
                .is_none();
        }
        Ok(Some(route))
    }

    /// One look-up. With [`RouteFlags::FibMatch`] the answer is the matching table entry (no source
    /// address, all next hops), without it the route of one packet.
    fn look_up(
        &mut self,
        destination: SocketAddr,
        interface: Option<u32>,
        flags: RouteFlags,
    ) -> Result<Option<Route>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.ip());
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.header.flags = flags;
        message
            .attributes
            .push(RouteAttribute::Destination(destination.ip().into()));
        message
            .attributes
            .push(RouteAttribute::IpProto(protocol::UDP));
        message
            .attributes
            .push(RouteAttribute::Dport(destination.port()));
        message
            .attributes
            .extend(interface.map(RouteAttribute::Oif));
        let what = RouteRequest {
            destination,
            interface,
        };
        match self
            .socket
            .single(&what, RouteNetlinkMessage::GetRoute(message), 0)
        {
            Ok(answers) => Ok(each(&what, &answers, libc::RTM_NEWROUTE, decode::route)?.pop()),
            Err(Error::Refused { errno, hint, .. }) if means_no_route(errno, hint.as_deref()) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The entry for `address` in the neighbour table of `interface`. `None` if there is no entry
    /// or no such interface.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, Error> {
        Ok(self
            .neighbour_entry(interface, address)?
            .map(|(neighbour, _)| neighbour))
    }

    fn neighbour_entry(
        &mut self,
        interface: u32,
        address: IpAddr,
    ) -> Result<Option<(Neighbour, bool)>, Error> {
        let what = format_args!("read neighbour {address} on interface {interface}");
        let message = RouteNetlinkMessage::GetNeighbour(neighbour_message(interface, address));
        match self.socket.single(&what, message, 0) {
            Ok(answers) => Ok(
                each(&what, &answers, libc::RTM_NEWNEIGH, decode::neighbour)?
                    .pop()
                    .flatten(),
            ),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel resolve the hardware address of `address`, as a packet to it would; the
    /// answer comes as an [`Event::Neighbour`]. Does nothing for a usable entry, one that is being
    /// resolved, and one that the kernel keeps resolved for another process. Without a link-local
    /// address on the interface the kernel does not resolve IPv6 neighbours this way
    /// (`ndisc_send_ns`).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn resolve(&mut self, interface: u32, address: IpAddr) -> Result<(), Error> {
        self.use_neighbour(interface, address, |state| {
            !state.usable() && state != NeighbourState::Incomplete
        })
    }

    /// The same, and also makes the kernel check a stale entry, as a packet to it would.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn look_after(&mut self, interface: u32, address: IpAddr) -> Result<(), Error> {
        self.use_neighbour(interface, address, |state| {
            state == NeighbourState::Stale || !state.usable() && state != NeighbourState::Incomplete
        })
    }

    fn use_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        needs_help: impl Fn(NeighbourState) -> bool,
    ) -> Result<(), Error> {
        // NTF_USE takes NUD_PERMANENT, NTF_MANAGED and NTF_EXT_LEARNED from an entry that has them
        // (__neigh_update)
        if let Some((live, managed)) = self.neighbour_entry(interface, address)?
            && (managed || !needs_help(live.state))
        {
            return Ok(());
        }
        let what = format_args!("resolve neighbour {address} on interface {interface}");
        let mut message = neighbour_message(interface, address);
        message.header.flags = NeighbourFlags::Use;
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.socket
            .single(&what, message, NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }
}

/// Decodes the answers of one kind.
fn each<T>(
    what: &dyn Display,
    answers: &[Answer],
    kind: u16,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, Error> {
    answers
        .iter()
        .filter(|answer| answer.kind == kind)
        .map(|answer| decode(&answer.payload))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Malformed {
            request: what.to_string(),
            reason: error.to_string(),
        })
}

/// What the kernel answers if a packet could not be sent: the errors of `fib_props`, of
/// `ip_route_output_key_hash_rcu` and of `ip6_null_entry`. A blackhole's is the one for a bad
/// request, which comes with an explanation.
fn means_no_route(errno: Errno, hint: Option<&str>) -> bool {
    use Errno::{EACCES, EAGAIN, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENONET};
    match errno {
        ENETUNREACH | EHOSTUNREACH | EACCES | EAGAIN | ENODEV | ENETDOWN | ENONET => true,
        EINVAL => hint.is_none(),
        _ => false,
    }
}

struct RouteRequest {
    destination: SocketAddr,
    interface: Option<u32>,
}

impl Display for RouteRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "look up the route to {} port {}",
            self.destination.ip(),
            self.destination.port()
        )?;
        self.interface
            .map_or(Ok(()), |interface| write!(f, " by interface {interface}"))
    }
}

fn neighbour_message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
