//! What validation and its remedies both ask of addresses and prefix lengths.

use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::Problem;
use crate::diagnostic::{Code, Remedy};

pub(super) const EXAMPLES: &str =
    "write an address such as \"192.0.2.1\" or a network such as \"10.0.0.0/8\"";

/// The network of an address and a prefix length as the file has them.
pub(super) fn with_prefix(address: IpAddr, prefix: &str) -> Result<IpNet, Problem> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let max = IpNet::from(address).max_prefix_len();
    let bad = |help: Remedy| {
        let cause = format!("but an {family} prefix length is a number up to {max}");
        Problem::new(Code::BadPrefix, cause, help)
    };
    if let Ok(mask) = prefix.parse::<IpAddr>() {
        let network = IpNet::with_netmask(address, mask).map(|network| network.trunc());
        return Err(bad(match network {
            Ok(network) => Remedy::write_string(network),
            Err(_) => EXAMPLES.into(),
        }));
    }
    // no sign, no leading zero
    match prefix.parse::<u8>() {
        Ok(length) if length <= max && length.to_string() == prefix => {
            IpNet::new(address, length).map_err(|_| bad(EXAMPLES.into()))
        }
        Ok(length) if length <= max => {
            Err(bad(Remedy::write_string(format!("{address}/{length}"))))
        }
        _ => Err(bad(format!("write a prefix length of at most {max}").into())),
    }
}

/// Whether an address means something only together with an interface (RFC 4291, section 2.5.6).
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
