//! Packets through the real kernel: what the kernel tests, the demo and the benchmarks share.

pub mod dashboard;
pub mod hostile;
pub mod lab;
pub mod oracle;
pub mod quic;
pub mod references;
