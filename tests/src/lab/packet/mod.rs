//! Frames: built layer by layer, taken apart strictly, cut into fragments and put together.
//! Pure: bytes in, bytes out.

mod build;
pub mod checksum;
mod extension;
mod fragment;
mod gue;
mod layer;
mod parse;
#[cfg(test)]
mod tests;

pub use build::{Layer, Packet, eth, eth_between};
pub use extension::Extension;
pub use fragment::{Reassembler, fragment};
pub use gue::{GUE_PORT, Gue, is_gue};
pub use layer::{Ether, GueHeader, Icmp, Ipv4, Ipv6, Mac, Sctp, Tcp, Udp, Vlan};
pub use parse::{FiveTuple, Fragment, Ip, Link, ip_part, verify_inner_checksums};
