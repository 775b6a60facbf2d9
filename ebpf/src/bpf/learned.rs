//! Input: a packet, and the candidates for it among filters with server names or applications.
//! Output: the classes of what no packet has by itself.

use aya_ebpf::bindings::__sk_buff;
use traffic_mirror_ebpf::abi::{ANY_CLASS, Field, Skipped};
use traffic_mirror_ebpf::packet::{Packet, protocol};

use crate::bpf::application::application;
use crate::bpf::direct::{control, values};
use crate::bpf::hook_stats::count;
use crate::bpf::maps::Kernel;
use crate::bpf::memo::{CANDIDATES, FAILED, FOUND, Kept, NONE};
use crate::bpf::server_name::{UNDECIDED, server_name_of_quic, server_name_of_tcp};
use crate::bpf::verifier::opaque;

/// In place of the class of a server name: nobody has looked for it yet.
pub(super) const NOT_ASKED: u32 = UNDECIDED - 1;

/// Beside [`Packet::SERVER_NAME`] and [`Packet::APPLICATION`], if one of them is unknown.
pub(super) const UNKNOWN: u32 = 1 << 8;

/// Gives the candidates in the map the classes of server name and application: [`FOUND`]; or
/// [`NONE`] if no filter can match; or [`UNKNOWN`] with which of them is not known yet. A global
/// function: the verifier checks it once. `name` is the class of the server name, or [`NOT_ASKED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_learned(
    skb: *mut __sk_buff,
    packet: *const Packet,
    epoch: u32,
    name: u32,
) -> u32 {
    let Some(kept) = CANDIDATES.get_ptr_mut(0) else {
        return FAILED;
    };
    // SAFETY: a per-CPU element, which the caller has just written.
    let kept = unsafe { &mut *kept };
    let active = &control().banks[epoch as usize & 1];
    let mut unknown = 0;
    let mut is_undecided = 0;
    let mut left = FOUND;
    if kept.candidates.want(active, Field::ServerName) {
        let mut class = if name == NOT_ASKED {
            opaque(name_of(skb, packet, epoch, kept.candidates.hook))
        } else {
            name
        };
        if class == UNDECIDED {
            is_undecided = 1;
            class = values().undecided;
        }
        if class == ANY_CLASS {
            unknown = u32::from(Packet::SERVER_NAME);
        } else {
            left = give(kept, epoch, Field::ServerName, class);
        }
    }
    if left == FOUND && kept.candidates.want(active, Field::Application) {
        let mut class = opaque(application(skb, packet, epoch, kept.candidates.hook));
        if class == UNDECIDED {
            is_undecided = 1;
            class = values().undecided_application;
        }
        if class == ANY_CLASS {
            unknown |= u32::from(Packet::APPLICATION);
        } else {
            left = give(kept, epoch, Field::Application, class);
        }
    }
    if is_undecided != 0 {
        count(kept.candidates.hook, Skipped::Undecided as u32);
    }
    if left != FOUND {
        return left;
    }
    if unknown != 0 {
        return UNKNOWN | unknown;
    }
    FOUND
}

/// The class of the server name, by the packet's protocol.
#[inline(always)]
fn name_of(skb: *mut __sk_buff, packet: *const Packet, epoch: u32, hook: u32) -> u32 {
    if packet.is_null() {
        return UNDECIDED;
    }
    // SAFETY: the caller passes a pointer to a local variable.
    if unsafe { (*packet).protocol } == protocol::UDP {
        server_name_of_quic(skb, packet, epoch, hook)
    } else {
        server_name_of_tcp(skb, packet, epoch, hook)
    }
}

/// In place of `server_name`, [`server_name_of_quic`] and [`application`], where the maps have no
/// room for what they find: the daemon has it called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn undecided(_: *mut __sk_buff, _: *const Packet, _: u32, _: u32) -> u32 {
    opaque(UNDECIDED)
}

#[inline(always)]
fn give(kept: &mut Kept, epoch: u32, field: Field, class: u32) -> u32 {
    let active = &control().banks[epoch as usize & 1];
    match kept.candidates.give(&Kernel, active, field, class) {
        Ok(true) => FOUND,
        Ok(false) => NONE,
        Err(_) => FAILED,
    }
}
