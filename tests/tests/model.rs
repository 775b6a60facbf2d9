//! The parser and the tables on the host against the naive matcher: no kernel, many more packets.
//! `ORACLE_SEED` begins elsewhere, `MODEL_PACKETS` sets how many there are at least.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use traffic_mirror::compile::Compiled;
use traffic_mirror::desired::Desired;
use traffic_mirror::network::Network;
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi::{BLOCK_SLOTS, MAX_FILTERS, MAX_SLOTS, Skipped, Slot};
use traffic_mirror_ebpf::classify::{Candidates, OutOfTable};
use traffic_mirror_ebpf::packet::{Bytes, Packet, parse};
use traffic_mirror_tests::oracle::candidates_of_odd;
use traffic_mirror_tests::oracle::flow::flow;
use traffic_mirror_tests::oracle::frame::{Frame, frame, packet};
use traffic_mirror_tests::oracle::naive::{Answer, Flow, Place, Unknown, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, hook, large, load, setting};

/// A file, compiled, beside what it means.
struct Subject {
    text: String,
    desired: Desired,
    compiled: Compiled,
    network: Network,
    places: Vec<Place>,
}

impl Subject {
    fn new(text: String) -> Self {
        let (desired, network) = (load(&text), configuration::network());
        let compiled = compiled(&desired, &network);
        let places = places(&desired, &network);
        Self {
            text,
            desired,
            compiled,
            network,
            places,
        }
    }

    /// Compares what the tables say of a packet at a place; whether any filter matched.
    fn compare(&self, place: usize, flow: &Flow, packet: &Packet) -> bool {
        let (tables, place) = (&self.compiled.tables, &self.places[place]);
        let want = ask(&self.desired, place, flow);
        let hook = hook(tables.active_bank(), &self.network, place).expect("it is listed");
        let got = classify(tables, hook, packet);
        let differ = || {
            let one_sided =
                |index: &usize| want.filters.contains(index) != got.filters.contains(index);
            let filters = (0..self.desired.filters.len())
                .filter(one_sided)
                .map(|index| &self.desired.filters[index]);
            filters
                .map(|filter| format!("{filter:?}\n"))
                .collect::<String>()
        };
        assert!(
            want == got,
            "{place:?} {flow:?} {packet:?}\nwanted {want:?}\ngot {got:?}\n{}{}",
            differ(),
            self.shown()
        );
        !want.filters.is_empty()
    }

    fn compare_frame(&self, place: usize, frame: &Frame) -> bool {
        let mut packet = Packet::default();
        let ethertype = u16::from_be_bytes([frame.bytes[12], frame.bytes[13]]);
        let parsed = parse(&mut Bytes(&frame.bytes), ethertype, &mut packet);
        match (&frame.flow, parsed) {
            (Ok(flow), Ok(())) => self.compare(place, flow, &packet),
            (Err(want), Err(got)) if *want == got => false,
            (_, parsed) => panic!("parsed as {parsed:?}: {frame:02x?}"),
        }
    }

    fn shown(&self) -> &str {
        const SHOWN_BYTES: usize = 20_000;
        if self.text.len() <= SHOWN_BYTES {
            &self.text
        } else {
            "(the file is too long to show)"
        }
    }
}

/// What the tables say of a packet, as `mirror` reads them.
fn classify(tables: &Tables, hook: usize, packet: &Packet) -> Answer {
    let mut answer = Answer::default();
    let (active, mut excluded) = (tables.active_bank(), 0);
    let mut take = |slot: &Slot| {
        answer.endpoints |= slot.action[0].include;
        excluded |= slot.action[0].exclude;
        answer.filters.push(slot.filter as usize);
    };
    // nobody has told of a later fragment's first
    let mut packet = *packet;
    if packet.fragment == Packet::LATER {
        packet.forget_ports();
    }
    if packet.unknown == 0 || active.skips_unparsed != 0 {
        search::<false>(
            tables,
            Candidates::of(tables, active, hook, &packet),
            |slot| take(slot),
        );
    } else {
        for any in [true, false] {
            let found = candidates_of_odd(tables, active, hook, &packet, any);
            search::<true>(tables, found, |slot| {
                if any == (slot.action[0].exclude == 0) {
                    take(slot)
                }
            });
        }
    }
    answer.endpoints &= !excluded;
    answer.filters.sort_unstable();
    answer.filters.dedup();
    answer
}

fn search<const ODD: bool>(
    tables: &Tables,
    found: Result<Option<Candidates>, OutOfTable>,
    mut take: impl FnMut(&Slot),
) {
    let Some(mut candidates) = found.expect("no index beyond a table") else {
        return;
    };
    while let Some(block) = candidates.next_block() {
        let search = candidates.search::<_, ODD>(tables, tables.active_bank(), block);
        let mut search = search.expect("no index beyond a table");
        while let Some(slot) = search.next_slot() {
            take(&tables.slots[slot as usize]);
        }
    }
}

#[test]
fn the_tables_say_what_random_files_mean() {
    const PACKETS: u64 = 1000;
    const SIZES: [usize; 10] = [0, 1, 1, 2, 2, 3, 10, 30, 100, 1000];
    let seed = setting("ORACLE_SEED", 1);
    let wanted = setting("MODEL_PACKETS", 1_000_000);
    let begin = Instant::now();
    let (mut packets, mut matched, mut files) = (0, 0, 0);
    for seed in seed.. {
        if packets >= wanted {
            break;
        }
        let mut random = Random::new(seed);
        let filters = *random.pick(&SIZES);
        let subject = Subject::new(configuration::random(&mut random, filters));
        files += 1;
        for _ in 0..if subject.places.is_empty() {
            0
        } else {
            PACKETS
        } {
            let flow = flow(&mut random, &subject.desired);
            let frame = frame(&mut random, flow);
            let place = random.below(subject.places.len() as u64) as usize;
            matched += u64::from(subject.compare_frame(place, &frame));
            packets += 1;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "model: seed {seed}, {files} files, {packets} packets ({matched} with a match), 0 wrong, {seconds:.1} s"
    );
}

/// Blocks are shared by field sets only where they do not suffice otherwise.
#[test]
fn every_number_of_slots_finds_its_blocks() {
    let mut random = Random::new(setting("ORACLE_SEED", 1));
    let sizes = [4_000, 8_000, 9_000, 12_000, MAX_FILTERS].map(|filters| {
        let subject = Subject::new(large::bidirectional(&mut random, filters));
        for _ in 0..2000 {
            let flow = flow(&mut random, &subject.desired);
            let packet = packet(&flow);
            subject.compare(0, &flow, &packet);
        }
        let slots = subject.compiled.tables.slots.len();
        let used = subject
            .compiled
            .tables
            .slots
            .iter()
            .filter(|slot| **slot != Default::default())
            .count();
        (slots, used)
    });
    let [(small, small_used), .., (largest, largest_used)] = sizes;
    assert!(
        small - small_used > BLOCK_SLOTS,
        "field sets have blocks of their own"
    );
    // 31 field sets end in a block each that is half full on average
    assert!(
        largest <= MAX_SLOTS && largest_used > MAX_SLOTS - 31 * BLOCK_SLOTS / 2,
        "field sets share blocks"
    );
}

/// A file with these networks as sources, a filter each.
fn file_of(networks: impl Iterator<Item = String>) -> String {
    let filters = networks.enumerate().map(|(index, network)| {
        format!("[[filter]]\nname = \"f{index}\"\nto = [\"e\"]\nsource = [\"{network}\"]\n")
    });
    let head = "[[interface]]\nname = \"eth0\"\n[endpoint.e]\naddress = \"192.0.2.1\"\n";
    head.to_owned() + &filters.collect::<String>()
}

/// Asks for an address that differs from `around` in each bit once, and in all bits behind.
fn ask_around(subject: &Subject, around: u128, bits: u32) {
    for bit in 0..=bits {
        let single = if bit == bits { 0 } else { 1 << (127 - bit) };
        let all = if bit == bits { 0 } else { !0 >> bit };
        let shorter = !0 << (128 - bits);
        for source in [
            around ^ single,
            around ^ all & shorter,
            around & !all,
            around | all & shorter,
        ] {
            let (source, destination): (IpAddr, IpAddr) = if bits == 32 {
                (
                    Ipv4Addr::from_bits((source >> 96) as u32).into(),
                    Ipv4Addr::UNSPECIFIED.into(),
                )
            } else {
                (
                    Ipv6Addr::from_bits(source).into(),
                    Ipv6Addr::UNSPECIFIED.into(),
                )
            };
            let flow = Flow {
                source,
                destination,
                protocol: 6,
                ports: Some((1, 2)),
                vlan: 0,
                unknown: Unknown::Nothing,
            };
            subject.compare(0, &flow, &packet(&flow));
        }
    }
}

fn network(bits: u128, length: u32, family: u32) -> String {
    let bits = if length == 0 {
        0
    } else {
        bits & !0 << (128 - length)
    };
    let address: IpAddr = match family {
        32 => Ipv4Addr::from_bits((bits >> 96) as u32).into(),
        _ => Ipv6Addr::from_bits(bits).into(),
    };
    format!("{address}/{length}")
}

#[test]
fn prefixes_of_every_length() {
    let mut random = Random::new(1);
    for family in [32, 128] {
        let around = random.wide() | 1 << 127;
        // each alone, then all nested: a node for every byte
        for length in 0..=family {
            ask_around(
                &Subject::new(file_of([network(around, length, family)].into_iter())),
                around,
                family,
            );
        }
        let nested = Subject::new(file_of(
            (0..=family).map(|length| network(around, length, family)),
        ));
        assert!(nested.compiled.tables.nodes.len() >= family as usize / 8);
        ask_around(&nested, around, family);
        // sets of lengths: chains of skips and nodes in any order
        for _ in 0..300 {
            let share = random.within(1, 60);
            let lengths: Vec<u32> = (0..=family).filter(|_| random.percent(share)).collect();
            let beside = random.wide() >> random.below(u64::from(family));
            let apart = lengths
                .iter()
                .filter(|length| **length % 3 == 0)
                .map(|&l| network(around ^ beside, l, family));
            let mut networks: Vec<String> = lengths
                .iter()
                .map(|&l| network(around, l, family))
                .chain(apart)
                .collect();
            networks.retain(|network| !network.starts_with("::ffff:"));
            if networks.is_empty() {
                continue;
            }
            let subject = Subject::new(file_of(networks.into_iter()));
            ask_around(&subject, around, family);
            ask_around(&subject, around ^ beside, family);
        }
    }
}

/// A walk takes a node for each byte of an address and, where it ends at a single longer prefix, a
/// skip.
#[test]
fn the_longest_walk() {
    let around = 0x2001_0db8_1122_3344_5566_7788_99aa_bbcc_u128;
    // at each byte but the last something else branches off; the last byte holds one prefix
    let branches = (0..15).map(|byte| network(around ^ 1 << (120 - 8 * byte), 8 * (byte + 1), 128));
    let networks = branches.chain([network(around, 125, 128), network(around, 128, 128)]);
    let subject = Subject::new(file_of(networks));
    assert_eq!(subject.compiled.tables.nodes.len(), 16);
    ask_around(&subject, around, 128);
}

/// What [`Skipped`] says of a frame does not depend on filters.
#[test]
fn without_filters_frames_are_parsed_all_the_same() {
    let subject = Subject::new("[[interface]]\nname = \"eth0\"\n".to_owned());
    let mut random = Random::new(2);
    let mut seen = [0; Skipped::COUNT];
    for _ in 0..20_000 {
        let flow = flow(&mut random, &subject.desired);
        let frame = frame(&mut random, flow);
        assert!(!subject.compare_frame(0, &frame));
        if let Err(reason) = frame.flow {
            seen[reason as usize] += 1;
        }
    }
    assert!(seen[Skipped::NotIp as usize] > 0 && seen[Skipped::Malformed as usize] > 0);
}
