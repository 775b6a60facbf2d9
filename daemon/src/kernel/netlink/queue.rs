//! What happens to packets behind the tc hooks: queueing disciplines and devices.

use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::TcMessage;

use super::{Error, Netlink, decode, each};
use crate::network::Queue;

impl Netlink {
    /// The root queueing discipline of each interface that has one, by the interface's index. Its
    /// counters include those below it (`qdisc_tree_reduce_backlog`, `mq_dump`). Reads those of all
    /// interfaces: a request for one would notify every monitor before kernel 6.8 (`tc_get_qdisc`).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn queues(&mut self) -> Result<BTreeMap<u32, Queue>, Error> {
        let what = "read the queueing disciplines";
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let answers = self.socket.dump(&what, message)?;
        let queues = each(&what, &answers, libc::RTM_NEWQDISC, decode::queue)?;
        Ok(queues.into_iter().flatten().collect())
    }

    /// Packets that a device was to send and has dropped, or failed to send. `None` if there is no
    /// such interface.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn device_drops(&mut self, interface: u32) -> Result<Option<u64>, Error> {
        let what = format_args!("read the counters of interface {interface}");
        Ok(self
            .of_link(&what, interface, decode::device_drops)?
            .flatten())
    }
}
