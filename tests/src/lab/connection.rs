//! A TCP connection that stays, and what the kernel thinks of its way (`TCP_INFO`).

use super::netns::Netns;
use super::traffic::{Stream, bind_when_free};
use super::{DEADLINE, patience};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

/// A connection, open at both ends.
#[derive(Debug)]
pub struct Connection {
    ends: [TcpStream; 2],
}

/// What an end knows of the way to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndInfo {
    /// Path MTU, bytes.
    pub path_mtu: u32,
    /// Bytes of a segment that it sends.
    pub segment: u32,
    /// Bytes of a segment that it has told the other end to send at most.
    pub advertised: u32,
}

impl Connection {
    /// Connects `client` with `to` in `server`.
    ///
    /// # Errors
    /// The address is taken, or nothing comes of it in time.
    pub fn open(client: &Netns, server: &Netns, to: SocketAddr) -> Result<Self> {
        let bind =
            || bind_when_free(|| TcpListener::bind(to)).with_context(|| format!("listen on {to}"));
        let listener = server.enter(bind)?;
        let near = client.enter(|| Ok(TcpStream::connect_timeout(&to, DEADLINE * patience())?));
        let near = near.with_context(|| format!("connect to {to}"))?;
        let (far, _) = listener.accept().context("accept")?;
        for end in [&near, &far] {
            end.set_read_timeout(Some(DEADLINE * patience()))?;
            end.set_write_timeout(Some(DEADLINE * patience()))?;
        }
        Ok(Self { ends: [near, far] })
    }

    /// Sends so many bytes each way, and checks each.
    ///
    /// # Errors
    /// They do not arrive in time, or others do.
    pub fn carry(&self, bytes: usize) -> Result<()> {
        let payload = Stream::new(bytes as u64).bytes(bytes);
        for (from, to) in [(0, 1), (1, 0)] {
            let mut arrived = vec![0; bytes];
            let [mut from, mut to] = [&self.ends[from], &self.ends[to]];
            std::thread::scope(|scope| -> Result<()> {
                let sending = scope.spawn(|| from.write_all(&payload));
                to.read_exact(&mut arrived).context("receive")?;
                sending
                    .join()
                    .expect("the sender does not panic")
                    .context("send")
            })?;
            ensure!(arrived == payload, "other bytes came than were sent");
        }
        Ok(())
    }

    /// What each end knows of the way; the one that has connected is the first.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn ways(&self) -> Result<[EndInfo; 2]> {
        let way = |end: &TcpStream| -> Result<EndInfo> {
            let info = info(end)?;
            Ok(EndInfo {
                path_mtu: info.tcpi_pmtu,
                segment: info.tcpi_snd_mss,
                advertised: info.tcpi_advmss,
            })
        };
        Ok([way(&self.ends[0])?, way(&self.ends[1])?])
    }

    /// Segments that both ends have sent again.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn retransmitted(&self) -> Result<u32> {
        Ok(info(&self.ends[0])?.tcpi_total_retrans + info(&self.ends[1])?.tcpi_total_retrans)
    }
}

fn info(end: &TcpStream) -> Result<libc::tcp_info> {
    // SAFETY: a struct of numbers, of which any bytes are a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes to the local variable.
    let failed = unsafe {
        libc::getsockopt(
            end.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(
        failed == 0,
        "ask for TCP_INFO: {}",
        std::io::Error::last_os_error()
    );
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::veth::veth;

    #[test]
    fn a_smaller_path_mtu_is_noticed() -> Result<()> {
        let [a, b] = [Netns::new("lab-way-a")?, Netns::new("lab-way-b")?];
        veth(&a, "eth0", &b, "eth0")?;
        a.address("eth0", "10.0.0.1/24")?;
        b.address("eth0", "10.0.0.2/24")?;
        let connection = Connection::open(&a, &b, "10.0.0.2:5".parse()?)?;
        connection.carry(100_000)?;
        let [near, far] = connection.ways()?;
        assert_eq!((near.path_mtu, near.segment), (1500, 1448));
        a.run("ip route replace 10.0.0.2/32 dev eth0 mtu 1400")?;
        connection.carry(100_000)?;
        let [narrowed, same] = connection.ways()?;
        assert_eq!((narrowed.path_mtu, narrowed.segment), (1400, 1348));
        assert_eq!(same, far);
        Ok(())
    }
}
