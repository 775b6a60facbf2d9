//! Frames that do not lie in one piece: a transmit ring lets the kernel take the memory as it is,
//! as page fragments behind a linear part of chosen length (`tpacket_fill_skb`).

use super::netns::Netns;
use super::recording::Tap;
use super::socket::{bind, set, unbound};
use super::vnet::VnetHeader;
use anyhow::{Context as _, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::socket::{MsgFlags, send};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// Bytes of a slot: room for a frame of 9,000 bytes.
const SLOT_BYTES: usize = 16_384;
/// A frame on its way refers to the memory of its slot, which is written again this many frames
/// later.
const SLOTS: usize = 64;
/// Where the frame begins in its slot: `TPACKET2_HDRLEN` less the address that only received frames
/// have.
const FRAME_OFFSET: usize = 32;

/// A socket that sends frames in pieces out of one interface.
#[derive(Debug)]
pub struct ScatterSocket {
    fd: OwnedFd,
    ring: NonNull<c_void>,
    next: Mutex<usize>,
    interface: String,
    tap: Option<Tap>,
}

// SAFETY: the ring is written under the lock alone.
unsafe impl Send for ScatterSocket {}
// SAFETY: as above.
unsafe impl Sync for ScatterSocket {}

impl ScatterSocket {
    /// Opens a socket that sends out of `interface`.
    pub fn open(netns: &Netns, interface: &str) -> Result<Self> {
        let index = netns.index(interface)?;
        let tap = Tap::new(netns.prefix(), interface);
        let open = || {
            let fd = unbound()?;
            set(
                fd.as_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VERSION,
                &libc::tpacket_versions::TPACKET_V2,
            )?;
            set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
            let (size, count) = (SLOT_BYTES as u32, SLOTS as u32);
            let ring = libc::tpacket_req {
                tp_block_size: size,
                tp_block_nr: count,
                tp_frame_size: size,
                tp_frame_nr: count,
            };
            set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_TX_RING, &ring)?;
            bind(fd.as_fd(), index, 0)?;
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: a new mapping at an address that the kernel chooses.
            let ring = unsafe { mmap(None, BYTES, protection, MapFlags::MAP_SHARED, &fd, 0) }
                .context("map the ring")?;
            Ok(Self {
                fd,
                ring,
                next: Mutex::new(0),
                interface: interface.to_owned(),
                tap,
            })
        };
        netns
            .enter(open)
            .with_context(|| format!("open a packet socket with a ring on {interface}"))
    }

    /// Sends a frame with its first `linear` bytes (14 at least) in the linear part and the rest in
    /// page fragments. `vnet` says what is left to do with it; its `hdr_len` does not count.
    pub fn send(&self, frame: &[u8], linear: u16, vnet: VnetHeader) -> Result<()> {
        let linear = usize::from(linear).min(frame.len()) as u16;
        let header = VnetHeader {
            hdr_len: linear,
            ..vnet
        };
        let data = [&header.to_bytes(), frame].concat();
        ensure!(
            data.len() + FRAME_OFFSET <= SLOT_BYTES,
            "{} bytes do not fit",
            frame.len()
        );
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a slot within the ring; frame and header are written within the slot, the status
        // last.
        unsafe {
            let slot = self.ring.cast::<u8>().add(*next * SLOT_BYTES);
            std::ptr::copy_nonoverlapping(
                data.as_ptr(),
                slot.add(FRAME_OFFSET).as_ptr(),
                data.len(),
            );
            let slot = slot.cast::<libc::tpacket2_hdr>().as_ptr();
            (&raw mut (*slot).tp_len).write(data.len() as u32);
            (&raw mut (*slot).tp_status).write_volatile(libc::TP_STATUS_SEND_REQUEST);
        }
        *next = (*next + 1) % SLOTS;
        let context = || {
            format!(
                "send {} bytes in pieces out of {}",
                frame.len(),
                self.interface
            )
        };
        let sent = send(self.fd.as_raw_fd(), &[], MsgFlags::empty()).with_context(context)?;
        ensure!(
            sent == frame.len(),
            "{sent} bytes sent instead of {}",
            frame.len()
        );
        if let Some(tap) = &self.tap {
            tap.sent(frame);
        }
        Ok(())
    }
}

const BYTES: NonZeroUsize = NonZeroUsize::new(SLOT_BYTES * SLOTS).expect("not zero");

impl Drop for ScatterSocket {
    fn drop(&mut self) {
        // SAFETY: the mapping of `open`, which nothing refers to any more; fragments on their way
        // keep their pages.
        if let Err(error) = unsafe { munmap(self.ring, BYTES.get()) } {
            eprintln!("unmap a ring: {error}");
        }
    }
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
        let sender = ScatterSocket::open(&netns, "eth0")?;
        for seed in 0..100 {
            let frame = eth().payload(Stream::new(seed).bytes(1500)).build();
            let linear = [14, 20, 35, 300, 1514][seed as usize % 5];
            sender.send(&frame, linear, VnetHeader::default())?;
            assert_eq!(
                receiver.recv(deadline())?.context("no frame")?.bytes,
                frame,
                "{linear}"
            );
        }
        Ok(())
    }
}
