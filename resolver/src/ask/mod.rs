//! Input: a name. Output: its addresses of both families, or why there are none. Whom to ask:
//! systemd-resolved if it is there, else hosts(5), else the servers of resolv.conf(5). nsswitch.conf
//! is not read.

#[cfg(test)]
mod fake;
mod hosts;
mod message;
mod resolved;
mod settings;
mod stub;
mod transport;

use std::net::IpAddr;
use std::path::PathBuf;

use traffic_mirror_resolver::names::is_host;
use traffic_mirror_resolver::{Failure, Name};

use crate::cache::{Answer, Answers};
use hosts::HostsFile;
use settings::Settings;

/// Seconds after which an answer without a TTL is asked for again: it comes from a cache or a file
/// on this host.
const NO_TTL: u32 = 10;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4: A records.
    Four,
    /// IPv6: AAAA records.
    Six,
}

impl Family {
    /// Whether an address is of this family.
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::Four)
    }
}

/// Where addresses come from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The varlink socket of systemd-resolved.
    pub(crate) resolved: PathBuf,
    /// resolv.conf(5).
    pub(crate) resolv_conf: PathBuf,
    /// hosts(5).
    pub(crate) hosts: PathBuf,
    /// Port of the DNS servers.
    pub(crate) port: u16,
}

/// Asks about names, from several threads.
#[derive(Debug)]
pub(crate) struct Asker {
    sources: Sources,
    hosts: HostsFile,
}

impl Asker {
    /// Asks nothing yet.
    pub(crate) fn new(sources: Sources) -> Self {
        let hosts = HostsFile::default();
        Self { sources, hosts }
    }

    /// Asks about a name. Takes up to two minutes if no server answers.
    pub(crate) fn ask(&self, name: &Name) -> Answers {
        Answers {
            four: self.ask_family(name, Family::Four),
            six: self.ask_family(name, Family::Six),
        }
    }

    fn ask_family(&self, name: &Name, family: Family) -> Answer {
        let answer = resolved::ask(&self.sources.resolved, name, family);
        let mut addresses = answer.unwrap_or_else(|| self.ask_files_and_dns(name, family))?;
        addresses.retain(|&(address, _)| is_host(address) && family.has(address));
        if addresses.is_empty() {
            return Err(Failure::NoAddress);
        }
        Ok(addresses)
    }

    fn ask_files_and_dns(&self, name: &Name, family: Family) -> Answer {
        let Sources {
            resolv_conf,
            hosts,
            port,
            ..
        } = &self.sources;
        // without the right to read it the C library asks DNS, too
        if let Ok(Some(answer)) = self.hosts.answer(hosts, name, family) {
            return answer;
        }
        let settings = Settings::read(resolv_conf, *port).map_err(|_| Failure::Unreachable)?;
        if settings.no_ipv6 && family == Family::Six {
            return Err(Failure::NoAddress);
        }
        stub::resolve(name, family, &settings)
    }
}

#[cfg(test)]
mod tests;
