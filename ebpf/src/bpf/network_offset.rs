//! Input: a packet of an interface without link headers. Output: the offset of its IP header. A
//! program may see headers in front of it that earlier code has left there (`skb->mac_len`): on
//! ingress GRE and SIT leave theirs, and IPsec an Ethernet header (`skb_mac_header_rebuild`).

use core::ffi::{c_long, c_void};
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};

use crate::bpf::verifier::{STOP, each, go_on_if};

/// The result of [`network_offset`] if the offset is unknown.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Bytes that are compared: an IPv4 header. No two headers of a packet have these the same, since
/// what is inside is shorter.
const HEADER_BYTES: usize = 20;
/// Least and most bytes of such headers, and what they are multiples of.
const FRONT_MIN: u32 = 14;
const FRONT_MAX: u32 = 128;
const UNIT: u32 = 2;

type Header = [u32; HEADER_BYTES / 4];

struct Sought {
    skb: *mut __sk_buff,
    header: Header,
    at: u32,
    is_found: u32,
}

/// Offset of the network header, bytes; [`NOWHERE`] if there is none in the linear part. No helper
/// returns it, but one reads from there: its bytes are searched in the packet. A global function:
/// the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn network_offset(skb: *mut __sk_buff) -> u32 {
    let mut header = MaybeUninit::<Header>::uninit();
    let (to, bytes) = (header.as_mut_ptr().cast::<c_void>(), HEADER_BYTES as u32);
    // SAFETY: as many bytes are copied to a local variable as it has.
    if unsafe { bpf_skb_load_bytes_relative(skb.cast(), 0, to, bytes, BPF_HDR_START_NET) } != 0 {
        return NOWHERE;
    }
    let mut sought = Sought {
        skb,
        // SAFETY: all of it was written.
        header: unsafe { header.assume_init() },
        at: 0,
        is_found: 0,
    };
    if is_there(&sought) {
        return 0;
    }
    sought.at = FRONT_MIN;
    each(
        ((FRONT_MAX - FRONT_MIN) / UNIT) as usize,
        look_further,
        &mut sought,
    );
    if sought.is_found != 0 {
        sought.at
    } else {
        NOWHERE
    }
}

unsafe extern "C" fn look_further(_: u32, sought: *mut Sought) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let sought = unsafe { &mut *sought };
    if is_there(sought) {
        sought.is_found = 1;
        return STOP;
    }
    sought.at += UNIT;
    go_on_if(true)
}

#[inline(always)]
fn is_there(sought: &Sought) -> bool {
    let mut found = MaybeUninit::<Header>::uninit();
    let (to, bytes) = (found.as_mut_ptr().cast::<c_void>(), HEADER_BYTES as u32);
    // SAFETY: as many bytes are copied to a local variable as it has.
    if unsafe { bpf_skb_load_bytes(sought.skb.cast(), sought.at, to, bytes) } != 0 {
        return false;
    }
    // SAFETY: all of it was written.
    let found = unsafe { found.assume_init() };
    let mut differs = 0;
    let mut word = 0;
    while word < found.len() {
        differs |= found[word] ^ sought.header[word];
        word += 1;
    }
    differs == 0
}
