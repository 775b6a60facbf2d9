//! A UDP socket on which copies arrive.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, RcvBuf, RcvBufForce, ReceiveTimestampns, RxqOvfl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    recvmsg, setsockopt, socket,
};
use nix::sys::time::TimeSpec;

/// Room for what arrives while a reader is busy, bytes.
const ROOM: usize = 64 << 20;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    /// Datagrams that found no room so far.
    lost: u32,
}

/// What arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// Bytes of the datagram.
    pub(crate) bytes: usize,
    /// Who sent it.
    pub(crate) sender: IpAddr,
    /// When it arrived, since 1970.
    pub(crate) at: Duration,
    /// Datagrams that found no room since the last one.
    pub(crate) lost: u32,
}

impl Socket {
    /// Binds it.
    ///
    /// # Errors
    /// The kernel rejects the address.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, kind, flags, None)?;
        if address.is_ipv6() {
            // [::] is for IPv4, too, whatever net.ipv6.bindv6only says
            setsockopt(&socket, Ipv6V6Only, &false)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        // without the capability what net.core.rmem_max allows
        if setsockopt(&socket, RcvBufForce, &ROOM).is_err() {
            setsockopt(&socket, RcvBuf, &ROOM)?;
        }
        if address.is_ipv6() {
            accept_no_checksum(&socket)?;
        }
        Ok(Self { socket, lost: 0 })
    }

    /// Takes the next datagram, if there is one. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    /// The socket fails.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        let mut control = nix::cmsg_space!(TimeSpec, u32);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        ) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            message => message?,
        };
        let mut arrived = Arrived {
            bytes: message.bytes,
            sender: message
                .address
                .as_ref()
                .and_then(ip)
                .ok_or(io::ErrorKind::InvalidData)?,
            at: Duration::ZERO,
            lost: 0,
        };
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmTimestampns(at) => arrived.at = at.into(),
                ControlMessageOwned::RxqOvfl(lost) => {
                    arrived.lost = lost.wrapping_sub(self.lost);
                    self.lost = lost;
                }
                _ => {}
            }
        }
        Ok(Some(arrived))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|four| four.ip().into());
    four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))
}

/// Copies over IPv6 have no UDP checksum unless their endpoint asks for one, which RFC 6936 allows
/// tunnels; an ordinary socket gets no datagram without.
fn accept_no_checksum(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the value is an integer of the given size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    Errno::result(done).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn a_socket_for_all_addresses_receives_ipv4_whatever_the_host_sets() {
        // a network namespace of its own takes root
        let bound = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
            Socket::bind("[::]:0".parse().unwrap()).unwrap()
        });
        let bound = bound.join().unwrap();
        assert!(!getsockopt(&bound, Ipv6V6Only).unwrap());
    }
}
