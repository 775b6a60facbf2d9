//! What a stream's first bytes name, written to be read: the oracle of the parser's own tests.

pub use traffic_mirror_ebpf::hello::Outcome;

#[path = "../../../ebpf/src/hello/tests/oracle.rs"]
mod oracle;

pub use oracle::{Reading, read, read_message};
