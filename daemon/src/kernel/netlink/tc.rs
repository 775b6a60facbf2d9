//! The clsact queueing discipline and its filters.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
    TcOption,
};

use super::{Error, Netlink, decode, each};
use crate::network::{Direction, TcFilter};

const CLSACT: &str = "clsact";

/// Where a filter of a clsact hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPlace {
    /// Index of the interface.
    pub interface: u32,
    /// Ingress or egress.
    pub hook: Direction,
    /// Preference; the kernel tries low ones first.
    pub priority: u16,
    /// Handle within its priority.
    pub handle: u32,
}

impl Netlink {
    /// The filters on one clsact hook, in the order in which the kernel tries them. None if there
    /// is no clsact or no such interface. TCX programs are not among them.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn filters(&mut self, interface: u32, hook: Direction) -> Result<Vec<TcFilter>, Error> {
        let what = format_args!("read the tc filters of interface {interface}");
        let message = tc_message(interface, parent(hook));
        let answers = self
            .socket
            .dump(&what, RouteNetlinkMessage::GetTrafficFilter(message))?;
        let filters = each(&what, &answers, libc::RTM_NEWTFILTER, decode::filter)?;
        Ok(filters.into_iter().flatten().collect())
    }

    /// Whether an interface has a clsact queueing discipline. Reads the disciplines of all
    /// interfaces: a request for one (`tc_get_qdisc`) would notify every monitor before kernel 6.8,
    /// and so wake its own caller.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn clsact(&mut self, interface: u32) -> Result<bool, Error> {
        let what = format_args!("read the queueing disciplines of interface {interface}");
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let answers = self.socket.dump(&what, message)?;
        let qdiscs = each(&what, &answers, libc::RTM_NEWQDISC, decode::qdisc)?;
        Ok(qdiscs
            .into_iter()
            .any(|(index, kind)| index == Some(interface) && kind == CLSACT))
    }

    /// Gives an interface a clsact queueing discipline.
    ///
    /// # Errors
    /// Any [`Error`]: `EEXIST` if it has one, or an `ingress` discipline.
    pub fn add_clsact(&mut self, interface: u32) -> Result<(), Error> {
        let what = format_args!("add a clsact queueing discipline to interface {interface}");
        let mut message = tc_message(interface, TcHandle::CLSACT);
        message.header.handle = TcHandle {
            minor: 0,
            ..TcHandle::CLSACT
        };
        message
            .attributes
            .push(TcAttribute::Kind(CLSACT.to_owned()));
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        self.socket
            .single(&what, message, NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// Adds a filter that runs a program for all packets and does what it answers.
    ///
    /// # Errors
    /// Any [`Error`]: `EEXIST` if another is there.
    pub fn add_filter(
        &mut self,
        place: FilterPlace,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        self.put_filter(place, name, program, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Has a filter that is there run another program from now on.
    ///
    /// # Errors
    /// Any [`Error`]: `ENOENT` if it is not there.
    pub fn replace_filter(
        &mut self,
        place: FilterPlace,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        self.put_filter(place, name, program, 0)
    }

    fn put_filter(
        &mut self,
        place: FilterPlace,
        name: &str,
        program: BorrowedFd<'_>,
        flags: u16,
    ) -> Result<(), Error> {
        let what = format_args!("put a filter on interface {}", place.interface);
        let mut message = filter_message(place);
        message
            .attributes
            .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(
                program.as_raw_fd().cast_unsigned(),
            )),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]));
        self.socket
            .single(&what, RouteNetlinkMessage::NewTrafficFilter(message), flags)
            .map(drop)
    }

    /// Deletes a filter; one of another kind that has its place stays.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn delete_filter(&mut self, place: FilterPlace) -> Result<(), Error> {
        let what = format_args!("delete a filter of interface {}", place.interface);
        let mut message = filter_message(place);
        message
            .attributes
            .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        self.socket
            .single(&what, RouteNetlinkMessage::DelTrafficFilter(message), 0)
            .map(drop)
    }
}

const fn parent(hook: Direction) -> TcHandle {
    let minor = match hook {
        Direction::Ingress => TcHandle::MIN_INGRESS,
        Direction::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle {
        major: TcHandle::CLSACT.major,
        minor,
    }
}

fn tc_message(interface: u32, parent: TcHandle) -> TcMessage {
    let header = TcHeader {
        index: interface.cast_signed(),
        parent,
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, Vec::new())
}

fn filter_message(
    FilterPlace {
        interface,
        hook,
        priority,
        handle,
    }: FilterPlace,
) -> TcMessage {
    let mut message = tc_message(interface, parent(hook));
    message.header.handle = handle.into();
    // include/linux/if_ether.h, network byte order
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    message.header.info = TcHandle {
        major: priority,
        minor: protocol,
    }
    .into();
    message
}
