//! The interface between the eBPF programs and the daemon, and the packet code that runs on any
//! host: the tables' layout ([`abi`]), parsing ([`packet`]), fragments ([`fragment_key`]), the GUE
//! header ([`gue`]), classification ([`classify`]), how a copy is sent ([`fit`]), and the offsets
//! of kernel data that no helper returns ([`offsets`]).
#![no_std]

pub mod abi;
pub mod classify;
pub mod fit;
pub mod fragment_key;
pub mod gue;
pub mod icmp;
pub mod offsets;
pub mod packet;
