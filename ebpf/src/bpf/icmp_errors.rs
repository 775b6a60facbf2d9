//! Input: every packet that an output interface receives. Output: a count for each ICMP error about
//! a copy of ours, by endpoint. Errors are reported and never stop copies: a sender who knows the
//! addresses can forge them.

use core::ffi::c_long;
use core::mem::MaybeUninit;
use core::ptr::write_volatile;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_skb_load_bytes_relative,
};
use traffic_mirror_ebpf::abi::{IPV6_MTU_MIN, IcmpError, MAX_ENDPOINTS};
use traffic_mirror_ebpf::icmp::{self, Fragment6, Header, ICMP_BYTES, Ports, Quoted4, Quoted6};
use traffic_mirror_ebpf::packet::{
    ETHER_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame as _, protocol,
};

use crate::bpf::direct::control;
use crate::bpf::maps::{ENDPOINT_STATS, ENDPOINTS};
use crate::bpf::skb::{NEXT, Skb};
use crate::bpf::verifier::{STOP, each, go_on_if};

/// `BPF_HDR_START_NET`: wherever the IP header begins, also behind a tunnel's.
const FROM_NETWORK: u32 = 1;

/// `is_ethernet` if frames begin with an Ethernet header: then nearly all of them are let go
/// without a call.
#[inline(always)]
pub(super) fn errors(skb: Skb, is_ethernet: bool) -> i32 {
    let (at, wanted, ipv6) = match skb.ethertype() {
        ETHERTYPE_IPV4 => (9, protocol::ICMP, 0),
        ETHERTYPE_IPV6 => (6, protocol::ICMPV6, 1),
        _ => return NEXT,
    };
    let mut linear = skb.linear();
    let found = match linear.window::<1>(ETHER_BYTES + at).filter(|_| is_ethernet) {
        Some(window) => window.u8(0),
        None => match load::<[u8; 1]>(skb, at, is_ethernet) {
            Some([found]) => found,
            None => return NEXT,
        },
    };
    if found == wanted {
        note(skb.0, ipv6, is_ethernet.into());
    }
    NEXT
}

/// An error that quotes a copy, and the endpoint to find.
struct Errored {
    addresses: [u32; 8],
    ports: Ports,
    kind: u32,
    mtu: u32,
    ipv6: u32,
    bank: u32,
}

/// A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note(skb: *mut __sk_buff, ipv6: u32, is_ethernet: u32) -> u32 {
    if let Some(mut errored) = read(Skb(skb), ipv6 != 0, is_ethernet != 0) {
        each(MAX_ENDPOINTS, next_endpoint, &mut errored);
    }
    0
}

#[inline(always)]
fn read(skb: Skb, ipv6: bool, is_ethernet: bool) -> Option<Errored> {
    let at = if ipv6 {
        40
    } else {
        u32::from(load::<[u8; 1]>(skb, 0, is_ethernet)?[0] & 0x0f) * 4
    };
    let header: Header = load(skb, at, is_ethernet)?;
    let kind = icmp::kind(&header, ipv6);
    if kind == IcmpError::COUNT as u32 {
        return None;
    }
    let quoted = at + ICMP_BYTES;
    let mut errored = Errored {
        addresses: [0; 8],
        ports: [0; 4],
        kind,
        mtu: 0,
        ipv6: ipv6.into(),
        bank: control().epoch & 1,
    };
    let udp = if ipv6 {
        if kind == IcmpError::TooBig as u32 {
            errored.mtu = icmp::mtu(&header);
        }
        let [.., next, _]: [u8; 8] = load(skb, quoted, is_ethernet)?;
        errored.addresses = load(skb, quoted + 8, is_ethernet)?;
        if next == protocol::FRAGMENT {
            let fragment: Fragment6 = load(skb, quoted + size_of::<Quoted6>() as u32, is_ethernet)?;
            if !icmp::is_first6(&fragment) {
                return None;
            }
            (size_of::<Quoted6>() + size_of::<Fragment6>()) as u32
        } else if next == protocol::UDP {
            size_of::<Quoted6>() as u32
        } else {
            return None;
        }
    } else {
        let header: Quoted4 = load(skb, quoted, is_ethernet)?;
        let [source, destination]: [u32; 2] = load(skb, quoted + 12, is_ethernet)?;
        (errored.addresses[0], errored.addresses[1]) = (source, destination);
        icmp::udp4(&header)
    };
    if udp == 0 {
        return None;
    }
    errored.ports = load(skb, quoted + udp, is_ethernet)?;
    Some(errored)
}

unsafe extern "C" fn next_endpoint(index: u32, errored: *mut Errored) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let errored = unsafe { &mut *errored };
    let (Some(pair), Some(stats)) = (ENDPOINTS.get(index), ENDPOINT_STATS.get_ptr_mut(index))
    else {
        return STOP;
    };
    let endpoint = &pair[errored.bank as usize & 1];
    if icmp::is_ours(
        &errored.addresses,
        errored.ports,
        endpoint,
        errored.ipv6 != 0,
    ) {
        // SAFETY: a per-CPU element; `mirror` writes other fields of it.
        let stats = unsafe { &mut *stats };
        // The daemon reads at any time, and must not meet the error without its MTU: the compiler
        // keeps the order of volatile writes.
        if errored.mtu != 0 {
            // SAFETY: no arguments.
            let now = unsafe { bpf_ktime_get_ns() };
            // SAFETY: both are fields of `stats`.
            unsafe {
                write_volatile(&raw mut stats.path_mtu_ns, now);
                write_volatile(&raw mut stats.path_mtu, errored.mtu.max(IPV6_MTU_MIN));
            }
        }
        if let Some(count) = stats.errors.get_mut(errored.kind as usize) {
            // SAFETY: as above.
            unsafe { write_volatile(count, *count + 1) };
        }
    }
    go_on_if(true)
}

/// Bytes from the network header on. The helper that knows its offset reads the linear part alone;
/// data that a driver has left behind that is read at the offset behind an Ethernet header, if
/// there is one.
#[inline(always)]
fn load<T: Copy>(skb: Skb, at: u32, is_ethernet: bool) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let bytes = size_of::<T>() as u32;
    // SAFETY: as many bytes are copied to a local variable as it has, and any bytes are a valid
    // value of what is read.
    unsafe {
        let to = value.as_mut_ptr().cast();
        let is_read = bpf_skb_load_bytes_relative(skb.0.cast(), at, to, bytes, FROM_NETWORK) == 0
            || is_ethernet
                && skb.is_scattered()
                && bpf_skb_load_bytes(skb.0.cast(), ETHER_BYTES + at, to, bytes) == 0;
        is_read.then(|| value.assume_init())
    }
}
