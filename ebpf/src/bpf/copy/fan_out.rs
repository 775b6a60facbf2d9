//! Input: a packet and the endpoints that get a copy. Output: a clone to the output interface of
//! each, for `encap`. Endpoints for which the packet is too long, or whose copies have a checksum,
//! are left to [`fragment`](crate::bpf::copy::fragment) and [`segmenter`](crate::bpf::segmenter).

use core::ffi::c_long;
use core::intrinsics::cold_path;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use traffic_mirror_ebpf::abi::{Control, Cpu, Drop, Endpoint, EndpointStats, MAX_ENDPOINTS, cb};
use traffic_mirror_ebpf::classify::lowest_bit;
use traffic_mirror_ebpf::fit::{Fit, Size};
use traffic_mirror_ebpf::packet::{Packet, protocol};

use crate::bpf::copy::clonable::is_brittle;
use crate::bpf::copy::drops::count_drop;
use crate::bpf::copy::send::{CloneRequest, send_by};
use crate::bpf::copy::{begin, limit};
use crate::bpf::direct::control;
use crate::bpf::maps::{CPU, ENDPOINT_STATS, ENDPOINTS, FILTER_STATS};
use crate::bpf::measure::{is_bare, measure};
use crate::bpf::memo::{FOUND_MAX, Memo};
use crate::bpf::queue::PACKET_BYTES;
use crate::bpf::skb::Skb;
use crate::bpf::verifier::{STOP, each, go_on_if};

/// Interval of copies to a next hop that does not answer: they make the kernel resolve it.
const PROBE_NS: u64 = 1_000_000_000;
/// After this many bytes, with the kernel's overhead, a CPU checks the output interface's queue
/// again.
const LOOK_BYTES: u64 = 256 << 10;
/// A queue that was full is left alone for so long: a tick of the coarse clock at most.
const FULL_NS: u64 = 1_000_000;

/// The copies of one packet.
pub(crate) struct FanOut {
    pub skb: Skb,
    /// Endpoints that are still to get one, as bits.
    pub endpoints: u64,
    /// Endpoints whose copies go in fragments, with a checksum, or through the segmenter, as bits.
    pub oversize: u64,
    pub bank: u32,
    flow: u32,
    /// Bits of [`cb::ENDPOINT`] that are the same for all of them.
    word: u32,
    protocol: u32,
    pub size: Size,
}

/// Sends a copy to each of the endpoints. Answers those that cannot have it in one piece, as bits.
/// A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn fan_out(
    skb: *mut __sk_buff,
    packet: *const Packet,
    endpoints: u64,
    bank: u32,
) -> u64 {
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        return 0;
    };
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let mut copies = Copies {
        fan: FanOut::measured(Skb(skb), packet, endpoints, bank),
        control: control(),
        cpu,
    };
    copies.prepare(packet.protocol);
    each(MAX_ENDPOINTS, next_endpoint, &mut copies);
    copies.fan.oversize
}

/// Copies in one piece, with the data to send them, looked up once.
struct Copies<'a> {
    fan: FanOut,
    control: &'a Control,
    cpu: *mut Cpu,
}

/// As [`fan_out`], for at most one endpoint: a call is relatively expensive. The matches of a
/// [`Memo`] are counted before, if there is one. A global function: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn copy_to_one(
    skb: *mut __sk_buff,
    packet: *const Packet,
    memo: *const Memo,
    endpoints: u64,
    bank: u32,
) -> u64 {
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        return 0;
    };
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    let packet = unsafe { &*packet };
    let size = measure(Skb(skb), packet);
    if !memo.is_null() {
        begin(cpu, size.packets);
        let mut nth = 0;
        while nth < FOUND_MAX {
            // SAFETY: the caller passes a pointer to a per-CPU element.
            let filter = unsafe { (*memo).filters[nth] };
            let Some(stats) = FILTER_STATS.get_ptr_mut(filter) else {
                break;
            };
            // SAFETY: as above.
            unsafe { &mut (*stats).matched }.add(size.packets, size.bytes);
            nth += 1;
        }
    }
    if endpoints == 0 {
        return 0;
    }
    let fan = FanOut::of(Skb(skb), packet, size, flow(packet, bank), endpoints, bank);
    let mut copies = Copies {
        fan,
        control: control(),
        cpu,
    };
    copies.prepare(packet.protocol);
    copies.send_next();
    copies.fan.oversize
}

unsafe extern "C" fn next_endpoint(_: u32, copies: *mut Copies<'_>) -> c_long {
    // SAFETY: `each` passes a valid pointer.
    let copies = unsafe { &mut *copies };
    if copies.fan.endpoints == 0 {
        return STOP;
    }
    copies.send_next();
    go_on_if(copies.fan.endpoints != 0)
}

impl Copies<'_> {
    /// Finds out what matters of some superpackets.
    #[inline(always)]
    fn prepare(&mut self, protocol: u8) {
        let Size {
            gso, bare, brittle, ..
        } = &mut self.fan.size;
        if *gso != 0 && protocol == protocol::UDP {
            *bare = is_bare(self.fan.skb.0);
        }
        if *gso != 0 && protocol == protocol::TCP {
            *brittle = is_brittle(self.fan.skb.0);
        }
    }

    /// Sends a copy to the first of the endpoints, of which there is at least one.
    #[inline(always)]
    fn send_next(&mut self) {
        let Self { fan, control, cpu } = self;
        let index = lowest_bit(fan.endpoints);
        fan.endpoints &= fan.endpoints - 1;
        let (Some(pair), Some(stats)) = (ENDPOINTS.get(index), ENDPOINT_STATS.get_ptr_mut(index))
        else {
            return;
        };
        let endpoint = &pair[fan.bank as usize & 1];
        // SAFETY: a per-CPU element.
        let stats = unsafe { &mut *stats };
        let mut fit = Fit::default();
        let reason = fan.fit(endpoint, stats, &mut fit);
        if reason != Drop::None as u32 {
            count_drop(stats, reason, fan.size.packets);
        } else if fit.fragments != 1 || endpoint.summed != 0 && endpoint.state == Drop::None as u32
        {
            // the probe of a silent next hop is one plain packet
            if endpoint.state == Drop::None as u32 {
                fan.oversize |= 1 << index;
            } else {
                count_drop(stats, endpoint.state, fan.size.packets);
            }
        } else {
            let reason = match fan.request(endpoint, index, stats, &fit) {
                Some(request) => send_by(fan.skb, &request, control, *cpu),
                None => Drop::Limit as u32,
            };
            fan.account(endpoint, stats, &fit, reason);
        }
    }
}

/// [`Fit::of`]; returns 0 or the [`Drop`] as a number. A global function: the verifier checks its
/// many paths once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn find_fit(
    size: *const Size,
    protocol: u32,
    endpoint: *const Endpoint,
    fit: *mut Fit,
) -> u32 {
    if size.is_null() || endpoint.is_null() || fit.is_null() {
        return Drop::Oversize as u32;
    }
    // SAFETY: the caller passes pointers to local variables and to an element of a map.
    match unsafe { Fit::of(&*size, protocol, &*endpoint) } {
        Ok(found) => {
            // SAFETY: as above.
            unsafe { *fit = found }
            0
        }
        Err(reason) => reason as u32,
    }
}

/// [`Packet::flow_hash`], where there is no room for it on the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn flow_of(packet: *const Packet, bank: u32) -> u32 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    flow(unsafe { &*packet }, bank)
}

#[inline(always)]
fn flow(packet: &Packet, bank: u32) -> u32 {
    packet.flow_hash(&control().banks[bank as usize & 1].flow_keys)
}

impl FanOut {
    /// Of a packet of which no more is known.
    #[inline(always)]
    pub(crate) fn measured(skb: Skb, packet: &Packet, endpoints: u64, bank: u32) -> Self {
        let (size, flow) = (measure(skb, packet), flow_of(packet, bank));
        Self::of(skb, packet, size, flow, endpoints, bank)
    }

    /// `flow` is the hash of the packet's flow.
    #[inline(always)]
    fn of(skb: Skb, packet: &Packet, size: Size, flow: u32, endpoints: u64, bank: u32) -> Self {
        Self {
            skb,
            endpoints,
            oversize: 0,
            bank,
            flow,
            word: bank << cb::BANK_SHIFT
                | if packet.version == 6 { cb::IPV6 } else { 0 }
                | if packet.headerless != 0 {
                    cb::HEADERLESS
                } else {
                    0
                },
            protocol: u32::from(packet.protocol),
            size,
        }
    }

    /// Finds how the copy goes to an endpoint; answers the [`Drop`] as a number, as
    /// [`Endpoint::state`] has it. The fit stays where it is: moved, it would be on the stack
    /// twice.
    #[inline(always)]
    pub(crate) fn fit(&self, endpoint: &Endpoint, stats: &mut EndpointStats, fit: &mut Fit) -> u32 {
        if endpoint.state != 0
            && !(endpoint.state == Drop::NoNeighbour as u32 && is_probe_due(stats))
        {
            return endpoint.state;
        }
        if stats.tripped == endpoint.breaker {
            return Drop::Unwrapped as u32;
        }
        if !is_sampled(self.flow, endpoint.sample) {
            return Drop::Sample as u32;
        }
        if stats.full_ns != 0 && is_still_full(stats) {
            return Drop::Backlog as u32;
        }
        if Fit::is_plain(&self.size, endpoint) {
            // written as if it were the rare path, the verifier visits it last: it then knows more
            // of it than of the other path, which is enough for both
            cold_path();
            *fit = Fit::plain(&self.size, endpoint);
            return Drop::None as u32;
        }
        find_fit(&raw const self.size, self.protocol, endpoint, fit)
    }

    /// What is sent of a copy, or the first of its fragments; `None` if the endpoint's limit does
    /// not allow it.
    #[inline(always)]
    pub(crate) fn request(
        &self,
        endpoint: &Endpoint,
        index: u32,
        stats: &mut EndpointStats,
        fit: &Fit,
    ) -> Option<CloneRequest> {
        let credit = &raw mut stats.credit_ns;
        if endpoint.is_limited()
            && limit::admits(endpoint, credit, index, self.size.packets, fit.outer_bytes) == 0
        {
            return None;
        }
        let mut word = self.word | index | fit.flags;
        if endpoint.link_bytes == 0 {
            // the kernel takes off whatever stands before the IP header (`__bpf_redirect_no_mac`)
            word &= !cb::HEADERLESS;
        }
        if endpoint.is_routed() {
            word |= cb::PROBE;
        }
        // each clone holds the packet unchanged until it is truncated
        let clones = if fit.fragments > 1 { fit.fragments } else { 1 };
        stats.unlooked += u64::from(clones) * (u64::from(self.skb.len()) + PACKET_BYTES);
        if stats.unlooked > LOOK_BYTES || stats.full_ns != 0 {
            (stats.unlooked, stats.full_ns) = (0, 0);
            word |= cb::LOOK;
        }
        Some(CloneRequest {
            interface: endpoint.interface,
            word,
            flow: self.flow,
            length: fit.length,
        })
    }

    /// Counts what has become of a copy.
    #[inline(always)]
    pub(crate) fn account(
        &self,
        endpoint: &Endpoint,
        stats: &mut EndpointStats,
        fit: &Fit,
        reason: u32,
    ) {
        let packets = self.size.packets;
        if reason == Drop::None as u32 {
            stats.sent.add(packets, fit.bytes);
            stats.truncated += u64::from(packets * fit.is_truncated);
            stats.fragmented += u64::from(fit.fragments > 1);
            return;
        }
        if reason == Drop::Unwrapped as u32 {
            stats.tripped = endpoint.breaker;
        }
        if reason == Drop::Budget as u32 {
            // it may have been told to check the queue, and did not
            stats.unlooked = LOOK_BYTES + 1;
        }
        if reason == Drop::Backlog as u32 {
            stats.full_ns = coarse_now();
        }
        count_drop(stats, reason, packets);
    }
}

#[inline(always)]
fn coarse_now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn is_still_full(stats: &EndpointStats) -> bool {
    coarse_now() - stats.full_ns < FULL_NS
}

/// Whether a flow is in the sample. The hash also gives the outer source port, so other bits of it
/// decide.
#[inline(always)]
fn is_sampled(flow: u32, sample: u32) -> bool {
    (u64::from(flow.wrapping_mul(0x9e37_79b1)) * u64::from(sample)) >> 32 == 0
}

#[inline(always)]
fn is_probe_due(stats: &mut EndpointStats) -> bool {
    let now = coarse_now();
    if now - stats.probed_ns < PROBE_NS {
        return false;
    }
    stats.probed_ns = now;
    true
}
