//! Tries of addresses.

/// The first step of an address look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// IPv4 source address.
    Source4,
    /// IPv6 source address.
    Source6,
    /// IPv4 destination address.
    Destination4,
    /// IPv6 destination address.
    Destination6,
}

impl Root {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [
        Self::Source4,
        Self::Source6,
        Self::Destination4,
        Self::Destination6,
    ];
}

/// A trie entry packed into a `u32`, so that one store switches it:
/// a class (bit 31 clear), a node (bits 31-30 = 10) or a skip (11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrieEntry {
    /// The look-up ends with this class.
    Class(u32),
    /// Go on in `NODES[id]` with byte `byte` of the address.
    Node {
        /// Byte of the address, counted from the most significant.
        byte: u8,
        /// Index into `NODES`.
        id: u32,
    },
    /// Go on in `SKIPS[id]`.
    Skip(u32),
}

impl TrieEntry {
    /// The bit that is set for a node or skip, and clear for a class.
    pub const INNER: u32 = 1 << 31;
    /// The bit that is set for a skip, and clear for a node.
    pub const SKIP: u32 = 1 << 30;
    /// Position of a node's byte number.
    pub const BYTE_SHIFT: u32 = 26;
    /// Bits of an index.
    pub const ID_MASK: u32 = (1 << Self::BYTE_SHIFT) - 1;

    /// The packed form.
    #[must_use]
    pub const fn pack(self) -> u32 {
        match self {
            Self::Class(id) => id,
            Self::Node { byte, id } => Self::INNER | (byte as u32) << Self::BYTE_SHIFT | id,
            Self::Skip(id) => Self::INNER | Self::SKIP | id,
        }
    }

    /// The inverse of [`TrieEntry::pack`].
    #[must_use]
    pub const fn unpack(raw: u32) -> Self {
        if raw & Self::INNER == 0 {
            Self::Class(raw)
        } else if raw & Self::SKIP != 0 {
            Self::Skip(raw & Self::ID_MASK)
        } else {
            Self::Node {
                byte: (raw >> Self::BYTE_SHIFT & 15) as u8,
                id: raw & Self::ID_MASK,
            }
        }
    }
}

/// An element of `NODES`: the next [`TrieEntry`] for each value of one address byte.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Node {
    /// Packed entries.
    pub child: [u32; 256],
}

/// An element of `SKIPS`: one comparison in place of a chain of nodes. An address is two `u64` in
/// host byte order, the first with the most significant bytes; IPv4 fills the upper half of the
/// first.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Skip {
    /// The bits that the address must have.
    pub expect: [u64; 2],
    /// The bits that are compared.
    pub mask: [u64; 2],
    /// Packed entry if they are equal.
    pub hit: u32,
    /// Packed entry if not.
    pub miss: u32,
}

impl Skip {
    /// Compares nothing: the look-up continues with `entry`.
    #[must_use]
    pub const fn to(entry: TrieEntry) -> Self {
        Self {
            expect: [0; 2],
            mask: [0; 2],
            hit: entry.pack(),
            miss: entry.pack(),
        }
    }
}
