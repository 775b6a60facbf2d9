//! Input: the kernel's notifications. Output: what to read again, as coarse events.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::DecodeError;
use netlink_packet_route::link::LinkHeader;
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_XFRM};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::decode;
use super::error::Error;
use super::socket::{self, Message, Received};
use super::xfrm;

const GROUPS: [u32; 10] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_TC,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    // the inputs of a route look-up: routes, rules that select tables, next hops that routes share
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// Room for some thousand notifications, each charged with about a kilobyte.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A drain stops here, so that endless churn cannot keep it from returning; the rest waits in the
/// socket.
const DRAIN_DATAGRAMS: usize = 4096;

// include/uapi/linux/rtnetlink.h
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Something that may have changed, to be read again. Not a description of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The kernel had to drop notifications: anything may have changed.
    Overrun,
    /// An interface came, went or changed. Routes through it may have gone without a
    /// [`Event::Route`] of their own: IPv4 drops them silently with the link (`fib_sync_down_dev`).
    Link {
        /// Index of the interface.
        index: u32,
    },
    /// An address of this host came or went.
    Address,
    /// A route, a rule or a next hop changed. A path MTU or a redirect learned from ICMP does not
    /// show here.
    Route,
    /// An entry of a neighbour table changed.
    Neighbour {
        /// Index of its interface.
        interface: u32,
        /// Its address.
        address: IpAddr,
    },
    /// A queueing discipline or a filter of an interface changed. TCX links do not show here.
    Tc {
        /// Index of the interface.
        interface: u32,
    },
    /// An IPsec policy came, went or changed.
    Policy,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overrun => f.write_str("lost notifications"),
            Self::Link { index } => write!(f, "interface {index}"),
            Self::Address => f.write_str("addresses"),
            Self::Route => f.write_str("routes"),
            Self::Neighbour { interface, address } => {
                write!(f, "neighbour {address} of interface {interface}")
            }
            Self::Tc { interface } => write!(f, "tc of interface {interface}"),
            Self::Policy => f.write_str("IPsec policies"),
        }
    }
}

/// A subscription to the changes of this network namespace's links, addresses, routes, neighbours,
/// tc hooks and IPsec policies. What happens from [`Monitor::open`] on is not missed: open it
/// first, then read the state.
pub struct Monitor {
    /// One for each protocol, route netlink first; each protocol numbers its own messages.
    sockets: Vec<(Socket, Decode)>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let mut sockets: Vec<(Socket, Decode)> = vec![(subscribe(NETLINK_ROUTE, &GROUPS)?, event)];
        match subscribe(NETLINK_XFRM, &[xfrm::XFRMNLGRP_POLICY]) {
            Ok(socket) => sockets.push((socket, |_| Ok(Some(Event::Policy)))),
            Err(error) if xfrm::is_missing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            sockets,
            buffer: socket::buffer(),
        })
    }

    /// Waits until there is something to drain; without a timeout there is no limit. `false` after
    /// the timeout or a signal.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            PollTimeout::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut sockets: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut sockets, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::Socket {
                action: "wait for",
                errno,
            }),
        }
    }

    /// Takes what has arrived, each event once, without waiting. The events of all neighbours are
    /// among them; on a busy link that can be thousands.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn drain(&mut self) -> Result<BTreeSet<Event>, Error> {
        let Self { sockets, buffer } = self;
        let mut events = BTreeSet::new();
        for (socket, decode) in sockets {
            events.extend(drain(socket, buffer, *decode)?);
        }
        Ok(events)
    }
}

/// The socket of route netlink.
impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sockets[0].0.as_fd()
    }
}

/// The event of a message.
type Decode = fn(&Message<'_>) -> Result<Option<Event>, DecodeError>;

fn subscribe(protocol: isize, groups: &[u32]) -> Result<Socket, Error> {
    let socket = socket::open(protocol)?;
    // if rejected (no CAP_NET_ADMIN), the default buffer overruns sooner, which is an event
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
    for group in groups {
        socket
            .add_membership(*group)
            .map_err(|error| Error::socket("subscribe", &error))?;
    }
    Ok(socket)
}

fn drain(socket: &Socket, buffer: &mut Vec<u8>, decode: Decode) -> Result<BTreeSet<Event>, Error> {
    let mut events = BTreeSet::new();
    let mut datagrams = 0;
    // After an overrun the kernel drops all messages until the socket is empty
    // (NETLINK_S_CONGESTED): then the limit does not apply, and is not needed.
    while datagrams < DRAIN_DATAGRAMS || events.contains(&Event::Overrun) {
        match socket::receive(socket, buffer, libc::MSG_DONTWAIT)? {
            Received::Nothing => break,
            Received::Lost => {
                events.insert(Event::Overrun);
            }
            Received::Datagram => {
                // what cannot be understood may mean anything
                let understood = socket::messages(buffer)
                    .filter_map(|message| decode(&message).unwrap_or(Some(Event::Overrun)));
                events.extend(understood);
            }
        }
        datagrams += 1;
    }
    Ok(events)
}

fn event(message: &Message<'_>) -> Result<Option<Event>, DecodeError> {
    Ok(match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => Some(Event::Link {
            index: LinkHeader::parse(message.payload)?.index,
        }),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Event::Address),
        libc::RTM_NEWROUTE
        | libc::RTM_DELROUTE
        | libc::RTM_NEWRULE
        | libc::RTM_DELRULE
        | RTM_NEWNEXTHOP
        | RTM_DELNEXTHOP => Some(Event::Route),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            decode::neighbour(message.payload)?.map(|(neighbour, _)| Event::Neighbour {
                interface: neighbour.interface,
                address: neighbour.address,
            })
        }
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC | libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
            decode::tc_interface(message.payload)?.map(|interface| Event::Tc { interface })
        }
        _ => None,
    })
}
