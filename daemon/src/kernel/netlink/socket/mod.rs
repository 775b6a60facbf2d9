//! Input: one request. Output: the payloads of the kernel's complete answer, or its rejection. Must
//! not know: the meaning of the requests.

use std::fmt::Display;
use std::os::fd::{AsRawFd as _, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::decode::{attributes, text};
use super::error::{self, Error};

/// The kernel fills at most 32 KiB of a reader's buffer (`netlink_dump`); one notification can be
/// larger.
const BUFFER_BYTES: usize = 64 * 1024;

/// The kernel answers before `send` returns. Waiting longer means that the answer was lost.
const ANSWER_TIMEOUT_MS: i64 = 1000;

const ATTEMPTS: usize = 8;

/// The kernel's explanation within an error (include/uapi/linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Opens a socket of a protocol (`NETLINK_*`) that only the kernel can send to.
pub(super) fn open(protocol: isize) -> Result<Socket, Error> {
    let mut socket = Socket::new(protocol).map_err(|error| Error::socket("open", &error))?;
    socket
        .set_ext_ack(true)
        .and_then(|()| socket.set_cap_ack(true))
        .and_then(|()| socket.set_netlink_get_strict_chk(true))
        .and_then(|()| socket.bind_auto())
        .and_then(|_| socket.connect(&SocketAddr::new(0, 0)))
        .map_err(|error| Error::socket("set up", &error))?;
    Ok(socket)
}

/// A buffer that fits whatever the kernel sends.
pub(super) fn buffer() -> Vec<u8> {
    Vec::with_capacity(BUFFER_BYTES)
}

/// What one call of [`receive`] found.
pub(super) enum Received {
    /// The buffer holds one datagram.
    Datagram,
    /// Nothing waits, or the timeout has passed.
    Nothing,
    /// The kernel had to drop messages.
    Lost,
}

/// Receives one datagram.
pub(super) fn receive(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    flags: i32,
) -> Result<Received, Error> {
    loop {
        buffer.clear();
        match socket.recv(buffer, flags | libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => return Ok(Received::Lost),
            Ok(_) => return Ok(Received::Datagram),
            Err(error) => match error::errno(&error) {
                Errno::EINTR => {}
                Errno::EAGAIN => return Ok(Received::Nothing),
                Errno::ENOBUFS => return Ok(Received::Lost),
                _ => return Err(Error::socket("read", &error)),
            },
        }
    }
}

/// One netlink message.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) payload: &'a [u8],
    flags: u16,
    sequence: u32,
}

/// The messages of a datagram.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(Message {
            kind: message.message_type(),
            payload: message.payload(),
            flags: message.flags(),
            sequence: message.sequence_number(),
        })
    })
}

/// One message of the kernel's answer.
pub(super) struct Answer {
    pub(super) kind: u16,
    pub(super) payload: Vec<u8>,
}

/// Opens a socket whose reads have a timeout.
fn patient(protocol: isize) -> Result<Socket, Error> {
    let socket = open(protocol)?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::milliseconds(ANSWER_TIMEOUT_MS),
    )
    .map_err(|errno| Error::Socket {
        action: "set up",
        errno,
    })?;
    Ok(socket)
}

/// A socket for requests, one at a time. After a failure it is opened again.
pub(super) struct RequestSocket {
    socket: Socket,
    protocol: isize,
    sequence: u32,
    buffer: Vec<u8>,
}

enum Failure {
    /// Worth another attempt.
    Incomplete,
    Refused(Errno, Option<String>),
    Socket(Error),
}

impl RequestSocket {
    pub(super) fn open(protocol: isize) -> Result<Self, Error> {
        Ok(Self {
            socket: patient(protocol)?,
            protocol,
            sequence: 0,
            buffer: buffer(),
        })
    }

    /// Queries over it by `ioctl`.
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Requests all objects of a kind. Repeats the request if the kernel marks the answer as torn
    /// by a change.
    pub(super) fn dump(
        &mut self,
        what: &dyn Display,
        message: impl NetlinkSerializable,
    ) -> Result<Vec<Answer>, Error> {
        self.request(what, message, NLM_F_DUMP)
    }

    /// Asks for, or changes, one object. The request may be sent more than once, so it must be
    /// idempotent.
    pub(super) fn single(
        &mut self,
        what: &dyn Display,
        message: impl NetlinkSerializable,
        flags: u16,
    ) -> Result<Vec<Answer>, Error> {
        self.request(what, message, NLM_F_ACK | flags)
    }

    fn request(
        &mut self,
        what: &dyn Display,
        message: impl NetlinkSerializable,
        flags: u16,
    ) -> Result<Vec<Answer>, Error> {
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        );
        message.header.flags = NLM_F_REQUEST | flags;
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.exchange(&mut message) {
                Ok(answers) => return Ok(answers),
                Err(Failure::Incomplete) => {}
                Err(Failure::Refused(errno, hint)) => {
                    return Err(Error::Refused {
                        request: what.to_string(),
                        errno,
                        hint,
                    });
                }
                Err(Failure::Socket(error)) => {
                    self.socket = patient(self.protocol)?;
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(Error::Incomplete {
            request: what.to_string(),
            attempts: ATTEMPTS,
        }))
    }

    /// Sends once and reads to the end of the answer, even of one that is torn: the kernel runs one
    /// dump at a time.
    fn exchange(
        &mut self,
        message: &mut NetlinkMessage<impl NetlinkSerializable>,
    ) -> Result<Vec<Answer>, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut request = vec![0; message.buffer_len()];
        message.serialize(&mut request);
        self.socket
            .send(&request, 0)
            .map_err(|error| Failure::Socket(Error::socket("write to", &error)))?;

        let mut answers = Vec::new();
        let mut torn = false;
        loop {
            match receive(&self.socket, &mut self.buffer, 0).map_err(Failure::Socket)? {
                Received::Datagram => {}
                Received::Nothing => return Err(Failure::Incomplete),
                Received::Lost => {
                    torn = true;
                    continue;
                }
            }
            for message in
                messages(&self.buffer).filter(|message| message.sequence == self.sequence)
            {
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        verdict(&message)?;
                        return if torn {
                            Err(Failure::Incomplete)
                        } else {
                            Ok(answers)
                        };
                    }
                    NLMSG_NOOP | NLMSG_OVERRUN => {}
                    kind => answers.push(Answer {
                        kind,
                        payload: message.payload.to_vec(),
                    }),
                }
            }
        }
    }
}

/// The outcome in a message that ends an answer: an error number, in an error the header of the
/// request (`CAP_ACK`), and attributes.
fn verdict(end: &Message<'_>) -> Result<(), Failure> {
    const ERRNO_BYTES: usize = 4;
    const HEADER_BYTES: usize = 16;

    let code = end
        .payload
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code >= 0 {
        return Ok(());
    }
    let skip = if end.kind == NLMSG_ERROR {
        ERRNO_BYTES + HEADER_BYTES
    } else {
        ERRNO_BYTES
    };
    let hint = end
        .payload
        .get(skip..)
        .filter(|_| end.flags & NLM_F_ACK_TLVS != 0)
        .and_then(|rest| {
            attributes(rest).find_map(|attribute| match attribute {
                Ok((NLMSGERR_ATTR_MSG, value)) => Some(text(value)),
                _ => None,
            })
        });
    Err(Failure::Refused(
        Errno::from_raw(code.saturating_neg()),
        hint,
    ))
}

#[cfg(test)]
mod tests;
