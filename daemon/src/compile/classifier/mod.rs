//! Input: filters and the live tables. Output: the tables in which programs find the filters of a
//! packet, with as few changes as possible.

pub(super) mod assign;
pub(super) mod build;
mod cgroup_set;
mod cgroup_terms;
pub(super) mod decompile;
pub(super) mod definition;
mod direct;
mod fingerprint;
mod name_set;
pub(super) mod name_table;
mod name_terms;
pub(super) mod reachable;
mod regions;
pub(super) mod room;
pub(super) mod rows;
mod sets;
pub(super) mod slot_set;
pub(super) mod slots;
pub(super) mod source;
mod term;
mod terms;
mod trie;
