//! The name of a generation's directory: its number, and which version of us made it.

use std::sync::OnceLock;

use traffic_mirror_ebpf::abi::LAYOUT;

use crate::kernel::object::OBJECT;

const PREFIX: &str = "maps-";

/// Which version of us made a generation. Part of the name of its directory, so that no map has to
/// be read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct BuildId {
    pub(in crate::kernel) layout: u32,
    /// Hash of the object.
    programs: u32,
}

impl BuildId {
    pub(in crate::kernel) fn ours() -> Self {
        static PROGRAMS: OnceLock<u32> = OnceLock::new();
        Self {
            layout: LAYOUT,
            programs: *PROGRAMS.get_or_init(|| fnv1a(OBJECT)),
        }
    }
}

/// Fowler, Noll and Vo, variant 1a with 32 bits: RFC 9923.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

pub(in crate::kernel) fn name(number: u32, build_id: BuildId) -> String {
    if build_id.layout == 0 {
        return format!("{PREFIX}{number}");
    }
    format!(
        "{PREFIX}{number}-{}-{:08x}",
        build_id.layout, build_id.programs
    )
}

pub(in crate::kernel) fn parse(name: &str) -> Option<(u32, BuildId)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let number = parts.next()?.parse().ok()?;
    // the first versions had no build id
    let layout = parts.next().map_or(Some(0), |layout| layout.parse().ok())?;
    let programs = parts
        .next()
        .map_or(Some(0), |programs| u32::from_str_radix(programs, 16).ok())?;
    Some((number, BuildId { layout, programs }))
}
