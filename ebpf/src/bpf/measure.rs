//! How long a packet is, here and on the wire.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_csum_level, bpf_skb_load_bytes};
use traffic_mirror_ebpf::fit::Size;
use traffic_mirror_ebpf::packet::{JUMBO_BYTES, Packet, protocol};

use crate::bpf::skb::Skb;

/// Measures a packet.
#[inline(always)]
pub(super) fn measure(skb: Skb, packet: &Packet) -> Size {
    let gso = skb.gso_size();
    let carried = skb.len().wrapping_sub(u32::from(packet.offset));
    let jumbo = if gso != 0 && packet.is_jumbo(carried) {
        JUMBO_BYTES
    } else {
        0
    };
    let carried = carried.wrapping_sub(jumbo);
    let stated = packet.ip_bytes();
    let padded = gso == 0 && stated != 0 && stated < carried;
    let length = if padded { stated } else { carried };
    let mut size = Size {
        packets: 1,
        bytes: length,
        segment: length,
        gso,
        trim: if padded { length } else { 0 },
        bare: 0,
        brittle: 0,
    };
    if gso != 0 {
        let network = u32::from(packet.transport.wrapping_sub(packet.offset)).wrapping_sub(jumbo);
        let headers = network + transport_bytes(skb, packet);
        let mut segments = skb.gso_segs();
        if segments == 0 {
            // unknown for packets from a guest (`SKB_GSO_DODGY`), which may end in their headers
            let payload = if length > headers {
                length - headers
            } else {
                1
            };
            segments = payload.wrapping_add(gso - 1).checked_div(gso).unwrap_or(1);
        }
        size.packets = segments;
        size.bytes = length.wrapping_add(segments.wrapping_sub(1).wrapping_mul(headers));
        size.segment = headers + gso;
    }
    size
}

/// [`Size::bare`]. A program cannot read the state of the checksum (`ip_summed`), but it can raise
/// the level of a verified checksum, also where there is none, but not where the checksum is left
/// to the output interface; the level is restored at once. A global function: the verifier checks
/// it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn is_bare(skb: *mut __sk_buff) -> u32 {
    // include/uapi/linux/bpf.h
    const QUERY: u64 = 0;
    const INC: u64 = 1;
    const DEC: u64 = 2;
    // SAFETY: the context is valid.
    unsafe {
        // a list of received datagrams, which is segmented as it was assembled
        if bpf_csum_level(skb, QUERY) >= 0 {
            return 0;
        }
        bpf_csum_level(skb, INC);
        if bpf_csum_level(skb, QUERY) < 0 {
            return 0;
        }
        bpf_csum_level(skb, DEC);
    }
    1
}

/// Bytes of the transport header of a superpacket.
#[inline(always)]
fn transport_bytes(skb: Skb, packet: &Packet) -> u32 {
    const UDP_BYTES: u32 = 8;
    const TCP_BYTES: u32 = 20;
    const SCTP_BYTES: u32 = 12;
    match packet.protocol {
        protocol::TCP => {}
        protocol::SCTP => return SCTP_BYTES,
        _ => return UDP_BYTES,
    }
    let mut words = 0u8;
    let at = u32::from(packet.transport) + 12;
    // SAFETY: one byte is copied to a local variable.
    let failed = unsafe { bpf_skb_load_bytes(skb.0.cast(), at, (&raw mut words).cast(), 1) };
    if failed == 0 {
        u32::from(words >> 4) * 4
    } else {
        TCP_BYTES
    }
}
