//! Input: the place of each interface. Output: the table in which the programs find it. Positions
//! depend on nothing but the interfaces: a commit switches the whole table, so no element has to
//! stay.

use bytemuck::Zeroable;
use traffic_mirror_ebpf::abi::{BUCKET_CELLS, Cell, Interfaces};

/// Multipliers that are tried. With as many random indices as there may be interfaces one in seven
/// serves.
const TRIES: u32 = 1024;
/// 2^32 divided by the golden ratio, odd: it spreads what is numbered in sequence (Knuth, The Art
/// of Computer Programming
/// 6.4), as interfaces mostly are. Its odd multiples follow.
const FIRST: u32 = 0x9e37_79b9;

/// The table for interfaces: the index of each, and its place with flags. `None` if no multiplier
/// serves.
pub(in crate::compile) fn cells(interfaces: &[(u32, u32)]) -> Option<Interfaces> {
    if interfaces.is_empty() {
        return Some(Interfaces::zeroed());
    }
    (0..TRIES).find_map(|nth| filled(FIRST.wrapping_mul(2 * nth + 1), interfaces))
}

/// `None` if a bucket has no room.
fn filled(multiplier: u32, interfaces: &[(u32, u32)]) -> Option<Interfaces> {
    let mut table = Interfaces {
        multiplier,
        ..Interfaces::zeroed()
    };
    for &(interface, place) in interfaces {
        let first = Interfaces::bucket(multiplier, interface);
        let bucket = &mut table.cells[first..first + BUCKET_CELLS];
        *bucket.iter_mut().find(|cell| cell.interface == 0)? = Cell { interface, place };
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic_mirror_ebpf::abi::MAX_INTERFACES;

    fn check(indices: impl Iterator<Item = u32>) {
        let interfaces: Vec<(u32, u32)> = indices.zip(0..).collect();
        let table =
            cells(&interfaces).unwrap_or_else(|| panic!("no multiplier serves {interfaces:?}"));
        for &(interface, place) in &interfaces {
            assert_eq!(table.find(interface), Some(place));
        }
        let strangers = (1..100_000).chain((0..31).map(|bit| 1 << bit));
        for stranger in strangers
            .filter(|stranger| interfaces.iter().all(|(there, _)| there != stranger))
            .step_by(7)
        {
            assert_eq!(table.find(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn any_set_of_indices_is_found_and_nothing_else() {
        const MOST: u32 = MAX_INTERFACES as u32;
        check([].into_iter());
        check([1].into_iter());
        check(2..2 + MOST);
        // in steps such as those by which buckets of other tables are chosen, up to the largest
        // index
        for step in [2, 3, 64, 512, 2048, 4096, 65_536, (i32::MAX as u32) / MOST] {
            check((1..=MOST).map(|nth| nth * step));
        }
        let mut state = 1_u64;
        for _ in 0..20 {
            let random = std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32 | 1
            });
            let distinct: std::collections::BTreeSet<u32> =
                random.take(2 * MAX_INTERFACES).collect();
            check(distinct.into_iter().take(MAX_INTERFACES));
        }
    }

    #[test]
    fn a_multiplier_that_does_not_serve_is_not_taken() {
        // five that stand in one bucket with the first multiplier
        let bucket = |interface| Interfaces::bucket(FIRST, interface);
        let crowd: Vec<u32> = (1..100_000)
            .filter(|&interface| bucket(interface) == bucket(1))
            .take(5)
            .collect();
        let interfaces: Vec<(u32, u32)> = crowd.iter().copied().zip(7..).collect();
        assert_eq!(filled(FIRST, &interfaces), None);
        let table = cells(&interfaces).unwrap();
        assert!(
            interfaces
                .iter()
                .all(|&(interface, place)| table.find(interface) == Some(place))
        );
        assert_eq!(
            filled(FIRST, &interfaces[1..]).map(|table| table.multiplier),
            Some(FIRST)
        );
    }

    #[test]
    fn flags_come_with_the_place() {
        let table = cells(&[(9, 3 | Interfaces::NO_ETHERNET)]).unwrap();
        assert_eq!(
            table.find(9).map(|place| place & Interfaces::PLACE),
            Some(3)
        );
    }
}
