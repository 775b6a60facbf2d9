//! Objects by their names.

use traffic_mirror_ebpf::abi;

use crate::tables::names;

/// Up to which index there are objects.
pub(super) fn used(named: &[abi::Name]) -> usize {
    names(named)
        .last()
        .map_or(0, |(index, _)| index as usize + 1)
}

/// Objects keep their place in the maps while others come and go, so they stand there in no order.
pub(super) fn sorted<T, K: Ord>(
    objects: impl Iterator<Item = T>,
    key: impl FnMut(&T) -> K,
) -> Vec<T> {
    let mut objects: Vec<T> = objects.collect();
    objects.sort_by_cached_key(key);
    objects
}
