//! Where the first bytes of a stream lie: in an element of a CPU for those of one packet, else in
//! one that a flow has for some seconds.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use traffic_mirror_ebpf::abi::ASSEMBLY_OF_DAEMON;
use traffic_mirror_ebpf::hello::Buffer;

use crate::bpf::maps::ASSEMBLIES;

/// The element for packets by themselves, of this CPU.
#[inline(always)]
pub(super) fn own() -> u32 {
    // SAFETY: no arguments.
    ASSEMBLY_OF_DAEMON + 1 + unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
pub(super) fn buffer(place: u32) -> Option<&'static mut Buffer> {
    let assembly = ASSEMBLIES.get_ptr_mut(place)?;
    // SAFETY: an element of the map; what another CPU writes at the same time is bytes.
    Some(unsafe { &mut (*assembly).buffer })
}
