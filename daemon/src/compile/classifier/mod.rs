//! Input: filters and the live tables. Output: the tables in which programs look for the filters of
//! a packet, changed as little as can be.

pub(super) mod assign;
pub(super) mod build;
pub(super) mod decompile;
pub(super) mod definition;
mod direct;
mod fingerprint;
pub(super) mod reachable;
mod regions;
pub(super) mod room;
pub(super) mod rows;
mod sets;
pub(super) mod slot_set;
pub(super) mod slots;
pub(super) mod source;
mod trie;
