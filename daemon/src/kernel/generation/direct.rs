//! Maps of one element that programs reach by its address, without a look-up
//! (`BPF_PSEUDO_MAP_VALUE`). aya creates such references only for data of the object itself, which
//! it would write again for each program. So the object has numbers in their place, and this module
//! replaces them by the maps before aya reads it.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::maps::MapData;
use traffic_mirror_ebpf::abi::DIRECT;

/// Operation of an instruction that loads 64 bits (`BPF_LD | BPF_IMM | BPF_DW`); the upper half of
/// the value is in the next one.
const LOAD_VALUE: u64 = 0x18;
/// Its source register if the value is the address of an element of a map.
const OF_MAP_VALUE: u64 = 2 << 12;
const OPERATION: u64 = 0xff;
const VALUE_SHIFT: u32 = 32;

/// Names of the maps that an object refers to so.
pub(in crate::kernel) fn names() -> impl Iterator<Item = &'static str> {
    DIRECT.into_iter().map(|(name, _)| name)
}

/// Puts the maps of [`names`] in the place of their numbers. They must stay open until the programs
/// are loaded.
pub(in crate::kernel) fn put_in_place(object: &mut [u64], maps: &[MapData]) {
    put(object, maps.iter().map(|map| map.fd().as_fd().as_raw_fd()));
}

/// The same for descriptors of maps.
fn put(object: &mut [u64], descriptors: impl Iterator<Item = RawFd>) {
    for ((_, number), descriptor) in DIRECT.into_iter().zip(descriptors) {
        let descriptor = u64::from(descriptor as u32);
        let is_number = |pair: &[u64]| {
            pair[0] & OPERATION == LOAD_VALUE
                && pair[0] >> VALUE_SHIFT == number & u64::from(u32::MAX)
                && pair[1] == number >> 32 << VALUE_SHIFT
        };
        for at in 0..object.len().saturating_sub(1) {
            if is_number(&object[at..at + 2]) {
                let registers = object[at] & u64::from(u32::MAX);
                object[at] = registers | OF_MAP_VALUE | descriptor << VALUE_SHIFT;
                object[at + 1] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_put_in_place() {
        let [_, (_, number), _] = DIRECT;
        let (low, high) = (number << VALUE_SHIFT, number >> 32 << VALUE_SHIFT);
        // into register 3; the same number elsewhere has another meaning
        let mut object = [0x318 | low, high, 0x3b7 | low, high, 0x318 | low];
        put(&mut object, [7, 8, 9].into_iter());
        assert_eq!(
            object,
            [0x2318 | 8 << VALUE_SHIFT, 0, 0x3b7 | low, high, 0x318 | low]
        );
    }
}
