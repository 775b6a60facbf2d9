//! Input: the UDP payloads of a flow's first datagrams. Output: the server name that a QUIC client
//! asks for, or why there is none. Pure: must not know the kernel, the clock or where the payloads
//! come from.
//!
//! The first packets of a client, its Initials, are encrypted with keys that anyone can derive from
//! the packet itself (RFC 9001, section 5.2). So whatever is read here, others on the path can read
//! and write, too: a name is what a sender says, and nothing is proved by it.
//!
//! [`Packets`] takes a datagram apart, `keys` opens Initials, `frames` and `stream` put the TLS
//! ClientHello together, `hello` reads its name. [`Flow`] holds what is known of one flow, and
//! [`Table`] the flows whose hello is not complete.

mod flow;
mod frames;
mod hello;
mod keys;
mod packet;
mod reader;
mod stream;
mod table;

pub use flow::{Flow, Outcome};
pub use packet::{Initial, Malformed, Packet, Packets, Version};
pub use stream::HELLO_MAX_BYTES;
pub use table::{Counts, Table};

/// The sample packets of RFC 9001 and RFC 9369, Appendix A.
#[cfg(test)]
mod samples;
