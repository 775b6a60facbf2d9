//! Reloads on tables in memory, by daemons that die after any write: between every two stores a
//! packet must meet the old rules or the new ones, and all packets the same side of the commit.

use std::cell::Cell;
use std::collections::BTreeSet;

use traffic_mirror::desired::Desired;
use traffic_mirror::network::Network;
use traffic_mirror::plan::Write;
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi;
use traffic_mirror_ebpf::classify::{self, Candidates};
use traffic_mirror_ebpf::packet::Packet;
use traffic_mirror_tests::oracle::flow::flow;
use traffic_mirror_tests::oracle::frame::packet;
use traffic_mirror_tests::oracle::maps::Maps;
use traffic_mirror_tests::oracle::naive::{Flow, Place, Unknown, ask, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{configuration, hook, load, setting};

/// What happens to a packet, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    endpoints: BTreeSet<String>,
    filters: BTreeSet<String>,
}

fn naive(desired: &Desired, place: &Place, flow: &Flow) -> Verdict {
    let answer = ask(desired, place, flow);
    let endpoints = desired
        .endpoints
        .iter()
        .enumerate()
        .filter(|(e, _)| answer.endpoints >> e & 1 != 0);
    Verdict {
        endpoints: endpoints
            .map(|(_, endpoint)| endpoint.name.clone())
            .collect(),
        filters: answer
            .filters
            .iter()
            .map(|&filter| desired.filters[filter].name.clone())
            .collect(),
    }
}

/// The tables as a packet meets them while they are written: so many elements as they were, the
/// rest as they are.
struct Changing<'t> {
    before: &'t Tables,
    now: &'t Tables,
    left: Cell<u64>,
}

impl<'t> Changing<'t> {
    fn get(&self) -> &'t Tables {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left == 0 { self.now } else { self.before }
    }
}

impl classify::Tables for Changing<'_> {
    fn values(&self) -> Option<&abi::Values> {
        self.get().values()
    }

    fn summary(&self, class: u32) -> Option<&u64> {
        self.get().summary(class)
    }

    fn class(&self, id: u32) -> Option<&abi::Class> {
        self.get().class(id)
    }

    fn block(&self, id: u32) -> Option<&abi::Block> {
        self.get().block(id)
    }

    fn node(&self, id: u32) -> Option<&abi::Node> {
        self.get().node(id)
    }

    fn skip(&self, id: u32) -> Option<&abi::Skip> {
        self.get().skip(id)
    }

    fn row(&self, id: u32) -> Option<&abi::Row> {
        self.get().row(id)
    }
}

/// What the tables say at a place to a packet that came when they were as `before`; `None` if they
/// did not have it.
fn classified(
    changing: &Changing<'_>,
    network: &Network,
    place: &Place,
    packet: &Packet,
) -> Option<Verdict> {
    let (active, tables) = (changing.before.active_bank(), changing.now);
    let hook = hook(active, network, place)?;
    let bank = changing.before.control.epoch as usize & 1;
    let (mut include, mut exclude, mut verdict) = (0, 0, Verdict::default());
    let candidates =
        Candidates::of(changing, active, hook, packet).expect("no index beyond a table");
    let Some(mut candidates) = candidates else {
        return Some(verdict);
    };
    while let Some(block) = candidates.next_block() {
        let mut search = candidates
            .search::<_, false>(changing, active, block)
            .expect("no index beyond a table");
        while let Some(slot) = search.next_slot() {
            let slot = tables.slots[slot as usize];
            include |= slot.action[bank].include;
            exclude |= slot.action[bank].exclude;
            verdict.filters.insert(
                tables.filters[slot.filter as usize]
                    .text()
                    .expect("a name")
                    .to_owned(),
            );
        }
    }
    let bits = include & !exclude;
    let names = tables
        .endpoint_names
        .iter()
        .enumerate()
        .filter(|(e, _)| bits >> e & 1 != 0);
    verdict.endpoints = names
        .map(|(_, name)| name.text().expect("a name").to_owned())
        .collect();
    Some(verdict)
}

/// A packet at a place, and what must happen to it before and after.
struct Probe {
    place: Place,
    flow: Flow,
    packet: Packet,
    /// `None` where the file does not list the interface: there is no program.
    before: Option<Verdict>,
    after: Option<Verdict>,
}

/// The maps, and what they were last made to say.
struct World {
    maps: Maps,
    desired: Desired,
    network: Network,
}

impl World {
    fn new() -> Self {
        Self {
            maps: Maps::new(0),
            desired: Desired::default(),
            network: configuration::network(),
        }
    }

    fn probes(&self, random: &mut Random, want: &Desired, count: usize) -> Vec<Probe> {
        let mut places = places(want, &self.network);
        places.extend(self::places(&self.desired, &self.network));
        let probe = |number: usize| {
            let place = random.pick(&places).clone();
            let flow = flow(
                random,
                if number.is_multiple_of(2) {
                    want
                } else {
                    &self.desired
                },
            );
            let packet = packet(&flow);
            let verdict = |desired: &Desired| {
                self::places(desired, &self.network)
                    .contains(&place)
                    .then(|| naive(desired, &place, &flow))
            };
            let (before, after) = (verdict(&self.desired), verdict(want));
            Probe {
                place,
                flow,
                packet,
                before,
                after,
            }
        };
        if places.is_empty() {
            Vec::new()
        } else {
            (0..count).map(probe).collect()
        }
    }

    /// Reloads store by store, by daemons that may die on the way; answers how many stores there
    /// were.
    fn reload(&mut self, random: &mut Random, want: Desired) -> usize {
        let probes = self.probes(random, &want, 24);
        let (mut stores, mut committed, mut is_given_up) = (0, false, false);
        while !is_given_up && let Some(plan) = self.maps.next(&want, &self.network) {
            let writes = plan.writes.len();
            let steps = steps(random, writes);
            let before = self.maps.live.tables.clone();
            stores += self.write(
                random,
                &before,
                &plan.writes[..writes.min(steps)],
                &probes,
                committed,
            );
            if steps > writes {
                self.maps.commit(&plan);
                committed = true;
            }
            if steps <= writes + 1 {
                self.maps.forget();
                // the next one may find another file
                is_given_up = random.percent(30);
            }
        }
        assert!(
            is_given_up || self.maps.is_settled(&want, &self.network),
            "a successor would write"
        );
        if committed {
            self.desired = want;
        }
        self.check(&probes, committed, "at the end");
        stores
    }

    fn write(
        &mut self,
        random: &mut Random,
        before: &Tables,
        writes: &[Write],
        probes: &[Probe],
        committed: bool,
    ) -> usize {
        let mut stores = 0;
        for write in writes {
            for (number, word) in write.bytes.chunks(write.store_bytes()).enumerate() {
                let offset = write.offset + number * write.store_bytes();
                self.maps.live.tables.store(write.table, offset, word);
                stores += 1;
                // each store moves what one or a few values say: a few probes at a time, all of
                // them in turn
                let some = stores % probes.len().max(1);
                self.check(
                    probes.get(some..=some).unwrap_or_default(),
                    committed,
                    "between two stores",
                );
            }
            self.check(probes, committed, "after a write");
            self.check_from(
                before,
                random.below(30),
                probes,
                committed,
                "during the writes",
            );
        }
        stores
    }

    fn check(&self, probes: &[Probe], committed: bool, when: &str) {
        self.check_from(&self.maps.live.tables, 0, probes, committed, when);
    }

    /// The same for packets that came when the tables were as `then`, and saw so many elements of
    /// that.
    fn check_from(&self, then: &Tables, seen: u64, probes: &[Probe], committed: bool, when: &str) {
        for Probe {
            place,
            flow,
            packet,
            before,
            after,
        } in probes
        {
            let Some(want) = (if committed { after } else { before }) else {
                continue;
            };
            let changing = Changing {
                before: then,
                now: &self.maps.live.tables,
                left: Cell::new(seen),
            };
            assert_eq!(
                classified(&changing, &self.network, place, packet).as_ref(),
                Some(want),
                "{when}, {} the commit: {place:?} {flow:?}",
                if committed { "after" } else { "before" }
            );
        }
    }
}

/// How many steps a daemon takes of a plan before it dies: the writes, then the commit. One more,
/// and it lives.
fn steps(random: &mut Random, writes: usize) -> usize {
    match random.below(10) {
        0 => random.below(writes as u64 + 1) as usize,
        1 => writes,
        2 => writes + 1,
        _ => writes + 2,
    }
}

/// A file made of filters of the last one and of a new one.
fn next_file(random: &mut Random, last: &str) -> String {
    let filters = random.below(12) as usize;
    let fresh = configuration::random(random, filters);
    let part = |text: &str| -> (String, Vec<String>) {
        let mut parts = text.split("[[filter]]").map(str::to_owned);
        (parts.next().unwrap_or_default(), parts.collect())
    };
    let ((fresh_head, fresh_filters), (last_head, last_filters)) = (part(&fresh), part(last));
    if last.is_empty() || random.percent(10) {
        return fresh;
    }
    let mut text = last_head;
    if random.percent(20) {
        text = text.replace("enabled = false\n", "");
    } else if random.percent(10) && !text.starts_with("enabled") {
        text = format!("enabled = false\n{text}");
    }
    for filter in last_filters {
        if random.percent(80) {
            text += &format!("[[filter]]{filter}");
        }
    }
    // filters of the new file under names of their own; those whose endpoints or interfaces are
    // missing do not count
    for filter in fresh_filters {
        let unique = random.bits();
        let added = format!(
            "{text}[[filter]]{}",
            filter.replacen("name = \"", &format!("name = \"n{unique}-"), 1)
        );
        if traffic_mirror::desired::load(&added).is_ok() {
            text = added;
        }
    }
    drop(fresh_head);
    text
}

#[test]
fn a_packet_meets_the_old_rules_or_the_new_ones() {
    let seed = setting("ORACLE_SEED", 1);
    let wanted = setting("MODEL_RELOADS", 400);
    let (mut reloads, mut stores) = (0, 0);
    for seed in seed.. {
        if reloads >= wanted {
            break;
        }
        let mut random = Random::new(seed);
        let mut world = World::new();
        let mut text = String::new();
        for _ in 0..20 {
            text = next_file(&mut random, &text);
            stores += world.reload(&mut random, load(&text));
            reloads += 1;
        }
    }
    println!("reload model: seed {seed}, {reloads} reloads, {stores} stores");
}

/// The daemon is never killed, and a packet is looked for after each store.
fn reload_whole(world: &mut World, random: &mut Random, want: &Desired, probes: &[Probe]) {
    let mut committed = false;
    while let Some(plan) = world.maps.next(want, &world.network) {
        let before = world.maps.live.tables.clone();
        world.write(random, &before, &plan.writes, probes, committed);
        world.maps.commit(&plan);
        committed |= plan.commit.is_some();
    }
}

/// All blocks are in use, so a filter must share one with filters that give other fields: to these
/// its fields are given, too, with all values, before the commit. A class that serves two fields
/// must not say so in the other one.
#[test]
fn a_block_that_comes_to_give_a_field_shows_nothing_before_the_commit() {
    const TCP: u8 = 6;
    let head = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n";
    let filter = |name: &str, fields: &str| {
        format!("[[filter]]\nname = \"{name}\"\nto = [\"ids\"]\n{fields}\n")
    };
    let both = filter(
        "both",
        "source = [\"10.0.0.0/8\"]\ndestination_port = [\"8000-8100\"]",
    );
    let kinds = (0..63).map(|number| {
        let protocol = if number == 0 {
            u32::from(TCP)
        } else {
            60 + number
        };
        filter(
            &format!("kind-{number}"),
            &format!("protocol = [{protocol}]\nsource = [\"192.168.{number}.0/24\"]"),
        )
    });
    let first = format!("{head}{both}{}", kinds.collect::<String>());
    let then = first.clone()
        + &filter(
            "shares",
            "protocol = [6]\ndestination_port = [\"8000-8100\"]",
        );
    let (mut world, mut random) = (World::new(), Random::new(1));
    let [first, then] = [first, then].map(|text| load(&text));
    reload_whole(&mut world, &mut random, &first, &[]);
    world.desired = first;
    let place = places(&then, &world.network).swap_remove(0);
    let probes: Vec<Probe> = [1, 8050]
        .map(|port| {
            let flow = Flow {
                source: "10.1.2.3".parse().unwrap(),
                destination: "198.51.100.1".parse().unwrap(),
                protocol: TCP,
                ports: Some((40_000, port)),
                vlan: 0,
                unknown: Unknown::Nothing,
            };
            let (before, after) = (
                naive(&world.desired, &place, &flow),
                naive(&then, &place, &flow),
            );
            let packet = packet(&flow);
            Probe {
                place: place.clone(),
                flow,
                packet,
                before: Some(before),
                after: Some(after),
            }
        })
        .into();
    reload_whole(&mut world, &mut random, &then, &probes);
    let active = world.maps.live.tables.active_bank();
    assert_eq!(
        active.omitted[abi::Field::DestinationPort as usize] & 1,
        0,
        "the first block gives the port now"
    );
    world.check(&probes, true, "at the end");
}
