//! The interface between the eBPF programs and the daemon, and the packet code that runs on any
//! host: the tables' layout ([`abi`]), parsing ([`packet`]), fragments ([`fragment_key`]), the GUE
//! header ([`gue`]), classification ([`classify`]), how a copy is sent ([`fit`]), the offsets of
//! kernel data that no helper returns ([`offsets`]), and the name of the server in the first bytes
//! of a stream ([`hello`]).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod bits;
pub mod classify;
pub mod fit;
pub mod flow;
pub mod fragment_key;
pub mod gue;
pub mod hello;
pub mod icmp;
pub mod offsets;
pub mod owner;
pub mod packet;
