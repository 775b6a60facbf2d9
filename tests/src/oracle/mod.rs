//! An independent judge of the classification: random files, random frames, and a matcher that
//! reads a file the way a person would. Shares nothing with the product but [`Desired`], which it
//! takes as given; in particular neither `compile` nor `classify`.

pub mod configuration;
pub mod flow;
pub mod frame;
pub mod kernel;
pub mod large;
pub mod maps;
pub mod naive;
pub mod random;

use traffic_mirror::compile::{Cache, Compiled, new_maps};
use traffic_mirror::desired::{self, Desired};
use traffic_mirror::network::{Direction, Network};
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi::{ANY_CLASS, Bank};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable, hook_of};
use traffic_mirror_ebpf::packet::Packet;

use self::naive::Place;

/// What a file means. Panics if anything is wrong with it: the generators write correct files.
pub fn load(text: &str) -> Desired {
    match desired::load(text) {
        Ok((desired, _warnings)) => desired,
        Err(errors) => {
            let rendered = traffic_mirror::diagnostic::render(&errors, "generated", text, false);
            panic!("a generated file is refused\n{rendered}")
        }
    }
}

/// The number in an environment variable, or `default`. Panics if it is no number.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// The hook that a program at a place finds.
pub fn hook(active: &Bank, network: &Network, place: &Place) -> Option<usize> {
    hook_of(
        active,
        network.link(&place.interface)?.index,
        place.direction == Direction::Egress,
    )
}

/// What a file means on a host, for new maps.
pub fn compiled(desired: &Desired, network: &Network) -> Compiled {
    new_maps(desired, network, &[], &mut Cache::default()).expect("there is room")
}

/// The candidates for a packet with unknown fields, neither of whose learned fields is known.
pub fn candidates_of_odd(
    tables: &Tables,
    active: &Bank,
    hook: usize,
    packet: &Packet,
    any: bool,
) -> Result<Option<Candidates>, OutOfTable> {
    let Some(mut candidates) = Candidates::of_odd(tables, active, hook, packet, any)? else {
        return Ok(None);
    };
    let is_left = candidates.give_odd(tables, active, [ANY_CLASS; 2], any)?;
    Ok(is_left.then_some(candidates))
}
