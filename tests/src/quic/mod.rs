//! The client's side of QUIC, as far as its first packets: ClientHellos, CRYPTO frames and sealed
//! Initials. Shares nothing with the reader in the daemon but the implementation of AES-GCM, which
//! the sample packets of the RFCs check.

mod hello;
mod seal;

pub use hello::{Hello, crypto, varint};
pub use seal::{Client, ONE, TWO};

/// Bytes of the shortest datagram with an Initial (RFC 9000, section 14.1).
pub const DATAGRAM_BYTES: usize = 1200;
