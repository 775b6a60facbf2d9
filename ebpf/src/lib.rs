//! What the eBPF programs and the daemon must agree on, and the packet code that runs on any host:
//! the tables' layout ([`abi`]), parsing ([`packet`]), fragments ([`fragment_key`]), the GUE header
//! ([`gue`]), classification ([`classify`]), how a copy is sent ([`fit`]), and where the kernel
//! keeps what no helper tells ([`offsets`]).
#![no_std]

pub mod abi;
pub mod classify;
pub mod fit;
pub mod fragment_key;
pub mod gue;
pub mod icmp;
pub mod offsets;
pub mod packet;
