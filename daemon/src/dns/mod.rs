//! The DNS names of the file: what the daemon and the resolver exchange, by two files. The daemon
//! has no network socket, so it resolves nothing itself.

mod changes;
mod figures;
mod list;
mod read;
mod resolver;

pub use figures::Figures;
pub use read::read;
pub use resolver::Resolver;
