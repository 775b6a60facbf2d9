//! How a program finds the hooks of an interface: by the interface's index.

/// Most interfaces that are monitored.
pub const MAX_INTERFACES: usize = 512;
/// A hook is one direction of one interface: `2 * place` is its ingress, `2 * place + 1` its
/// egress.
pub const MAX_HOOKS: usize = 2 * MAX_INTERFACES;

/// Bits of a bucket's number.
const BUCKET_BITS: u32 = 9;
/// Buckets: as many as there may be interfaces.
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Cells in a bucket, which are compared one after the other. They are 32 bytes, and so in one
/// cache line.
pub const BUCKET_CELLS: usize = 4;
/// Cells in all buckets.
pub const CELLS: usize = BUCKETS * BUCKET_CELLS;

/// A hash table from the index of an interface to its place. The bucket of an interface follows
/// from its index and the multiplier: the daemon searches a multiplier with which no bucket has too
/// many, so that a look-up compares at most [`BUCKET_CELLS`] numbers, whatever the indices are.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Interfaces {
    /// A bucket is filled from its first cell on.
    pub cells: [Cell; CELLS],
    /// What an index is multiplied with; odd, but 0 as long as there are no interfaces.
    pub multiplier: u32,
    /// Zero.
    pub reserved: u32,
}

/// A cell of [`Interfaces`]. Key and value are side by side: one cache line for both.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Cell {
    /// Index of the interface, 0 for none.
    pub interface: u32,
    /// Its place, and flags above [`Interfaces::PLACE`].
    pub place: u32,
}

impl Interfaces {
    /// Bits of [`Cell::place`] that are the place.
    pub const PLACE: u32 = MAX_INTERFACES as u32 - 1;
    /// Flag of [`Cell::place`], for interfaces whose packets do not begin with an Ethernet header.
    pub const NO_ETHERNET: u32 = 1 << 15;
    /// Flag of [`Cell::place`], for interfaces of whose connections all server names are remembered.
    pub const LEARN: u32 = 1 << 14;
    /// Either flag.
    pub const UNUSUAL: u32 = Self::NO_ETHERNET | Self::LEARN;

    /// The first cell of an interface's bucket: the highest bits of the product (multiplicative
    /// hashing; Dietzfelbinger et al., 1997).
    #[inline(always)]
    #[must_use]
    pub const fn bucket(multiplier: u32, interface: u32) -> usize {
        (interface.wrapping_mul(multiplier) >> (u32::BITS - BUCKET_BITS)) as usize * BUCKET_CELLS
    }

    /// Place and flags of an interface; `None` if it has no place.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, interface: u32) -> Option<u32> {
        let first = Self::bucket(self.multiplier, interface);
        let mut nth = 0;
        while nth < BUCKET_CELLS {
            let cell = &self.cells[first + nth];
            if cell.interface == interface {
                return Some(cell.place);
            }
            nth += 1;
        }
        None
    }
}

const _: () = {
    assert!(size_of::<Interfaces>() == 8 * CELLS + 8);
    assert!(MAX_INTERFACES.is_power_of_two() && Interfaces::PLACE & Interfaces::UNUSUAL == 0);
};
