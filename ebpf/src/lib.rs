//! What the eBPF programs and the daemon must agree on, and the packet code that runs on any host:
//! the tables' layout ([`abi`]), parsing ([`packet`]), fragments ([`datagram`]), the GUE header ([`gue`]), classification
//! ([`classify`]), how a copy is sent ([`shape`]), and where the kernel keeps what no helper tells ([`offsets`]).
#![no_std]

pub mod abi;
pub mod classify;
pub mod datagram;
pub mod gue;
pub mod icmp;
pub mod offsets;
pub mod packet;
pub mod shape;
