//! The DNS names of the file: what the daemon and the resolver exchange, by two files. The daemon
//! has no network socket, so it resolves nothing itself.

mod changes;
mod list;
mod read;
mod resolver;

pub use changes::{changes, lacking};
pub use read::read;
pub use resolver::{Resolver, Said};
