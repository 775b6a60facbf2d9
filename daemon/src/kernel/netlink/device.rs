//! Interfaces that the daemon makes.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use nix::errno::Errno;

use super::{Error, Netlink};

/// What people see beside the name.
const ALIAS: &str = "traffic-mirror: cuts superpackets into packets";

impl Netlink {
    /// Makes a pair of veth interfaces, down.
    ///
    /// # Errors
    /// Any [`Error`]: `EEXIST` if there is one of that name, `EOPNOTSUPP` if the kernel has none.
    pub fn add_veth(&mut self, name: &str, peer: &str) -> Result<(), Error> {
        let peer = InfoVeth::Peer(named(peer));
        let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(peer))];
        self.add_link(name, [LinkAttribute::LinkInfo(info)])
    }

    /// Makes a macvlan interface upon another one, down. What it sends leaves by that one, whoever it is for.
    ///
    /// # Errors
    /// Any [`Error`], as [`Netlink::add_veth`].
    pub fn add_macvlan(&mut self, name: &str, upon: u32) -> Result<(), Error> {
        let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)]);
        let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(data)]);
        self.add_link(name, [LinkAttribute::Link(upon), info])
    }

    fn add_link(&mut self, name: &str, attributes: impl IntoIterator<Item = LinkAttribute>) -> Result<(), Error> {
        let what = format_args!("make interface {name}");
        let mut message = named(name);
        message.attributes.extend(attributes);
        self.socket.single(&what, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Has the kernel cut what has more segments or bytes before the interface sends it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn limit_gso(&mut self, index: u32, [segments, bytes]: [u32; 2]) -> Result<(), Error> {
        self.set_link(index, [LinkAttribute::GsoMaxSegs(segments), LinkAttribute::GsoMaxSize(bytes)])
    }

    /// Sets an interface up that nobody shall talk by: without ARP, and with the least MTU. Below 1,280 bytes it has no IPv6, which
    /// would give it a route for multicast (`addrconf_add_mroute`); and a veth lets nothing longer through
    /// (`is_skb_forwardable`).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn set_up_bare(&mut self, index: u32) -> Result<(), Error> {
        // `ETH_MIN_MTU`
        self.set_link(index, [LinkAttribute::Mtu(68), LinkAttribute::IfAlias(ALIAS.to_owned())])?;
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
        message.header.change_mask = message.header.flags;
        self.socket.single(&"set up an interface", RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    fn set_link(&mut self, index: u32, attributes: impl IntoIterator<Item = LinkAttribute>) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.extend(attributes);
        self.socket.single(&"change an interface", RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Deletes an interface. Fine if it is gone.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let what = format_args!("delete interface {index}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.socket.single(&what, RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
            done => done.map(drop),
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}
