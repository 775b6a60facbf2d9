//! Input: every packet that leaves an output interface. A clone of ours is wrapped; any other goes
//! on untouched.

use core::intrinsics::cold_path;
use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_head,
    bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use traffic_mirror_ebpf::abi::{
    Endpoint, Level, OUTER_MAX_BYTES, Receipt, Slice, Wrapped, cb, tc_index_tag,
};
use traffic_mirror_ebpf::gue::{
    ENCAPSULATION_BYTES, FRAGMENT_WORDS6, FRAGMENT6_BYTES, IPV4_BYTES, IPV6_BYTES, OUTER4_BYTES,
    OUTER6_BYTES, Variable, fold, fragment6, outer4, outer6,
};
use traffic_mirror_ebpf::packet::{ETHER_BYTES, JUMBO_BYTES, protocol};

use crate::bpf::copy::checksum::sum_of;
use crate::bpf::copy::relay::relay;
use crate::bpf::direct::control;
use crate::bpf::level::{has_wrapped, sender};
use crate::bpf::maps::{ENDPOINTS, SCRATCH};
use crate::bpf::queue::is_full;
use crate::bpf::skb::{DROP, NEXT, Skb, pop_tags};
use crate::bpf::verifier::opaque;

/// `BPF_ADJ_ROOM_MAC`: room behind the link header.
const ROOM_MAC: u32 = 1;
/// A copy gives way where a queue has bands: pfifo_fast, prio and mqprio have this in the last one,
/// and most of production, which has priority 0, in the one before (include/uapi/linux/pkt_sched.h,
/// `sch_default_prio2band`).
const TC_PRIO_BULK: u32 = 2;

#[inline(always)]
pub(super) fn encap(skb: Skb) -> i32 {
    let control = control();
    if !skb.is_clone(control.secret) {
        return NEXT;
    }
    let word = skb.cb::<{ cb::ENDPOINT }>();
    if word >> cb::GENERATION_SHIFT != control.generation & 0xffff {
        return NEXT;
    }
    if word & cb::DONE != 0 {
        cold_path();
        confirm(skb);
        return NEXT;
    }
    if word & cb::HEADERLESS != 0 {
        cold_path();
        relay(skb.0);
        // what was sent on is a clone of it
        return DROP;
    }
    let Some(sender) = sender() else { return DROP };
    let is_held = word & cb::LOOK != 0
        && ENDPOINTS.get(word & 0xff).is_some_and(|pair| {
            is_full(skb.0, pair[(word >> cb::BANK_SHIFT & 1) as usize].backlog) != 0
        });
    let (verdict, receipt) = if is_held {
        cold_path();
        (DROP, Receipt::Full)
    } else {
        match wrap(skb, word, control.secret, sender) {
            None => (DROP, Receipt::Refused),
            Some(NEXT) => (NEXT, Receipt::Passed),
            Some(redirected) => (redirected, Receipt::Resolving),
        }
    };
    // SAFETY: a per-CPU element; volatile, since `mirror` waits for it in a helper.
    unsafe { (&raw mut (*sender).receipt).write_volatile(receipt as u32) }
    verdict
}

/// The kernel's neighbour code has sent a copy on. If `mirror` still waits for it, and not for
/// another, it has not been held.
#[inline(always)]
fn confirm(skb: Skb) {
    let Some(sender) = sender() else { return };
    // SAFETY: a per-CPU element.
    unsafe {
        let receipt = &raw mut (*sender).receipt;
        if receipt.read_volatile() == Receipt::Resolving as u32 && has_wrapped(skb.0) != 0 {
            receipt.write_volatile(Receipt::Passed as u32);
        }
    }
}

/// Wraps the clone; `None` if the kernel refused.
#[inline(always)]
fn wrap(skb: Skb, word: u32, secret: u64, sender: *mut Level) -> Option<i32> {
    let pair = ENDPOINTS.get(word & 0xff)?;
    let endpoint = &pair[(word >> cb::BANK_SHIFT & 1) as usize];
    let flow = skb.cb::<{ cb::FLOW }>();
    let length = skb.cb::<{ cb::LENGTH }>();
    // Production's mark and priority must not put a copy into production's class.
    skb.set_mark(0);
    skb.set_priority(TC_PRIO_BULK);
    skb.set_tc_index(tc_index_tag(secret));
    skb.set_cb::<{ cb::ENDPOINT }>(word | cb::DONE);
    pop_tags(skb)?;
    if length != 0 {
        cold_path();
        cut(skb, endpoint.link_bytes + length)?;
    }
    if word & cb::IPV6 != 0
        && skb.len() > endpoint.link_bytes + IPV6_BYTES as u32 + u32::from(u16::MAX)
    {
        cold_path();
        take_jumbo_off(skb, endpoint.link_bytes)?;
    }
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    let variable = if word & cb::SLICE != 0 {
        cold_path();
        take_slice(skb, endpoint, word, flow, sender)?
    } else {
        let fixed = if word & cb::FIXED != 0 && skb.gso_size() != 0 {
            BPF_F_ADJ_ROOM_FIXED_GSO
        } else {
            0
        };
        make_room(
            skb,
            endpoint.outer_bytes,
            over_ipv6,
            fixed | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        )?;
        let ip_bytes = skb.len().wrapping_sub(endpoint.link_bytes);
        let header = if over_ipv6 { IPV6_BYTES } else { IPV4_BYTES } as u32;
        Variable {
            length: ip_bytes,
            udp_length: ip_bytes.wrapping_sub(header),
            flow,
            identification: identification(word, sender),
            offset: 0,
            more: false,
            inner_ipv6: word & cb::IPV6 != 0,
            checksum: 0,
            payload: 0,
        }
    };
    store_outer(skb, endpoint, variable, over_ipv6, sender)?;
    if word & cb::PROBE == 0 {
        return Some(NEXT);
    }
    cold_path();
    let verdict = route(skb.0, endpoint.interface, endpoint.link_bytes);
    (verdict != DROP).then_some(verdict)
}

/// Has the kernel find route and neighbour by the outer header; answers the verdict. A global
/// function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn route(skb: *mut __sk_buff, interface: u32, link_bytes: u32) -> i32 {
    // the neighbour code takes a link header off, of which it looks at a multicast bit only
    // SAFETY: the context is valid.
    if link_bytes == 0 && unsafe { bpf_skb_change_head(skb, ETHER_BYTES, 0) } != 0 {
        return DROP;
    }
    // SAFETY: without parameters the kernel finds both by itself.
    unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Makes room for an outer header, and has the kernel know that there is one.
#[inline(always)]
fn make_room(skb: Skb, bytes: u32, over_ipv6: bool, flags: u32) -> Option<()> {
    let flags = u64::from(flags | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
    let done = if over_ipv6 {
        // SAFETY: the context is valid.
        unsafe {
            bpf_skb_adjust_room(
                skb.0,
                bytes as i32,
                ROOM_MAC,
                flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV6),
            )
        }
    } else {
        // SAFETY: the context is valid.
        unsafe {
            bpf_skb_adjust_room(
                skb.0,
                bytes as i32,
                ROOM_MAC,
                flags | u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4),
            )
        }
    };
    (done == 0).then_some(())
}

/// Takes the hop-by-hop header with the length off a superpacket beyond 64 KiB, if it has one: the
/// kernel would when it cuts the packet, but from the wrong place once that is in a tunnel
/// (`ipv6_gso_segment`).
#[inline(always)]
fn take_jumbo_off(skb: Skb, link_bytes: u32) -> Option<()> {
    const NEXT_HEADER: u32 = 6;
    const ROOM_NET: u32 = 0;
    const FLAGS: u32 = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
    let (mut next, mut behind) = (0u8, [0u8; 4]);
    let at = link_bytes + NEXT_HEADER;
    // SAFETY: as many bytes are copied to local variables as they have.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.0.cast(), at, (&raw mut next).cast(), 1)
            | bpf_skb_load_bytes(
                skb.0.cast(),
                link_bytes + IPV6_BYTES as u32,
                (&raw mut behind).cast(),
                4,
            )
    };
    // RFC 2675: a length of 8 bytes (0), the option (0xc2) and its 4 bytes
    let [after, 0, 0xc2, 4] = behind else {
        return Some(());
    };
    if failed != 0 || next != protocol::HOP_BY_HOP {
        return Some(());
    }
    // SAFETY: the context is valid; one byte is copied from a local variable.
    let done = unsafe {
        bpf_skb_adjust_room(skb.0, -(JUMBO_BYTES as i32), ROOM_NET, FLAGS.into())
            | bpf_skb_store_bytes(skb.0, at, (&raw const after).cast(), 1, 0)
    };
    (done == 0).then_some(())
}

/// Leaves so many bytes of the frame.
#[inline(always)]
fn cut(skb: Skb, bytes: u32) -> Option<()> {
    // SAFETY: the context is valid.
    (unsafe { bpf_skb_change_tail(skb.0, bytes, 0) } == 0).then_some(())
}

/// Takes off the front of the inner packet.
#[inline(always)]
fn pull(skb: Skb, bytes: u32) -> Option<()> {
    // SAFETY: the context is valid.
    let done = unsafe {
        bpf_skb_adjust_room(
            skb.0,
            -(bytes as i32),
            ROOM_MAC,
            BPF_F_ADJ_ROOM_NO_CSUM_RESET.into(),
        )
    };
    (done == 0).then_some(())
}

/// Most that `bpf_skb_adjust_room` takes off at once, and pulls of that size that 64 KiB take.
const PULL_MAX: u32 = 4088;
const PULLS: u32 = 17;

/// Leaves what the fragment is to carry, behind its outer header; or all of it, with a checksum in
/// either case. What is pulled takes the checksum with it that was left to the output interface;
/// the head is put back with the finished one.
#[inline(always)]
fn take_slice(
    skb: Skb,
    endpoint: &Endpoint,
    word: u32,
    flow: u32,
    sender: *mut Level,
) -> Option<Variable> {
    let over_ipv6 = endpoint.outer_bytes == OUTER6_BYTES as u32;
    // SAFETY: a per-CPU element.
    let slice = unsafe { (*sender).slice };
    let is_whole = slice.first == 0 && slice.more == 0;
    let fragment6 = if is_whole { 0 } else { FRAGMENT6_BYTES };
    let header = if over_ipv6 {
        IPV6_BYTES + fragment6
    } else {
        IPV4_BYTES
    } as u32;
    let is_summed = slice.first == 0;
    let variable = Variable {
        length: header + slice.end - slice.first
            + if slice.first == 0 {
                ENCAPSULATION_BYTES as u32
            } else {
                0
            },
        udp_length: slice.udp_length,
        flow,
        identification: identification(word, sender),
        offset: slice.offset,
        more: slice.more != 0,
        inner_ipv6: word & cb::IPV6 != 0,
        checksum: endpoint.checksum,
        payload: if is_summed {
            sum_up(skb, endpoint.link_bytes, &slice)?
        } else {
            0
        },
    };
    if slice.first == 0 {
        let outer_bytes = header + ENCAPSULATION_BYTES as u32;
        let bytes = endpoint.link_bytes + slice.end;
        // the kernel leaves an IP header of what it shortens; what is that short gets an end for as
        // long
        let is_short = slice.end < 2 * Slice::HEAD_MAX;
        trim(
            skb,
            if is_whole && is_short && slice.checksum_at != 0 {
                bytes + Slice::HEAD_MAX
            } else {
                bytes
            },
        )?;
        if !is_whole {
            put_head_back(skb, endpoint, &slice, outer_bytes, over_ipv6)?;
        } else {
            if slice.checksum_at != 0 {
                put_head_back(skb, endpoint, &slice, 0, over_ipv6)?;
                trim(skb, bytes)?;
            }
            make_room(skb, outer_bytes, over_ipv6, 0)?;
        }
    } else {
        let mut left = slice.first;
        let mut pulls = 0;
        while left != 0 {
            let bytes = if left > PULL_MAX { PULL_MAX } else { left };
            pull(skb, bytes)?;
            left -= bytes;
            pulls += 1;
            if pulls > PULLS {
                return None;
            }
        }
        // only now, since the helper takes no length beyond 16 KiB (`BPF_SKB_MAX_LEN`)
        cut(skb, endpoint.link_bytes + slice.end - slice.first)?;
        make_room(skb, header, over_ipv6, 0)?;
    }
    Some(variable)
}

/// Makes the frame so many bytes long. The helper takes no length beyond 16 KiB
/// (`BPF_SKB_MAX_LEN`), not even the one that it has.
#[inline(always)]
fn trim(skb: Skb, bytes: u32) -> Option<()> {
    if skb.len() == bytes {
        Some(())
    } else {
        cut(skb, bytes)
    }
}

/// The sum of all that is sent of the inner packet, with the finished checksum in it.
#[inline(always)]
fn sum_up(skb: Skb, link_bytes: u32, slice: &Slice) -> Option<u16> {
    let bytes = slice.udp_length.wrapping_sub(ENCAPSULATION_BYTES as u32);
    let sum = sum_of(skb.0, link_bytes, bytes);
    let at = slice.checksum_at;
    if at == 0 || at + 2 > bytes {
        return Some(sum as u16);
    }
    let mut open = 0u16;
    // SAFETY: two bytes are copied to a local variable.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.0.cast(), link_bytes + at, (&raw mut open).cast(), 2) };
    (failed == 0).then_some(fold(sum + u32::from(!open) + slice.checksum))
}

/// Takes the head off, and puts it back with the finished checksum, behind room for so many bytes
/// of an outer header, which the kernel knows of then; with 0 there is none yet.
#[inline(always)]
fn put_head_back(
    skb: Skb,
    endpoint: &Endpoint,
    slice: &Slice,
    outer_bytes: u32,
    over_ipv6: bool,
) -> Option<()> {
    let scratch = SCRATCH.get_ptr_mut(0)?.cast::<u8>();
    // from 1 on, which Linux 6.1 does not learn from a comparison
    let head = (opaque(slice.head.wrapping_sub(1)) & (Slice::HEAD_MAX - 1)) + 1;
    let at = slice.checksum_at as usize & (Slice::HEAD_MAX as usize - 1);
    // SAFETY: the scratch has far more bytes than a head; the context is valid.
    unsafe {
        (bpf_skb_load_bytes(skb.0.cast(), endpoint.link_bytes, scratch.cast(), head) == 0)
            .then_some(())?;
        if at != 0 {
            let checksum = (slice.checksum as u16).to_ne_bytes();
            *scratch.add(at) = checksum[0];
            *scratch.add(at + 1) = checksum[1];
        }
    }
    pull(skb, head)?;
    if outer_bytes == 0 {
        let flags = BPF_F_ADJ_ROOM_NO_CSUM_RESET.into();
        // SAFETY: the context is valid.
        (unsafe { bpf_skb_adjust_room(skb.0, head as i32, ROOM_MAC, flags) } == 0).then_some(())?;
    } else {
        make_room(skb, head + outer_bytes, over_ipv6, 0)?;
    }
    // SAFETY: as above.
    let stored = unsafe {
        bpf_skb_store_bytes(
            skb.0,
            endpoint.link_bytes + outer_bytes,
            scratch.cast(),
            head,
            0,
        )
    };
    (stored == 0).then_some(())
}

/// Differs between the packets of one CPU, between CPUs, and between endpoints, which may have one
/// address, so that fragments are not mixed up; it is the same for all fragments of a copy.
#[inline(always)]
fn identification(word: u32, sender: *mut Level) -> u32 {
    // SAFETY: a per-CPU element.
    let number = unsafe { (*sender).number };
    // SAFETY: no arguments.
    let offset = (unsafe { bpf_get_smp_processor_id() }).wrapping_mul(0x9e37);
    number
        .wrapping_add(offset)
        .wrapping_add((word & 0xff).wrapping_mul(0x0b51))
}

/// Writes link and outer header of a packet or a fragment; UDP and GUE header belong to the first
/// one.
#[inline(always)]
fn store_outer(
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
fn template<const N: usize>(endpoint: &Endpoint) -> [u64; N] {
    const { assert!(8 * N <= OUTER_MAX_BYTES && offset_of!(Endpoint, outer) % 8 == 0) };
    // SAFETY: so many words lie in `outer`, at a multiple of 8.
    core::array::from_fn(|i| unsafe { endpoint.outer.as_ptr().cast::<u64>().add(i).read() })
}

/// The last six bytes of one word and the first two of the next: behind a link header of 14 bytes
/// words begin two bytes before one of the frame's does.
#[inline(always)]
const fn join(this: u64, next: u64) -> u64 {
    if cfg!(target_endian = "little") {
        this >> 16 | next << 48
    } else {
        this << 16 | next >> 48
    }
}

/// Words of the longest front.
const FRONT_WORDS: usize = 2 + FRAGMENT_WORDS6;

/// Writes the link header, and so many bytes of the outer one, in front of the inner packet, and
/// leaves word of it. It is one write, and by a helper: with a direct write in it, the kernel has
/// the program make each packet that leaves here writable first, and drops those for which there is
/// no memory (`bpf_unclone_prologue`), be they ours or not.
#[inline(always)]
fn store<const N: usize>(
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
    // SAFETY: the context is valid, and so many bytes have been filled in.
    let stored = unsafe { bpf_skb_store_bytes(skb.0, 0, front.as_ptr().cast(), length, 0) };
    (stored == 0).then_some(())
}
