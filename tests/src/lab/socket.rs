//! Raw packet sockets: whole Ethernet frames of one interface in a namespace, from anywhere.

use super::netns::Netns;
use super::recording::Tap;
use super::vnet::VnetHeader;
use super::wait_readable;
use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType,
    recvmsg, send, sendmmsg, socket,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Receive buffer in bytes of kernel memory, of which a small frame takes a kilobyte or more: half
/// a million may lie in it before a test reads.
const RECEIVE_BUFFER_BYTES: i32 = 512 << 20;
/// The largest superpacket (BIG TCP: `GSO_MAX_SIZE`), its Ethernet header and two tags, and the
/// header of `PACKET_VNET_HDR`.
const FRAME_BYTES: usize = 8 * 65_536 + 64;

/// Which frames of its interface a socket receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// None: for sending.
    Nothing,
    /// What the interface receives.
    #[default]
    Incoming,
    /// What it receives and what it sends.
    BothWays,
}

/// Which way a frame went through the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// Received.
    Incoming,
    /// Sent.
    Outgoing,
}

/// A VLAN tag that the kernel keeps beside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// EtherType of the tag: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Tag control information.
    pub tci: u16,
}

/// A frame as a packet socket gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes without [`Frame::tag`].
    pub bytes: Vec<u8>,
    /// Which way it went.
    pub direction: PacketType,
    /// The outermost tag, which the kernel takes out of received frames.
    pub tag: Option<Tag>,
    /// Whether the sender's stack left the transport checksum to the device, so that it is not in
    /// the bytes.
    pub checksum_open: bool,
    /// Segmentation and checksum state, on a socket opened with `vnet`.
    pub vnet: Option<VnetHeader>,
}

impl Frame {
    /// The bytes as on a wire: with the tag back in its place.
    pub fn on_wire(self) -> Vec<u8> {
        let Some(tag) = self.tag else {
            return self.bytes;
        };
        let mut bytes = self.bytes;
        bytes.splice(
            12..12,
            [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat(),
        );
        bytes
    }
}

/// A raw socket on one interface. It stays in the namespace it was opened in.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface: String,
    vnet: bool,
    buffer: Mutex<Vec<u8>>,
    tap: Option<Tap>,
}

impl PacketSocket {
    /// Opens a socket that sends to and receives from `interface`.
    pub fn open(netns: &Netns, interface: &str, capture: Capture) -> Result<Self> {
        Self::open_with(netns, interface, capture, false)
    }

    /// Like [`Self::open`], for frames with a [`VnetHeader`]. Receiving fails for superpackets that
    /// such a header cannot describe, as those in a UDP tunnel.
    pub fn open_vnet(netns: &Netns, interface: &str, capture: Capture) -> Result<Self> {
        Self::open_with(netns, interface, capture, true)
    }

    fn open_with(netns: &Netns, interface: &str, capture: Capture, vnet: bool) -> Result<Self> {
        let index = netns.index(interface)?;
        let context = || {
            format!(
                "open a packet socket on {interface} in namespace {}",
                netns.name()
            )
        };
        let fd = netns.enter(|| {
            let fd = unbound()?;
            set(
                fd.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                &RECEIVE_BUFFER_BYTES,
            )?;
            set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
            set(
                fd.as_fd(),
                libc::SOL_PACKET,
                libc::PACKET_IGNORE_OUTGOING,
                &i32::from(capture != Capture::BothWays),
            )?;
            if vnet {
                set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
            }
            bind(
                fd.as_fd(),
                index,
                if capture == Capture::Nothing {
                    0
                } else {
                    libc::ETH_P_ALL as u16
                },
            )?;
            Ok(fd)
        });
        let fd = fd.with_context(context)?;
        Ok(Self {
            fd,
            interface: interface.to_owned(),
            vnet,
            buffer: Mutex::new(vec![0; FRAME_BYTES]),
            tap: Tap::new(netns.prefix(), interface),
        })
    }

    /// Sends a frame out of the interface.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        match self.vnet {
            true => self.send_vnet(frame, VnetHeader::default()),
            false => self.send_bytes(frame),
        }
    }

    /// Sends a frame with its segmentation and checksum state, as [`VnetHeader::partial`] and
    /// [`VnetHeader::gso`] make it.
    pub fn send_vnet(&self, frame: &[u8], header: VnetHeader) -> Result<()> {
        ensure!(
            self.vnet,
            "the packet socket on {} was opened without vnet",
            self.interface
        );
        self.send_bytes(&[&header.to_bytes(), frame].concat())
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        let context = || format!("send {} bytes out of {}", bytes.len(), self.interface);
        let sent = send(
            std::os::fd::AsRawFd::as_raw_fd(&self.fd),
            bytes,
            MsgFlags::empty(),
        )
        .with_context(context)?;
        ensure!(
            sent == bytes.len(),
            "sent {sent} of {} bytes out of {}",
            bytes.len(),
            self.interface
        );
        if let Some(tap) = &self.tap {
            let header = if self.vnet { VnetHeader::BYTES } else { 0 };
            tap.sent(&bytes[header..]);
        }
        Ok(())
    }

    /// Sends frames by one system call, without a record of them; returns how many the kernel took.
    pub fn send_all(&self, frames: &[Vec<u8>]) -> Result<usize> {
        let parts: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(parts.len(), None);
        let nobody = vec![None; parts.len()];
        let sent = sendmmsg(
            self.fd.as_raw_fd(),
            &mut headers,
            &parts,
            &nobody,
            [],
            MsgFlags::empty(),
        )
        .with_context(|| format!("send out of {}", self.interface))?;
        Ok(sent.count())
    }

    /// The next frame; `None` if none has come at the deadline.
    pub fn recv(&self, deadline: Instant) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self
                .try_recv()
                .with_context(|| format!("receive from {}", self.interface))?
            {
                return Ok(Some(frame));
            }
            if wait_readable(&[self.as_fd()], deadline)?.is_none() {
                return Ok(None);
            }
        }
    }

    /// How many frames did not fit the receive buffer since the last call.
    pub fn lost(&self) -> Result<u32> {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of `statistics`.
        let done = unsafe {
            let value = (&raw mut statistics).cast();
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                value,
                &mut length,
            )
        };
        Errno::result(done)
            .with_context(|| format!("statistics of the packet socket on {}", self.interface))?;
        Ok(statistics.tp_drops)
    }

    fn try_recv(&self) -> Result<Option<Frame>> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut control = nix::cmsg_space!(libc::tpacket_auxdata);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let (length, address, frame) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let message = match recvmsg::<LinkAddr>(
                self.fd.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                flags,
            ) {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                message => message?,
            };
            let auxdata = message.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Unknown(message) => auxdata(&message.data_bytes),
                _ => None,
            });
            (
                message.bytes,
                message.address,
                auxdata.context("no PACKET_AUXDATA")?,
            )
        };
        ensure!(length <= buffer.len(), "a frame of {length} bytes");
        let skip = if self.vnet { VnetHeader::BYTES } else { 0 };
        let vnet = self
            .vnet
            .then(|| {
                buffer
                    .first_chunk()
                    .map(|bytes| VnetHeader::from_bytes(*bytes))
            })
            .flatten();
        let direction = match address.context("no address")?.pkttype() {
            libc::PACKET_OUTGOING => PacketType::Outgoing,
            _ => PacketType::Incoming,
        };
        let (tag, checksum_open) = frame;
        let frame = Frame {
            bytes: buffer[skip..length].to_vec(),
            direction,
            tag,
            checksum_open,
            vnet,
        };
        if let Some(tap) = &self.tap {
            let bytes = frame.clone().on_wire();
            match direction {
                PacketType::Incoming => tap.received(&bytes),
                PacketType::Outgoing => tap.sent(&bytes),
            }
        }
        Ok(Some(frame))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tag and "checksum open" of a `struct tpacket_auxdata`: the status is its first word, the tag its
/// last.
fn auxdata(bytes: &[u8]) -> Option<(Option<Tag>, bool)> {
    let status = u32::from_ne_bytes(*bytes.first_chunk()?);
    let [.., a, b, c, d] = *bytes.get(..size_of::<libc::tpacket_auxdata>())? else {
        return None;
    };
    let tag = Tag {
        tci: u16::from_ne_bytes([a, b]),
        tpid: if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
            u16::from_ne_bytes([c, d])
        } else {
            0x8100
        },
    };
    let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(tag);
    Some((tag, status & libc::TP_STATUS_CSUMNOTREADY != 0))
}

/// A packet socket. Without a protocol nothing is received before it is bound to its interface.
pub(super) fn unbound() -> Result<OwnedFd> {
    let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_CLOEXEC);
    Ok(socket(family, SockType::Raw, flags, None)?)
}

/// Sets a socket option to a plain value.
pub(super) fn set<T: Copy>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> Result<()> {
    // SAFETY: the kernel reads the bytes of `value`, whose size goes with it.
    let done = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            value,
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done != 0 {
        bail!(
            "socket option {option} of level {level}: {}",
            std::io::Error::last_os_error()
        );
    }
    Ok(())
}

pub(super) fn bind(fd: BorrowedFd<'_>, index: u32, protocol: u16) -> Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads an address of the size given.
    let done = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    Errno::result(done)
        .map(drop)
        .with_context(|| format!("bind to interface {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::packet::eth;
    use crate::lab::{deadline, veth::veth};

    #[test]
    fn lost_frames_are_counted_and_directions_chosen() -> Result<()> {
        let netns = Netns::new("lab-socket")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        veth(&netns, "eth0", &netns, "eth1")?;
        let open = |interface, capture| PacketSocket::open(&netns, interface, capture);
        let (sender, both) = (
            open("eth0", Capture::Nothing)?,
            open("eth0", Capture::BothWays)?,
        );
        let (incoming, small) = (
            open("eth0", Capture::Incoming)?,
            open("eth1", Capture::Incoming)?,
        );
        set(small.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &4096_i32)?;
        let frame = eth().payload([7; 1000]).build();
        for _ in 0..100 {
            sender.send(&frame)?;
        }
        for _ in 0..100 {
            let seen = both.recv(deadline())?.context("no frame")?;
            assert_eq!(
                (seen.direction, &seen.bytes),
                (PacketType::Outgoing, &frame)
            );
        }
        assert_eq!(incoming.recv(Instant::now())?, None);
        assert_eq!(sender.recv(Instant::now())?, None);
        let (mut kept, mut lost, deadline) = (0, 0, deadline());
        while kept + lost < 100 {
            assert!(Instant::now() < deadline, "{kept} kept, {lost} lost");
            kept += u32::from(small.recv(Instant::now())?.is_some());
            lost += small.lost()?;
        }
        assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
        assert_eq!((small.lost()?, both.lost()?), (0, 0));
        Ok(())
    }
}
