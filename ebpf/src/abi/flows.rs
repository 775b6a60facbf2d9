//! What is remembered of flows whose server name matters.

use crate::hello::Buffer;
use crate::hello::coverage::Coverage;

/// Cells of a bucket of `FLOWS`: one cache line.
pub const FLOW_CELLS: usize = 4;
/// Cells of a bucket of `TENTATIVE`: one cache line.
pub const TENTATIVE_CELLS: usize = 2;
/// Buckets of `FLOWS` where filters give server names.
pub const FLOW_BUCKETS: u32 = 65_536;
/// Buckets of `TENTATIVE` likewise.
pub const TENTATIVE_BUCKETS: u32 = 65_536;
/// Elements of `LEARNED` likewise.
pub const MAX_LEARNED: u32 = 16_384;
/// Elements of `LEARNED_MORE` where filters give more names than [`MAX_FEW_NAMES`].
pub const MAX_LEARNED_MORE: u32 = 163_840;
/// Names of filters up to which `LEARNED` is enough for those that flows have at a time.
pub const MAX_FEW_NAMES: usize = 2048;
/// Elements of a bucket of `LEARNED` and `LEARNED_MORE`.
pub const LEARNED_CELLS: u32 = 8;
/// Elements of `ASSEMBLIES` likewise, without those for packets by themselves and that of
/// [`ASSEMBLY_OF_DAEMON`].
pub const MAX_ASSEMBLIES: u32 = 1024;

/// The element of `ASSEMBLIES` for what the daemon has read; those of the CPUs follow.
pub const ASSEMBLY_OF_DAEMON: u32 = MAX_ASSEMBLIES;

/// A flow whose server name is known, or known not to be knowable, and to which the other side has
/// answered. A reader detects a cell that another CPU is writing: its two words do not match.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowCell {
    /// The key of the flow, exclusive or what lasts of `value`
    /// ([`Known::lasting`](crate::flow::Known::lasting)).
    pub check: u64,
    /// Laid out by [`Known`](crate::flow::Known).
    pub value: u64,
}

/// An element of `FLOWS`.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowBucket {
    /// In no order.
    pub cells: [FlowCell; FLOW_CELLS],
}

/// A flow of which a forger may have sent all that was seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TentativeCell {
    /// The key of the flow, exclusive or both words below; of datagrams exclusive or `value`.
    pub check: u64,
    /// Laid out by [`Tentative`](crate::flow::Tentative).
    pub value: u64,
    /// A sequence number in the lower half, zero above; of datagrams what the daemon has read, a
    /// [`Verdict`](crate::flow::Verdict).
    pub said: u64,
    /// Of datagrams: packets that have come so far.
    pub packets: u32,
    /// Of datagrams: where the other side wants to be sent to
    /// ([`Datagram::source`](crate::flow::Datagram::source)).
    pub peer: u32,
}

/// An element of `TENTATIVE`.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TentativeBucket {
    /// In no order.
    pub cells: [TentativeCell; TENTATIVE_CELLS],
}

/// Bytes of a name that is remembered.
pub const LEARNED_BYTES: usize = 256;

/// An element of `LEARNED` or `LEARNED_MORE`, whose indices follow: a server name of some flow, whether or not a filter has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Learned {
    /// Its keyed hash; 0 if the element is free.
    pub hash: u64,
    /// Its class, and for which tables that holds: laid out by [`Found`](crate::flow::Found).
    pub found: u64,
    /// When a flow last had it, in the units of [`clock`](crate::flow::clock).
    pub seen: u32,
    /// The same of flows that were answered; 0 if none was.
    pub answered: u32,
    /// Bytes of the name, 1 to 255.
    pub bytes: u32,
    /// Connections that have asked for it since it is remembered; those that CPUs count at the same
    /// time may be missing.
    pub connections: u32,
    /// The name as the client wrote it.
    pub text: [u8; LEARNED_BYTES],
}

const _: () = {
    assert!(size_of::<FlowBucket>() == 64 && size_of::<TentativeBucket>() == 64);
    assert!(size_of::<Learned>() == 32 + LEARNED_BYTES);
    assert!(FLOW_BUCKETS.is_power_of_two() && TENTATIVE_BUCKETS.is_power_of_two());
    assert!(MAX_LEARNED.is_power_of_two() && MAX_LEARNED_MORE.is_multiple_of(LEARNED_CELLS));
    assert!(MAX_ASSEMBLIES.is_power_of_two());
};

/// An element of `ASSEMBLIES`: what the first side of a flow says, in several segments.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct Assembly {
    /// The key of the flow; 0 if the element is free, [`Assembly::BEING_CLEARED`] for a moment.
    pub owner: u64,
    /// The sequence number of the first byte.
    pub begin: u32,
    /// When it was last changed, in the units of [`clock`](crate::flow::clock).
    pub time: u32,
    /// Which bytes are there.
    pub coverage: Coverage,
    /// The bytes.
    pub buffer: Buffer,
}

impl Assembly {
    /// Nobody may use the element.
    pub const BEING_CLEARED: u64 = 1;
}
