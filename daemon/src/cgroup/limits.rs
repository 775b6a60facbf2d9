//! How many cgroups are read, watched and told apart. Pure.

/// Most cgroups that are read. Those next to the root come first, so that whoever makes many in a
/// part of the hierarchy that belongs to him takes nothing from the others.
pub const MAX_CGROUPS: usize = 65_536;

/// Most cgroups that are watched. A watch keeps about a kibibyte of the kernel's memory, also for a
/// cgroup that is gone until the watch is removed.
pub const MAX_WATCHES: usize = 16_384;

/// Most levels at which cgroups can be selected: a packet costs a call of
/// `bpf_skb_ancestor_cgroup_id` for each of them. A container in a pod of a cluster that runs in
/// containers of a host is at level 7.
pub const MAX_LEVELS: usize = 16;
