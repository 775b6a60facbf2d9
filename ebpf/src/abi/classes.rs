//! Sets of slots: what each value of a field selects, and what a match does.

use super::{BLOCK_WORDS, BLOCKS, NameKeys};

/// An element of `ROWS`: the slots that are active on a hook.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Row {
    /// By number of the block.
    pub blocks: [Block; BLOCKS],
}

/// An element of `BLOCKS`: one bit for each of 512 slots.
pub type Block = [u64; BLOCK_WORDS];

/// The one element of `VALUES`: the class of each value of the small fields.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Values {
    /// By IP protocol number.
    pub protocol: [u32; 256],
    /// The class of a packet with an unknown protocol: filters that give none.
    pub no_protocol: u32,
    /// Zero.
    pub reserved: u32,
    /// By source port.
    pub source_port: [u32; 65_536],
    /// By destination port.
    pub destination_port: [u32; 65_536],
    /// Source and destination port class of a packet that has no ports.
    pub no_port: [u32; 2],
    /// By the number of the outermost VLAN; 0 is for packets without a tag, or with one for
    /// priority alone (802.1Q).
    pub vlan: [u32; VLANS],
    /// The class of a flow whose server name is one that no filter has.
    pub other_name: u32,
    /// The class of a flow whose server name cannot be known: filters with `undecided = "mirror"`.
    pub undecided: u32,
    /// The class of a packet whose applications are none that a filter has.
    pub other_application: u32,
    /// The class of a packet whose application cannot be known: filters with `undecided = "mirror"`.
    pub undecided_application: u32,
    /// Keys of the hashes of server names, flows and cgroups.
    pub name_keys: NameKeys,
}

/// VLAN numbers: 12 bits.
pub const VLANS: usize = 4096;

/// Id of the class without slots.
pub const EMPTY_CLASS: u32 = 0;
/// In place of a class: the set of all slots, for a field that is unknown. No table holds it.
pub const ANY_CLASS: u32 = u32::MAX;

/// Id of the block without slots.
pub const EMPTY_BLOCK: u32 = 0;

/// An element of `CLASSES`: a set of slots. `SUMMARIES` has a word for each: bit b is set if the
/// set has slots in block b.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Class {
    /// What it holds of each block, by index into `BLOCKS`; classes that hold the same of a block
    /// share it.
    pub blocks: [u32; BLOCKS],
}

/// An element of `SLOTS`: what a match does.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Slot {
    /// The two copies.
    pub action: [Action; 2],
    /// Index into `FILTERS` and `FILTER_STATS`.
    pub filter: u32,
    /// [`Slot::USED`], [`Slot::REVERSE`], [`Slot::NO_ADDRESS`].
    pub flags: u32,
}

impl Slot {
    /// The slot stands for something.
    pub const USED: u32 = 1;
    /// Its filter has another slot (bidirectional) and still counts a packet once.
    pub const REVERSE: u32 = 2;
    /// Its filter gives sources or destinations by DNS names alone, none of which has an address:
    /// no packet matches. For the status.
    pub const NO_ADDRESS: u32 = 4;
}

/// Endpoints as bits, by their index in `ENDPOINTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Action {
    /// Endpoints that get a copy.
    pub include: u64,
    /// Endpoints that get no copy, whatever other filters match.
    pub exclude: u64,
}
