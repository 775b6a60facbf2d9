//! Why filters match and miss, against the naive matcher: random files, random packets, tables in
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use traffic_mirror::compile::describe;
use traffic_mirror::desired::{Desired, Directions, Filter};
use traffic_mirror::network::Network;
use traffic_mirror::tables::Tables;
use traffic_mirror::verdict::{Asked, Flow as Shown, frame, verdict};
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, Explained, Row};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable};
use traffic_mirror_ebpf::packet::{Bytes, Packet, parse};
use traffic_mirror_tests::oracle::candidates_of_odd;
use traffic_mirror_tests::oracle::flow::flow;
use traffic_mirror_tests::oracle::frame::packet;
use traffic_mirror_tests::oracle::naive::{Flow, Place, Unknown, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, hook, load, setting};

/// What `explain` would answer.
fn explained(tables: &Tables, hook: u32, packet: Packet) -> Explained {
    let mut explained = Explained {
        packet,
        ..Explained::nothing()
    };
    let (active, hook) = (tables.active_bank(), hook as usize);
    if packet.unknown == 0 || active.skips_unparsed != 0 {
        fill::<false>(
            tables,
            Candidates::of(tables, active, hook, &packet),
            &mut explained.matches,
        );
        explained.certain = explained.matches;
    } else {
        fill::<true>(
            tables,
            candidates_of_odd(tables, active, hook, &packet, true),
            &mut explained.matches,
        );
        fill::<true>(
            tables,
            candidates_of_odd(tables, active, hook, &packet, false),
            &mut explained.certain,
        );
    }
    explained
}

fn fill<const ODD: bool>(
    tables: &Tables,
    found: Result<Option<Candidates>, OutOfTable>,
    row: &mut Row,
) {
    let Some(mut candidates) = found.expect("no index beyond a table") else {
        return;
    };
    while let Some(block) = candidates.next_block() {
        let search = candidates.search::<_, ODD>(tables, tables.active_bank(), block);
        let mut search = search.expect("no index beyond a table");
        while let Some(slot) = search.next_slot() {
            let (block, bit) = (slot as usize / BLOCK_SLOTS, slot as usize % BLOCK_SLOTS);
            row.blocks[block][bit / 64] |= 1 << (bit % 64);
        }
    }
}

fn hook_of(tables: &Tables, network: &Network, place: &Place) -> u32 {
    hook(tables.active_bank(), network, place).expect("it is listed") as u32
}

/// The fields without any one of which a filter that goes one way only would match.
fn near_misses(
    desired: &Desired,
    place: &Place,
    flow: &Flow,
) -> BTreeMap<String, BTreeSet<&'static str>> {
    type Strip = (&'static str, fn(&mut Filter));
    let strips: [Strip; 7] = [
        ("protocol", |filter| filter.protocol.clear()),
        ("source", |filter| filter.source.clear()),
        ("source_port", |filter| filter.source_port.clear()),
        ("destination", |filter| filter.destination.clear()),
        ("destination_port", |filter| filter.destination_port.clear()),
        ("vlan", |filter| filter.vlan.clear()),
        ("on", |filter| {
            (filter.interface, filter.direction) = (Vec::new(), Directions::Both)
        }),
    ];
    let mut found: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for filter in desired
        .filters
        .iter()
        .filter(|filter| filter.enabled && !filter.bidirectional)
    {
        for (field, strip) in strips {
            let mut alone = Desired {
                filters: vec![filter.clone()],
                ..desired.clone()
            };
            if ask(&alone, place, flow).filters.is_empty() {
                strip(Arc::make_mut(&mut alone.filters[0]));
                if !ask(&alone, place, flow).filters.is_empty() {
                    found.entry(filter.name.clone()).or_default().insert(field);
                }
            }
        }
    }
    found
}

#[test]
fn verdicts_and_near_misses_are_those_of_the_manual() {
    let seed = setting("ORACLE_SEED", 1);
    let network = configuration::network();
    let (mut asked, mut matched, mut missed) = (0, 0, 0);
    for round in 0..60 {
        let mut random = Random::new(seed + round);
        let text = configuration::random(&mut random, 12);
        let desired = load(&text);
        let places = places(&desired, &network);
        if places.is_empty() || !desired.enabled {
            continue;
        }
        let tables = compiled(&desired, &network).tables;
        let described =
            describe(&tables, &desired).expect("tables that do not contradict themselves");
        for _ in 0..200 {
            let place = random.pick(&places);
            let mut flow = flow(&mut random, &desired);
            if random.percent(25) {
                flow.ports = None;
                flow.unknown = *random.pick(&[Unknown::Ports, Unknown::Transport]);
            }
            let hook = hook_of(&tables, &network, place);
            let got = verdict(
                &explained(&tables, hook, packet(&flow)),
                Asked::default(),
                hook,
                &described,
                &network,
            );
            let want = ask(&desired, place, &flow);
            let names: BTreeSet<&str> = want
                .filters
                .iter()
                .map(|&filter| &*desired.filters[filter].name)
                .collect();
            let shown = || format!("{place:?} {flow:?}\n{got:?}\n{text}");
            assert_eq!(
                got.matches
                    .iter()
                    .map(|one| &*one.filter)
                    .collect::<BTreeSet<_>>(),
                names,
                "{}",
                shown()
            );
            let to = desired
                .endpoints
                .iter()
                .enumerate()
                .filter(|(e, _)| want.endpoints >> e & 1 != 0);
            let to: BTreeSet<&str> = to.map(|(_, endpoint)| &*endpoint.name).collect();
            assert_eq!(
                got.goes_to
                    .iter()
                    .map(|one| &*one.endpoint)
                    .collect::<BTreeSet<_>>(),
                to,
                "{}",
                shown()
            );

            let one_way = |name: &str| {
                desired
                    .filters
                    .iter()
                    .any(|filter| filter.name == name && !filter.bidirectional)
            };
            let mut misses: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
            for miss in got.near_misses.iter().filter(|miss| one_way(&miss.filter)) {
                misses
                    .entry(miss.filter.clone())
                    .or_default()
                    .insert(miss.field);
            }
            assert_eq!(misses, near_misses(&desired, place, &flow), "{}", shown());
            (asked, matched, missed) = (asked + 1, matched + names.len(), missed + misses.len());
        }
    }
    println!("{asked} packets, {matched} matches, {missed} near misses");
    assert!(
        matched > 1000 && missed > 1000,
        "{matched} matches, {missed} near misses: not much of a test"
    );
}

#[test]
fn a_made_up_frame_is_parsed_as_it_was_meant() {
    for (source, destination) in [("10.0.0.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2")] {
        for (protocol, ports) in [
            (6, Some((40_000, 443))),
            (17, Some((0, 65_535))),
            (1, None),
            (47, None),
        ] {
            let (source_port, destination_port) = ports.unwrap_or_default();
            let parts = (source.parse().unwrap(), destination.parse().unwrap());
            let vlan = ports.map(|_| 7);
            let frame = frame(
                protocol,
                (parts.0, source_port),
                (parts.1, destination_port),
                vlan,
            )
            .expect("one family");
            let mut got = Packet::default();
            let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
            assert_eq!(parse(&mut Bytes(&frame), ethertype, &mut got), Ok(()));
            let flow = Flow {
                source: parts.0,
                destination: parts.1,
                protocol,
                ports,
                vlan: vlan.unwrap_or(0),
                unknown: Unknown::Nothing,
            };
            assert_eq!(Shown::of(&got), Shown::of(&packet(&flow)), "{flow:?}");
        }
    }
    assert!(
        frame(
            6,
            ("10.0.0.1".parse().unwrap(), 1),
            ("::1".parse().unwrap(), 1),
            None
        )
        .is_none()
    );
}
