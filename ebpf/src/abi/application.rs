//! Applications: cgroups, which select a class as the other fields do, and what is remembered of
//! whose packets are whose.

use super::FlowBucket;
use super::labels::unpadded;

/// Levels of the hierarchy at which cgroups are told apart, from the root on.
pub const CGROUP_LEVELS: usize = 16;
/// Bytes of the path of a cgroup that are kept for people.
pub const CGROUP_PATH_BYTES: usize = 240;
/// Elements of `ORIGINS` where filters give applications.
pub const MAX_ORIGINS: u32 = 4096;
/// Elements of a bucket of `ORIGINS`.
pub const ORIGIN_CELLS: u32 = 4;
/// Buckets of `OWNERS` likewise, of four elements each.
pub const OWNER_BUCKETS: u32 = 65_536;

/// An element of `CGROUP_TEXTS`: a cgroup that filters select. No program reads it. What it holds
/// of a cgroup never changes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct CgroupText {
    /// By level: the ids of the cgroups from the root down to this one; 0 behind it, and all 0 if
    /// the element is free.
    pub ids: [u64; CGROUP_LEVELS],
    /// The end of its path, UTF-8, padded with zeros.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// An element of `ORIGINS`: a cgroup that packets have come from, with those above it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What the kernel calls it; 0 if the element is free.
    pub id: u64,
    /// Its class, and for which tables that holds: laid out by [`Found`](crate::flow::Found).
    pub found: u64,
    /// [`checksum`](crate::owner::checksum) of `ids` and `id`: two CPUs may write at the same time.
    pub check: u64,
    /// When a packet last had it, in the units of [`clock`](crate::flow::clock).
    pub seen: u32,
    /// 1 if a filter had it, or one above, when a packet last came from it.
    pub wanted: u32,
    /// By level: the ids of the cgroups from the root down to this one; 0 behind it.
    pub ids: [u64; CGROUP_LEVELS],
}

/// An element of `OWNERS`: which cgroup is at one end of a flow, or at a port of this host. Each
/// value is laid out by [`Known`](crate::flow::Known), with an index into `ORIGINS` in place of a
/// name.
pub type OwnerBucket = FlowBucket;

/// Elements of `WAITING` where filters give applications.
pub const WAITING_CELLS: u32 = 65_536;
/// Packets to an address and port of which nothing is known that are copied in
/// [`IDLE_LIFE`](crate::flow::IDLE_LIFE), to see who answers.
pub const MOST_WAITING: u32 = 20;

/// An element of `WAITING`: packets to addresses and ports of which nothing is known.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// When the first one came, in the units of [`clock`](crate::flow::clock).
    pub since: u32,
    /// How many.
    pub packets: u32,
}

const _: () = {
    assert!(WAITING_CELLS.is_power_of_two());
    assert!(size_of::<CgroupText>() == 8 * CGROUP_LEVELS + CGROUP_PATH_BYTES);
    assert!(size_of::<Origin>() == 32 + 8 * CGROUP_LEVELS);
    assert!(MAX_ORIGINS.is_power_of_two() && OWNER_BUCKETS.is_power_of_two());
};

impl CgroupText {
    /// A cgroup with the ids from the root down to itself; `None` if these are none or too many. Of
    /// a long path the end is kept.
    #[must_use]
    pub fn new(ids: &[u64], path: &str) -> Option<Self> {
        if ids.is_empty() || ids.len() > CGROUP_LEVELS {
            return None;
        }
        let mut text = Self::free();
        text.ids[..ids.len()].copy_from_slice(ids);
        let path = last_bytes(path).as_bytes();
        text.path[..path.len()].copy_from_slice(path);
        Some(text)
    }

    /// A free element.
    #[must_use]
    pub const fn free() -> Self {
        Self {
            ids: [0; CGROUP_LEVELS],
            path: [0; CGROUP_PATH_BYTES],
        }
    }

    /// The ids from the root down to itself; none if the element is free.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        let levels = self.ids.iter().position(|&id| id == 0);
        &self.ids[..levels.unwrap_or(CGROUP_LEVELS)]
    }

    /// The path, or its end; `None` if it is not UTF-8.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        unpadded(&self.path)
    }
}

/// The end of a path that fits, with a zero behind it: whole characters.
#[must_use]
pub fn last_bytes(path: &str) -> &str {
    let mut from = path.len().saturating_sub(CGROUP_PATH_BYTES - 1);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    &path[from..]
}
