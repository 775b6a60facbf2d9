//! An interface without link header whose other end is the test.

use super::netns::Netns;
use super::vnet::VnetHeader;
use super::{deadline, pause, wait_readable};
use anyhow::{Context as _, Result, ensure};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

const PACKET_BYTES: usize = 1 << 16;

/// A tun interface, which goes with this.
#[derive(Debug)]
pub struct Tun {
    file: File,
    vnet: bool,
}

impl Tun {
    /// Makes the interface, up, without an address.
    pub fn create(netns: &Netns, name: &str) -> Result<Self> {
        Self::create_with(netns, name, false)
    }

    /// Like [`Self::create`], for packets with a [`VnetHeader`]. What is sent to it has its
    /// checksums filled in, and comes in segments.
    pub fn create_vnet(netns: &Netns, name: &str) -> Result<Self> {
        Self::create_with(netns, name, true)
    }

    fn create_with(netns: &Netns, name: &str, vnet: bool) -> Result<Self> {
        ensure!(
            name.len() < libc::IFNAMSIZ,
            "interface name {name:?} is too long"
        );
        let open = || {
            let path = "/dev/net/tun";
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path);
            let file = file.with_context(|| format!("open {path}"))?;
            let header = if vnet { libc::IFF_VNET_HDR } else { 0 };
            let flags = (libc::IFF_TUN | libc::IFF_NO_PI | header) as i16;
            let mut request = libc::ifreq {
                ifr_name: [0; libc::IFNAMSIZ],
                ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
            };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as libc::c_char;
            }
            let until = deadline();
            loop {
                // SAFETY: the request is valid and ends its name with 0.
                let done =
                    unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
                let error = std::io::Error::last_os_error();
                if done == 0 {
                    return Ok(file);
                }
                // a process that another thread has forked has the file of an earlier one of that
                // name until it executes its program
                let is_held = error.raw_os_error() == Some(libc::EBUSY);
                ensure!(is_held && Instant::now() < until, "make {name}: {error}");
                pause();
            }
        };
        let tun = Self {
            file: netns.enter(open)?,
            vnet,
        };
        netns.run(&format!("ip link set {name} up"))?;
        Ok(tun)
    }

    /// The next packet that was sent to it; `None` if none has come at the deadline.
    pub fn recv(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        if wait_readable(&[self.file.as_fd()], deadline)?.is_none() {
            return Ok(None);
        }
        let mut packet = vec![0; PACKET_BYTES];
        let length = self
            .file
            .read(&mut packet)
            .context("read from a tun interface")?;
        packet.truncate(length);
        packet.drain(..if self.vnet { VnetHeader::BYTES } else { 0 });
        Ok(Some(packet))
    }

    /// Has the interface receive a packet.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let header = if self.vnet {
            &VnetHeader::default().to_bytes()[..]
        } else {
            &[]
        };
        self.write(&[header, packet].concat())
    }

    /// Has the interface receive a packet with its segmentation and checksum state: that of the
    /// frame it was made of, less the link header ([`VnetHeader::without_link`]).
    pub fn send_vnet(&self, packet: &[u8], header: VnetHeader) -> Result<()> {
        ensure!(self.vnet, "the tun interface was made without vnet");
        self.write(&[&header.to_bytes(), packet].concat())
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = (&self.file)
            .write(bytes)
            .context("write to a tun interface")?;
        ensure!(
            written == bytes.len(),
            "wrote {written} of {} bytes to a tun interface",
            bytes.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::packet::{FiveTuple, Packet};
    use crate::lab::traffic::udp_bind;

    #[test]
    fn packets_go_in() -> Result<()> {
        let netns = Netns::new("lab-tun")?;
        for vnet in [false, true] {
            let tun = Tun::create_with(&netns, "tun0", vnet)?;
            netns.address("tun0", "10.0.0.1/24")?;
            let socket = udp_bind(&netns, "10.0.0.1:5".parse()?)?;
            tun.send(
                &Packet::new()
                    .ip("10.0.0.2", "10.0.0.1")
                    .udp(6, 5)
                    .payload("hello")
                    .build(),
            )?;
            let mut buffer = [0; 10];
            let (length, from) = socket.recv_from(&mut buffer)?;
            assert_eq!(
                (&buffer[..length], from),
                (&b"hello"[..], "10.0.0.2:6".parse()?)
            );
        }
        Ok(())
    }

    #[test]
    fn packets_come_out() -> Result<()> {
        let netns = Netns::new("lab-tun")?;
        let mut tun = Tun::create(&netns, "tun0")?;
        netns.address("tun0", "10.0.0.1/24")?;
        udp_bind(&netns, "10.0.0.1:5".parse()?)?.send_to(b"hello", "10.0.0.2:6")?;
        loop {
            let packet = tun.recv(deadline())?.context("no packet")?;
            // IPv6 has sent its own
            if packet[0] >> 4 == 4 {
                assert_eq!(
                    FiveTuple::parse(&packet)?.to_string(),
                    "udp 10.0.0.1:5 > 10.0.0.2:6"
                );
                assert!(packet.ends_with(b"hello"));
                return Ok(());
            }
        }
    }
}
