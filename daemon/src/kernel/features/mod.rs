//! What this kernel can do, and where its structs have their members.

mod btf;
pub(super) mod memory;
mod patches;
pub(super) mod probe;
pub(super) mod realtime;
