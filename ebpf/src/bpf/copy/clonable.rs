//! Input: a packet that filters want, and its endpoints. Output: those that may get a clone of it:
//! all or none. What is not cloned would harm the host, or be handled by the output as if it were
//! the original.

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::Drop;
use traffic_mirror_ebpf::offsets::Offsets;
use traffic_mirror_ebpf::packet::{Packet, protocol};

use crate::bpf::copy::drops::count_lost;
use crate::bpf::kernel_memory::{Copied, SkBuff, offset, read};
use crate::bpf::measure::measure;
use crate::bpf::skb::Skb;

/// `SKBTX_HW_TSTAMP` (include/linux/skbuff.h), with what Linux 6.15 has added to it (`SKBTX_BPF`).
const HARDWARE_TIMESTAMP: u8 = 0x81;

/// Answers the endpoints, or none, and then has counted why.
#[inline(always)]
pub(crate) fn clonable(
    skb: *mut __sk_buff,
    packet: *const Packet,
    endpoints: u64,
    bank: u32,
) -> u64 {
    // any sender can request a timestamp: only packets of clocks count, or a sender could hide
    let may_be_timed = is_of_clocks(packet);
    let reason = match offset!(reading) {
        // a call would cost three times as much as what it is for
        Offsets::BY_TYPE => reason(&(skb as usize), may_be_timed),
        Offsets::BY_HELPER => reason_by_helper(skb, may_be_timed.into()),
        _ => Drop::None as u32,
    };
    if reason != Drop::None as u32 {
        return refuse(skb, packet, endpoints, reason, bank);
    }
    endpoints
}

/// Whether a packet is one of NTP, or an event message of PTP, for which a process may request a
/// hardware timestamp (IANA).
#[inline(always)]
fn is_of_clocks(packet: *const Packet) -> bool {
    const NTP: u16 = 123;
    const PTP_EVENT: u16 = 319;
    if packet.is_null() {
        return false;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let is = |port| packet.source_port == port || packet.destination_port == port;
    packet.protocol == protocol::UDP && packet.ported != 0 && (is(NTP) || is(PTP_EVENT))
}

/// A global function: it has a stack frame of its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn reason_by_helper(skb: *mut __sk_buff, may_be_timed: u32) -> u32 {
    // older kernels verify it even if it is never called
    if offset!(reading) != Offsets::BY_HELPER {
        return Drop::None as u32;
    }
    reason(&Copied::of(skb as usize), may_be_timed != 0)
}

/// Counts, and answers no endpoints. As [`reason_by_helper`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn refuse(
    skb: *mut __sk_buff,
    packet: *const Packet,
    endpoints: u64,
    reason: u32,
    bank: u32,
) -> u64 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packets = measure(Skb(skb), unsafe { &*packet }).packets;
    count_lost(endpoints, reason, packets, bank);
    0
}

/// Why it must not be cloned; a [`Drop`] as a number.
#[inline(always)]
fn reason(kernels: &impl SkBuff, may_be_timed: bool) -> u32 {
    // the helper makes the kernel copy the head of a packet that has clones, which must not happen
    // to a packet with another owner (`pskb_expand_head`: `BUG_ON(skb_shared(skb))`): pktgen sends
    // such packets
    if kernels
        .member::<u32>(offset!(skb_users))
        .is_some_and(|users| users != 1)
    {
        Drop::Shared as u32
    } else if is_to_be_encrypted(kernels) {
        Drop::Offloaded as u32
    } else if may_be_timed && tx_flags(kernels).is_some_and(|flags| flags & HARDWARE_TIMESTAMP != 0)
    {
        Drop::HardwareTimestamp as u32
    } else {
        Drop::None as u32
    }
}

/// Whether the NIC, or the kernel in its place, is still to encrypt it: as kTLS
/// (`tls_validate_xmit_skb`), or IPsec (`validate_xmit_xfrm`) has left it.
#[inline(always)]
fn is_to_be_encrypted(kernels: &impl SkBuff) -> bool {
    let bit = offset!(skb_decrypted) & 7;
    if kernels
        .member::<u8>(offset!(skb_decrypted))
        .is_some_and(|bits| bits >> bit & 1 != 0)
    {
        return true;
    }
    let number = offset!(ext_sec_path);
    let Some(active) = kernels.member::<u8>(offset!(skb_active_extensions)) else {
        return false;
    };
    number < 8 && active >> number & 1 != 0 && olen(kernels, number) != Some(0)
}

/// How many times the IPsec extension requests encryption.
#[inline(always)]
fn olen(kernels: &impl SkBuff, number: u32) -> Option<u32> {
    let extensions = kernels.member::<usize>(offset!(skb_extensions))?;
    let begin = read::<u8>(
        extensions,
        offset!(skb_ext),
        offset!(ext_offset).wrapping_add(number * 8),
    )?;
    read(
        extensions + usize::from(begin) * 8,
        offset!(sec_path),
        offset!(sec_path_olen),
    )
}

#[inline(always)]
fn tx_flags(kernels: &impl SkBuff) -> Option<u8> {
    read(
        shared_info(kernels)?,
        offset!(skb_shared_info),
        offset!(shared_tx_flags),
    )
}

#[inline(always)]
fn shared_info(kernels: &impl SkBuff) -> Option<usize> {
    let head = kernels.member::<usize>(offset!(skb_head))?;
    Some(head + kernels.member::<u32>(offset!(skb_end))? as usize)
}

/// [`Size::brittle`](traffic_mirror_ebpf::fit::Size::brittle): where the kernel has the bug, what
/// has a list of packets in it; if that cannot be seen, everything.
#[inline(always)]
pub(crate) fn is_brittle(skb: *mut __sk_buff) -> u32 {
    if offset!(can_shrink) == 1 {
        return 0;
    }
    let shared = shared_info(&(skb as usize));
    let list = shared.and_then(|shared| {
        read::<usize>(shared, offset!(skb_shared_info), offset!(shared_frag_list))
    });
    u32::from(list != Some(0))
}
