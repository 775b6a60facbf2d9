//! Input: resolv.conf(5). Output: which servers are asked, and how. It is read here, since the crate
//! `resolv-conf` drops servers on links whose interface has a name such as `br-lan` or `eth0.5`.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

/// Bytes of the file that are read.
const MOST_BYTES: u64 = 64 << 10;
/// Servers that are asked at most, as the C library does (`MAXNS`).
const MOST_SERVERS: usize = 3;
/// Seconds for a server, and attempts, at most, as resolv.conf(5) says.
const MOST_SECONDS: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;

/// How DNS servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Who is asked, in this order.
    pub(crate) servers: Vec<SocketAddr>,
    /// How long each server has.
    pub(crate) timeout: Duration,
    /// How often all are asked.
    pub(crate) attempts: usize,
    /// Each question begins with another server.
    pub(crate) rotate: bool,
    /// Nothing is asked by UDP.
    pub(crate) only_tcp: bool,
    /// IPv6 addresses are not asked for.
    pub(crate) no_ipv6: bool,
}

impl Settings {
    /// Reads the file as it is now. Without one there is a server on this host, as resolv.conf(5)
    /// says.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(path: &Path, port: u16) -> io::Result<Self> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => {
                file.take(MOST_BYTES).read_to_end(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self::parse(&text, port))
    }

    /// What a text means; lines that are wrong mean nothing.
    fn parse(text: &[u8], port: u16) -> Self {
        // the defaults of resolv.conf(5)
        let mut settings = Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            only_tcp: false,
            no_ipv6: false,
        };
        let mut servers = 0;
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers < MOST_SERVERS => {
                    if let Some((address, interface)) = words.next().and_then(server) {
                        servers += 1;
                        settings.servers.extend(socket(address, interface, port));
                    }
                }
                Some("options") => words.for_each(|option| settings.set(option)),
                _ => {}
            }
        }
        if servers == 0 {
            settings.servers.push((Ipv4Addr::LOCALHOST, port).into());
        }
        settings
    }

    fn set(&mut self, option: &str) {
        let (key, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<u32>();
        match (key, number) {
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, MOST_SECONDS).into());
            }
            ("attempts", Ok(attempts)) => {
                self.attempts = attempts.clamp(1, MOST_ATTEMPTS) as usize;
            }
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.only_tcp = true,
            ("no-aaaa", _) => self.no_ipv6 = true,
            _ => {}
        }
    }
}

/// An address, and the interface of one on a link.
fn server(text: &str) -> Option<(IpAddr, Option<&str>)> {
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (text, None),
    };
    Some((address.parse().ok()?, interface))
}

/// Where a server is; `None` if its interface is not there.
fn socket(address: IpAddr, interface: Option<&str>, port: u16) -> Option<SocketAddr> {
    match (address, interface) {
        (IpAddr::V6(address), Some(interface)) => {
            let index = interface.parse().ok();
            let index = index.or_else(|| if_nametoindex(interface).ok())?;
            Some(SocketAddrV6::new(address, port, 0, index).into())
        }
        (address, _) => Some((address, port).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let settings = Settings::parse(text.as_bytes(), 53);
        settings.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_and_options() {
        let settings = Settings::parse(
            b"search example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n\
              options timeout:2 attempts:3 rotate use-vc no-aaaa ndots:5\n",
            53,
        );
        assert_eq!(
            settings,
            Settings {
                servers: vec![
                    "192.0.2.53:53".parse().unwrap(),
                    "[2001:db8::53]:53".parse().unwrap()
                ],
                timeout: Duration::from_secs(2),
                attempts: 3,
                rotate: true,
                only_tcp: true,
                no_ipv6: true,
            }
        );
    }

    #[test]
    fn as_the_c_library_without_servers_and_with_many() {
        assert_eq!(servers(""), ["127.0.0.1:53"]);
        assert_eq!(servers("# nameserver 192.0.2.1\n"), ["127.0.0.1:53"]);
        let many: String = (1..9)
            .map(|n| format!("nameserver 192.0.2.{n}\n"))
            .collect();
        assert_eq!(
            servers(&many),
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]
        );
    }

    #[test]
    fn a_server_on_a_link_has_its_interface() {
        assert_eq!(servers("nameserver fe80::1%lo\n"), ["[fe80::1%1]:53"]);
        assert_eq!(servers("nameserver fe80::1%7\n"), ["[fe80::1%7]:53"]);
        assert!(servers("nameserver fe80::1%no-such.one\n").is_empty());
    }

    #[test]
    fn no_option_makes_a_question_endless() {
        let settings = Settings::parse(b"options timeout:4000000000 attempts:4000000000\n", 53);
        assert_eq!(
            (settings.timeout, settings.attempts),
            (Duration::from_secs(30), 5)
        );
        let settings = Settings::parse(b"options timeout:0 attempts:0\n", 53);
        assert_eq!(
            (settings.timeout, settings.attempts),
            (Duration::from_secs(1), 1)
        );
    }

    #[test]
    fn wrong_lines_mean_nothing() {
        let text =
            b"nameserver\nnameserver x\n\xff\xfe\nnameserver 192.0.2.1 # mine\noptions ndots:x y\n";
        assert_eq!(servers(&String::from_utf8_lossy(text)), ["192.0.2.1:53"]);
        assert_eq!(Settings::parse(text, 53).servers.len(), 1);
    }
}
