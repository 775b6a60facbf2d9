//! QUIC Initials on their way to the daemon, and what it has read in them. No program can open an
//! Initial as fast as packets come.

/// Bytes of `INITIALS` where filters give server names; elsewhere it has a page.
pub const INITIALS_BYTES: u32 = 1 << 20;
/// Bytes of a datagram with an Initial: a server drops shorter ones (RFC 9000, section 14.1).
pub const INITIAL_MIN_BYTES: u32 = 1200;
/// Bytes of a datagram that may follow; what is behind them is not read.
pub const INITIAL_REST_BYTES: u32 = 512;
const PAYLOAD_BYTES: usize = (INITIAL_MIN_BYTES + INITIAL_REST_BYTES) as usize;

/// A record of `INITIALS`: a UDP payload of the side that has begun a flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Initial {
    /// The key of the flow.
    pub key: u64,
    /// When its connection began, in the units of [`clock`](crate::flow::clock).
    pub time: u32,
    /// Which side began it: 1 if its address and port are the higher ones.
    pub side: u32,
    /// Bytes of the payload that are here, at least [`INITIAL_MIN_BYTES`].
    pub bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// The payload; what is behind it may be anything.
    pub payload: [u8; PAYLOAD_BYTES],
}

/// What the daemon has read of a flow, for the program `quic_name`; the name follows.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Answer {
    /// As [`Initial::key`].
    pub key: u64,
    /// As [`Initial::time`].
    pub time: u32,
    /// As [`Initial::side`].
    pub side: u32,
    /// Why there is no name, an [`Undecided`](crate::flow::Undecided); 0 if there is one.
    pub reason: u32,
    /// Bytes of the name, 1 to 255; 0 if there is none.
    pub bytes: u32,
    /// 1 if the client offers Encrypted ClientHello.
    pub has_ech: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Initial>() == 24 + PAYLOAD_BYTES && size_of::<Answer>() == 32);
