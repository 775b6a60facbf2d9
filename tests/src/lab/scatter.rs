//! Frames that do not lie in one piece: a transmit ring lets the kernel take the memory as it is, as page fragments
//! behind a linear part of chosen length (`tpacket_fill_skb`).

use super::netns::Netns;
use super::socket::set;
use super::vnet::VnetHeader;
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Bytes of a ring slot: room for a frame of 9,000 bytes.
const SLOT_BYTES: usize = 16_384;
/// Where the frame begins in its slot: `TPACKET2_HDRLEN` less the address that only received frames have.
const FRAME_OFFSET: usize = 32;

/// Sends a frame out of an interface with its first `linear` bytes (14 at least) in the linear part and the rest in
/// page fragments. `vnet` says what is left to do with it; its `hdr_len` does not count.
pub fn send_scattered(netns: &Netns, interface: &str, frame: &[u8], linear: u16, vnet: VnetHeader) -> Result<()> {
    ensure!(frame.len() + VnetHeader::BYTES + FRAME_OFFSET <= SLOT_BYTES, "{} bytes do not fit", frame.len());
    let index = netns.index(interface)?;
    let context = || format!("send {} bytes in pieces out of {interface}", frame.len());
    let send_it = || {
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, &libc::tpacket_versions::TPACKET_V2)?;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
        let size = SLOT_BYTES as u32;
        let request = libc::tpacket_req { tp_block_size: size, tp_block_nr: 1, tp_frame_size: size, tp_frame_nr: 1 };
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_TX_RING, &request)?;
        super::socket::bind(fd.as_fd(), index, 0)?;
        let header = VnetHeader { hdr_len: linear, ..vnet };
        let data = [&header.to_bytes(), frame].concat();
        // SAFETY: a new mapping of a ring of SLOT_BYTES; header and data are written within, the status last.
        let ring = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let ring = libc::mmap(std::ptr::null_mut(), SLOT_BYTES, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0);
            ensure!(ring != libc::MAP_FAILED, "map the ring: {}", std::io::Error::last_os_error());
            std::ptr::copy_nonoverlapping(data.as_ptr(), ring.cast::<u8>().add(FRAME_OFFSET), data.len());
            let slot = ring.cast::<libc::tpacket2_hdr>();
            (&raw mut (*slot).tp_len).write(data.len() as u32);
            (&raw mut (*slot).tp_status).write_volatile(libc::TP_STATUS_SEND_REQUEST);
            ring
        };
        let sent = send(fd.as_raw_fd(), &[], MsgFlags::empty());
        // SAFETY: the mapping from above, which nothing refers to any more; fragments on their way keep their pages.
        ensure!(unsafe { libc::munmap(ring, SLOT_BYTES) } == 0, "unmap the ring");
        let sent = sent?;
        ensure!(sent == frame.len(), "sent {sent} bytes");
        Ok(())
    };
    netns.enter(send_it).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::packet::eth;
    use crate::lab::socket::{Capture, PacketSocket};
    use crate::lab::veth::veth;
    use crate::lab::{deadline, traffic::Stream};

    #[test]
    fn pieces_arrive_as_one_frame() -> Result<()> {
        let netns = Netns::new("lab-scatter")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        veth(&netns, "eth0", &netns, "eth1")?;
        let receiver = PacketSocket::open(&netns, "eth1", Capture::Incoming)?;
        for linear in [14, 20, 35, 300, 1514] {
            let frame = eth().payload(Stream::new(3).bytes(1500)).build();
            send_scattered(&netns, "eth0", &frame, linear, VnetHeader::default())?;
            assert_eq!(receiver.recv(deadline())?.context("no frame")?.bytes, frame, "{linear}");
        }
        Ok(())
    }
}
