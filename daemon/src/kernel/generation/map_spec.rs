//! Checks that pins are those that the daemon created. Root can replace them: by a map of another
//! size or kind, a map that no program uses, another program, a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::OnceLock;

use aya::maps::MapData;
use aya_obj::Object;

use crate::kernel::bpf::syscall::{info_of, open_pin};
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::generation::Generation;
use crate::kernel::object;
use crate::kernel::object::{
    CounterMaps, DAEMON, OBJECT, OWNER_MAPS, PINNED, capacity, flow_maps, map_names,
};
use crate::tables::Table;

/// Maps that no program reads: they are for people and the next daemon.
const UNUSED: [&str; 11] = [
    "FILTERS",
    "ENDPOINT_NAMES",
    "HOOKS",
    "LISTED",
    "NAME_TEXTS",
    "CGROUP_TEXTS",
    "HISTORY",
    "HEALTH",
    object::FILTERS.past,
    object::ENDPOINTS.past,
    object::HOOKS.past,
];

/// What a map is made like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MapSpec {
    /// `enum bpf_map_type`.
    kind: u32,
    /// Bytes.
    key: u32,
    /// Bytes.
    value: u32,
    flags: u32,
    elements: RangeInclusive<u32>,
}

impl MapSpec {
    /// As the object has it; the daemon makes more room in some.
    fn of(name: &str, map: &aya_obj::Map) -> Self {
        let elements = room(name).unwrap_or(map.max_entries()..=map.max_entries());
        let (key, value) = (map.key_size(), map.value_size());
        Self {
            kind: map.map_type(),
            key,
            value,
            flags: map.map_flags(),
            elements,
        }
    }
}

/// How many elements a map may have that the daemon makes as large as it needs it.
fn room(name: &str) -> Option<RangeInclusive<u32>> {
    if let Some((_, most)) = flow_maps(MOST_CPUS, usize::MAX)
        .into_iter()
        .chain(OWNER_MAPS)
        .find(|(flows, _)| *flows == name)
    {
        return Some(1..=most);
    }
    let counted = counted()
        .into_iter()
        .find(|(kind, _)| [kind.stats, kind.past].contains(&name));
    let table = counted.map(|(_, table)| table);
    let table = table.or_else(|| {
        Table::ALL
            .into_iter()
            .find(|table| table.map_name() == name)
    })?;
    let (least, most) = (capacity(table, 0), capacity(table, usize::MAX / 2));
    // another release may begin with less
    Some(if least == most {
        least..=most
    } else {
        1..=most
    })
}

/// The counters, and the table whose elements they count.
const fn counted() -> [(CounterMaps, Table); 3] {
    [
        (object::FILTERS, Table::Filters),
        (object::ENDPOINTS, Table::EndpointNames),
        (object::HOOKS, Table::Hooks),
    ]
}

/// The specs of all maps of the object.
fn specs() -> &'static BTreeMap<String, MapSpec> {
    static SPECS: OnceLock<BTreeMap<String, MapSpec>> = OnceLock::new();
    SPECS.get_or_init(|| {
        // an unreadable object cannot be loaded either, and loading reports it
        let maps = Object::parse(OBJECT)
            .map(|object| object.maps)
            .unwrap_or_default();
        maps.iter()
            .map(|(name, map)| (name.clone(), MapSpec::of(name, map)))
            .collect()
    })
}

/// Whether a map is made as ours of that name.
///
/// # Errors
/// It is another map, or cannot be queried.
pub(in crate::kernel) fn check(name: &str, map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    let kind = info.map_type().map_or(0, |kind| kind as u32);
    let (key, value, flags, elements) = (
        info.key_size(),
        info.value_size(),
        info.map_flags(),
        info.max_entries(),
    );
    let is_ours = specs().get(name).is_some_and(|ours| {
        (ours.kind, ours.key, ours.value, ours.flags) == (kind, key, value, flags)
            && ours.elements.contains(&elements)
    });
    if is_ours {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "another process pinned a different one in its place (type {kind}, {elements} elements \
         of {value} bytes)"
    )))
}

impl Generation {
    /// What is wrong with its maps and programs, each of which must have a pin; `None` if nothing
    /// is. They are useless then.
    pub(in crate::kernel) fn flaw(&self) -> Option<String> {
        self.examine()
            .err()
            .map(|error| crate::kernel::error::reason(&error))
    }

    fn examine(&self) -> Result<(), KernelError> {
        let (mut numbers, mut elements) = (BTreeMap::new(), BTreeMap::new());
        for name in map_names() {
            let map = self.open_map(name)?;
            let info = map
                .info()
                .map_err(|error| map_error("use", name)(io::Error::other(error)))?;
            numbers.insert(name, info.id());
            elements.insert(name, info.max_entries());
        }
        for (CounterMaps { stats, past }, table) in counted() {
            let same = |name: &str| elements.get(name) == elements.get(table.map_name());
            if let Some(name) = [stats, past].into_iter().find(|name| !same(name)) {
                return Err(map_error("use", name)(io::Error::other(format!(
                    "its size differs from that of {}",
                    table.map_name()
                ))));
            }
        }
        let mut used = BTreeSet::new();
        for name in PINNED
            .into_iter()
            .filter(|name| self.dir.join(name).exists())
        {
            let maps = maps_of(&self.dir.join(name), name).map_err(map_error("use", name))?;
            if numbers
                .get(DAEMON)
                .is_none_or(|daemon| !maps.contains(daemon))
            {
                return Err(map_error("use", name)(io::Error::other(
                    "another process pinned a different one in its place",
                )));
            }
            used.extend(maps);
        }
        let is_used = |name: &str, number| UNUSED.contains(&name) || used.contains(number);
        match numbers
            .iter()
            .find(|&(name, number)| !is_used(name, number))
        {
            Some((name, _)) => Err(map_error("use", name)(io::Error::other(
                "no program of the daemon uses the map that is pinned there",
            ))),
            None => Ok(()),
        }
    }
}

/// The numbers of the maps that a pinned program uses or is bound to.
///
/// # Errors
/// It is not a program of that name, or cannot be queried.
fn maps_of(pin: &Path, name: &str) -> io::Result<Vec<u32>> {
    /// The beginning of `struct bpf_prog_info`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        _before: [u64; 6],
        created_by: u32,
        maps: u32,
        map_ids: u64,
        name: [u8; NAME_BYTES],
    }
    let program = open_pin(pin)?;
    let what = std::fs::read_link(format!("/proc/self/fd/{}", program.as_fd().as_raw_fd()))
        .unwrap_or_default();
    let mut numbers = vec![0; MAX_MAPS];
    let mut info = Info {
        maps: MAX_MAPS as u32,
        map_ids: numbers.as_mut_ptr() as u64,
        ..Info::default()
    };
    if what.to_string_lossy().ends_with("prog") {
        // SAFETY: the buffer has room for that many numbers and lives through the call; the other
        // members are numbers.
        unsafe { info_of(&program, &mut info) }?;
    }
    // a longer name is truncated
    let ours = &name.as_bytes()[..name.len().min(NAME_BYTES - 1)];
    if info.name.split(|&byte| byte == 0).next() != Some(ours) {
        return Err(io::Error::other(
            "another process pinned a different one in its place",
        ));
    }
    numbers.truncate(info.maps as usize);
    Ok(numbers)
}

/// `NR_CPUS` of any kernel.
const MOST_CPUS: u32 = 8192;
/// More than any program of ours has.
const MAX_MAPS: usize = 64;
/// `BPF_OBJ_NAME_LEN`.
const NAME_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_map_of_a_generation_has_its_specification() {
        for name in map_names() {
            assert!(specs().contains_key(name), "{name}");
        }
        assert!(
            UNUSED
                .iter()
                .all(|unused| map_names().any(|name| name == *unused))
        );
        for table in Table::ALL {
            assert_eq!(
                specs()[table.map_name()].value as usize,
                table.element_bytes(),
                "{table:?}"
            );
        }
    }

    #[test]
    fn a_map_of_one_element_has_no_more() {
        assert_eq!(specs()["CONTROL"].elements, 1..=1);
        assert_eq!(specs()["HISTORY"].elements, 1..=1);
        assert!(
            specs()["FILTER_STATS"].elements.contains(&64)
                && !specs()["FILTER_STATS"].elements.contains(&0)
        );
    }
}
