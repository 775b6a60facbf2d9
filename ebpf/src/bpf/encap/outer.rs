//! Stores the outer header.

use core::intrinsics::cold_path;
use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_skb_store_bytes};
use traffic_mirror_ebpf::abi::{Endpoint, Level, OUTER_MAX_BYTES, Wrapped};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, FRAGMENT_WORDS6, FRAGMENT6_BYTES, IPV4_BYTES, IPV6_BYTES, OUTER4_BYTES,
    OUTER6_BYTES, Variable, fragment6, outer4, outer6,
};
use traffic_mirror_ebpf::packet::ETHER_BYTES;

use crate::bpf::skb::Skb;

/// Writes link and outer header of a packet or a fragment; UDP and GUE header belong to the first
/// one.
#[inline(always)]
pub(super) fn store_outer(
    skb: Skb,
    endpoint: &Endpoint,
    variable: Variable,
    over_ipv6: bool,
    sender: *mut Level,
) -> Option<()> {
    let is_later = variable.offset != 0;
    if !over_ipv6 {
        let outer = outer4(template(endpoint), variable);
        store(
            skb,
            endpoint,
            &outer,
            if is_later { IPV4_BYTES } else { OUTER4_BYTES },
            sender,
        )
    } else if is_later || variable.more {
        cold_path();
        const LATER_BYTES: usize = IPV6_BYTES + FRAGMENT6_BYTES;
        let outer = fragment6(outer6(template(endpoint), variable), variable);
        store(
            skb,
            endpoint,
            &outer,
            if is_later {
                LATER_BYTES
            } else {
                LATER_BYTES + ENCAPSULATION_BYTES
            },
            sender,
        )
    } else {
        store(
            skb,
            endpoint,
            &outer6(template(endpoint), variable),
            OUTER6_BYTES,
            sender,
        )
    }
}

/// The first words of the template.
#[inline(always)]
pub(super) fn template<const N: usize>(endpoint: &Endpoint) -> [u64; N] {
    const { assert!(8 * N <= OUTER_MAX_BYTES && offset_of!(Endpoint, outer) % 8 == 0) };
    // SAFETY: that many words lie in `outer`, at a multiple of 8.
    core::array::from_fn(|i| unsafe { endpoint.outer.as_ptr().cast::<u64>().add(i).read() })
}

/// The last six bytes of one word and the first two of the next: behind a link header of 14 bytes
/// words begin two bytes before one of the frame's does.
#[inline(always)]
pub(super) const fn join(this: u64, next: u64) -> u64 {
    if cfg!(target_endian = "little") {
        this >> 16 | next << 48
    } else {
        this << 16 | next >> 48
    }
}

/// Words of the longest front.
pub(super) const FRONT_WORDS: usize = 2 + FRAGMENT_WORDS6;

/// Writes the link header, and this many bytes of the outer one, in front of the inner packet, and
/// leaves a note of it. It is one write, by a helper: with a direct write the kernel would make
/// every packet that leaves here writable first, ours or not, and drop those for which there is no
/// memory (`bpf_unclone_prologue`).
#[inline(always)]
pub(super) fn store<const N: usize>(
    skb: Skb,
    endpoint: &Endpoint,
    outer: &[u64; N],
    bytes: usize,
    sender: *mut Level,
) -> Option<()> {
    let wrapped = Wrapped {
        begin: outer[0],
        bytes: skb.len().wrapping_sub(endpoint.link_bytes),
        reserved: 0,
    };
    // SAFETY: a per-CPU element.
    unsafe { (*sender).wrapped = wrapped }
    let mut front = [MaybeUninit::<u64>::uninit(); FRONT_WORDS];
    let bytes = bytes as u32;
    let has_link = endpoint.link_bytes != 0;
    if has_link {
        const { assert!(offset_of!(Endpoint, link) % 8 == 0) };
        let link = endpoint.link.as_ptr().cast::<u64>();
        // SAFETY: `link` has two words, at a multiple of 8.
        let [first, second] = unsafe { [link.read(), link.add(1).read()] };
        front[0].write(first);
        front[1].write(second | join(0, outer[0]));
        let mut i = 0;
        while i < N {
            front[i + 2].write(join(outer[i], if i + 1 < N { outer[i + 1] } else { 0 }));
            i += 1;
        }
    } else {
        let mut i = 0;
        while i < N {
            front[i].write(outer[i]);
            i += 1;
        }
    }
    let length = if has_link { ETHER_BYTES + bytes } else { bytes };
    // SAFETY: the context is valid, and that many bytes have been filled in.
    let stored = unsafe { bpf_skb_store_bytes(skb.0, 0, front.as_ptr().cast(), length, 0) };
    (stored == 0).then_some(())
}

/// Differs between the packets of one CPU, between CPUs, and between endpoints, which may have one
/// address, so that fragments are not mixed up; it is the same for all fragments of a copy.
#[inline(always)]
pub(super) fn identification(word: u32, sender: *mut Level) -> u32 {
    // SAFETY: a per-CPU element.
    let number = unsafe { (*sender).number };
    // SAFETY: no arguments.
    let offset = (unsafe { bpf_get_smp_processor_id() }).wrapping_mul(0x9e37);
    number
        .wrapping_add(offset)
        .wrapping_add((word & 0xff).wrapping_mul(0x0b51))
}
