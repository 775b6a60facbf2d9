//! Interfaces that the daemon creates, and properties of others that route netlink does not report.

use std::fmt::Display;

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use nix::errno::Errno;

use super::{Error, Netlink, decode, each};
use crate::network::Link;

/// What people see beside the name.
const ALIAS: &str = "traffic-mirror: segments superpackets";

/// The least that an Ethernet interface takes (`ETH_MIN_MTU`).
pub const BARE_MTU: u32 = 68;

/// `struct ethtool_value` of include/uapi/linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Netlink {
    /// Whether an interface has TX checksum offload of any kind (`ethtool -k`: tx-checksumming);
    /// `None` if it is gone or does not report it.
    pub fn has_tx_checksums(&self, name: &str) -> Option<bool> {
        const ETHTOOL_GTXCSUM: u32 = 0x16;
        let mut value = Value {
            command: ETHTOOL_GTXCSUM,
            data: 0,
        };
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut value).cast(),
            },
        };
        if name.len() >= request.ifr_name.len() {
            return None;
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the request is valid and ends its name with 0; the kernel writes no more than the
        // two words of `value`.
        let done = unsafe { libc::ioctl(self.socket.raw(), libc::SIOCETHTOOL, &raw mut request) };
        (done == 0).then_some(value.data != 0)
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// Any [`Error`]: `ENODEV` if the interface does not exist.
    pub fn named(&mut self, name: &str) -> Result<Link, Error> {
        let found = self.links()?.into_values().find(|link| link.name == name);
        found.ok_or_else(|| Error::Refused {
            request: format!("find interface {name}"),
            errno: Errno::ENODEV,
            hint: None,
        })
    }

    /// The interface of that index; `None` if it does not exist.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn link(&mut self, index: u32) -> Result<Option<Link>, Error> {
        self.of_link(&format_args!("read interface {index}"), index, decode::link)
    }

    /// Makes a pair of veth interfaces, down.
    ///
    /// # Errors
    /// Any [`Error`]: `EEXIST` if there is one of that name, `EOPNOTSUPP` if the kernel has none.
    pub fn add_veth(&mut self, name: &str, peer: &str) -> Result<(), Error> {
        let peer = InfoVeth::Peer(message(peer));
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(peer)),
        ];
        self.add_link(name, [LinkAttribute::LinkInfo(info)])
    }

    /// Creates a macvlan interface on another one, down. All packets that it sends leave by that
    /// one.
    ///
    /// # Errors
    /// Any [`Error`], as [`Netlink::add_veth`].
    pub fn add_macvlan(&mut self, name: &str, upon: u32) -> Result<(), Error> {
        let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)]);
        let info = LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(data),
        ]);
        self.add_link(name, [LinkAttribute::Link(upon), info])
    }

    fn add_link(
        &mut self,
        name: &str,
        attributes: impl IntoIterator<Item = LinkAttribute>,
    ) -> Result<(), Error> {
        let what = format_args!("make interface {name}");
        let mut message = message(name);
        message.attributes.extend(attributes);
        self.socket
            .single(
                &what,
                RouteNetlinkMessage::NewLink(message),
                NLM_F_CREATE | NLM_F_EXCL,
            )
            .map(drop)
    }

    /// Makes the kernel segment packets with more segments or bytes before the interface sends
    /// them.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn limit_gso(&mut self, link: &Link, [segments, bytes]: [u32; 2]) -> Result<(), Error> {
        self.set_link(
            link,
            [
                LinkAttribute::GsoMaxSegs(segments),
                LinkAttribute::GsoMaxSize(bytes),
            ],
        )
    }

    /// Sets an interface up that must not be used for other traffic: without ARP, and with
    /// [`BARE_MTU`]. Below 1,280 bytes it has no IPv6, which would add a multicast route
    /// (`addrconf_add_mroute`); and a veth drops longer packets (`is_skb_forwardable`).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn set_up_bare(&mut self, link: &Link) -> Result<(), Error> {
        self.set_link(
            link,
            [
                LinkAttribute::Mtu(BARE_MTU),
                LinkAttribute::IfAlias(ALIAS.to_owned()),
            ],
        )?;
        let what = format_args!("set up interface {}", link.name);
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
        message.header.change_mask = message.header.flags;
        self.socket
            .single(&what, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    fn set_link(
        &mut self,
        link: &Link,
        attributes: impl IntoIterator<Item = LinkAttribute>,
    ) -> Result<(), Error> {
        let what = format_args!("change interface {}", link.name);
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes.extend(attributes);
        self.socket
            .single(&what, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    /// What the kernel says of the interface of that index; `None` if there is none.
    pub(super) fn of_link<T>(
        &mut self,
        what: &dyn Display,
        index: u32,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self
            .socket
            .single(what, RouteNetlinkMessage::GetLink(message), 0)
        {
            Ok(answers) => Ok(each(what, &answers, libc::RTM_NEWLINK, decode)?.pop()),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes an interface. Fine if it is gone.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let what = format_args!("delete interface {index}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self
            .socket
            .single(&what, RouteNetlinkMessage::DelLink(message), 0)
        {
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
            done => done.map(drop),
        }
    }
}

fn message(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}
