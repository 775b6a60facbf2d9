//! The tables of server names on the host against the naive matcher, and each step of a reload.

use std::fmt::Write as _;

use traffic_mirror::compile::{Cache, Compiled, class_of_name, compile};
use traffic_mirror::desired::Desired;
use traffic_mirror::network::Network;
use traffic_mirror::plan::Plan;
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi::{
    ANY_CLASS, Field, MAX_ENDPOINTS, MAX_FILTERS, MAX_HOOKS, MAX_INTERFACES, MAX_SLOTS, Slot,
};
use traffic_mirror_ebpf::classify::Candidates;
use traffic_mirror_ebpf::packet::Packet;
use traffic_mirror_tests::oracle::candidates_of_odd;
use traffic_mirror_tests::oracle::frame::packet;
use traffic_mirror_tests::oracle::naive::{Answer, Flow, Name, Place, Unknown, ask_named, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{compiled, configuration, hook, load, setting};

const LABELS: [&str; 4] = ["a", "b", "ab", "example"];

fn name(random: &mut Random) -> String {
    let labels: Vec<&str> = (0..random.within(1, 4))
        .map(|_| *random.pick(&LABELS))
        .collect();
    labels.join(".")
}

fn pattern(random: &mut Random) -> String {
    let name = name(random);
    if random.percent(50) {
        format!("*.{name}")
    } else {
        name
    }
}

/// A file whose filters give names, most of them.
fn file(random: &mut Random, filters: usize) -> String {
    let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
    for endpoint in 0..3 {
        writeln!(
            text,
            "[endpoint.e{endpoint}]\naddress = \"192.0.2.{}\"",
            endpoint + 1
        )
        .unwrap();
    }
    for index in 0..filters {
        writeln!(
            text,
            "[[filter]]\nname = \"f{index}\"\nto = [\"e{}\"]",
            random.below(3)
        )
        .unwrap();
        if random.percent(25) {
            text.push_str("action = \"exclude\"\n");
        }
        if random.percent(50) {
            writeln!(text, "destination_port = [{}]", random.pick(&[443, 80])).unwrap();
        }
        if random.percent(20) {
            text.push_str("protocol = [\"tcp\"]\n");
        }
        if random.percent(80) {
            let names: Vec<String> = (0..random.within(1, 6))
                .map(|_| format!("{:?}", pattern(random)))
                .collect();
            writeln!(text, "server_name = [{}]", names.join(", ")).unwrap();
            if random.percent(30) {
                text.push_str("undecided = \"mirror\"\n");
            }
        }
    }
    text
}

/// The class of a name, as the programs find it.
fn class(tables: &Tables, name: &Name) -> u32 {
    match name {
        Name::Unknown => ANY_CLASS,
        Name::Undecided => tables.values.undecided,
        Name::Known(text) => class_of_name(tables, text),
    }
}

/// What tables say of a packet, as `mirror` reads them.
fn classify(tables: &Tables, hook: usize, packet: &Packet, name: &Name) -> Answer {
    let (active, bank) = (tables.active_bank(), tables.control.epoch as usize & 1);
    let mut answer = Answer::default();
    let mut excluded = 0;
    let mut take = |slot: &Slot, only: Option<bool>| {
        let action = slot.action[bank];
        if only.is_none_or(|excludes| excludes == (action.exclude != 0)) {
            answer.endpoints |= action.include;
            excluded |= action.exclude;
            answer.filters.push(slot.filter as usize);
        }
    };
    let mut search = |mut candidates: Candidates, only: Option<bool>| {
        while let Some(block) = candidates.next_block() {
            let found = match only {
                None => candidates.search::<_, false>(tables, active, block),
                Some(_) => candidates.search::<_, true>(tables, active, block),
            };
            let mut found = found.expect("no index beyond a table");
            while let Some(slot) = found.next_slot() {
                take(&tables.slots[slot as usize], only);
            }
        }
    };
    if let Some(mut candidates) = Candidates::of(tables, active, hook, packet).unwrap() {
        let class = class(tables, name);
        if !candidates.want(active, Field::ServerName) {
            search(candidates, None);
        } else if class == ANY_CLASS {
            let packet = Packet {
                unknown: Packet::SERVER_NAME,
                ..*packet
            };
            for any in [true, false] {
                if let Some(candidates) =
                    candidates_of_odd(tables, active, hook, &packet, any).unwrap()
                {
                    search(candidates, Some(!any));
                }
            }
        } else if candidates
            .give(tables, active, Field::ServerName, class)
            .unwrap()
        {
            search(candidates, None);
        }
    }
    answer.endpoints &= !excluded;
    answer.filters.sort_unstable();
    answer.filters.dedup();
    answer
}

struct Subject {
    text: String,
    desired: Desired,
    network: Network,
    place: Place,
}

impl Subject {
    fn new(text: String) -> Self {
        let (desired, network) = (load(&text), configuration::network());
        let place = places(&desired, &network).remove(0);
        Self {
            text,
            desired,
            network,
            place,
        }
    }

    /// The endpoints, and the names of the filters, as a file means them.
    fn wants(&self, flow: &Flow, name: &Name) -> (u64, Vec<String>) {
        let answer = ask_named(&self.desired, &self.place, flow, name);
        let filters = answer
            .filters
            .iter()
            .map(|&at| self.desired.filters[at].name.clone());
        let mut filters: Vec<String> = filters.collect();
        filters.sort();
        (answer.endpoints, filters)
    }

    fn has(&self, tables: &Tables, flow: &Flow, name: &Name) -> (u64, Vec<String>) {
        let hook = hook(tables.active_bank(), &self.network, &self.place).expect("it is listed");
        let answer = classify(tables, hook, &packet(flow), name);
        let filters = answer
            .filters
            .iter()
            .map(|&at| tables.filters[at].text().unwrap().to_owned());
        let mut filters: Vec<String> = filters.collect();
        filters.sort();
        (answer.endpoints, filters)
    }
}

fn flow(random: &mut Random) -> Flow {
    Flow {
        source: "198.51.100.1".parse().unwrap(),
        destination: "198.51.100.2".parse().unwrap(),
        protocol: *random.pick(&[6, 6, 6, 17]),
        ports: Some((40_000, *random.pick(&[443, 80, 22]))),
        vlan: 0,
        unknown: Unknown::Nothing,
    }
}

fn any_name(random: &mut Random) -> Name {
    match random.below(10) {
        0 => Name::Unknown,
        1 => Name::Undecided,
        _ => Name::Known(name(random)),
    }
}

#[test]
fn the_tables_say_what_random_names_mean() {
    let (mut packets, mut matched) = (0, 0);
    for seed in setting("ORACLE_SEED", 1)..setting("ORACLE_SEED", 1) + 300 {
        let mut random = Random::new(seed);
        let filters = *random.pick(&[1, 2, 3, 10, 100, 700]);
        let subject = Subject::new(file(&mut random, filters));
        let Compiled { tables, .. } = compiled(&subject.desired, &subject.network);
        for _ in 0..300 {
            let (flow, name) = (flow(&mut random), any_name(&mut random));
            let (want, got) = (
                subject.wants(&flow, &name),
                subject.has(&tables, &flow, &name),
            );
            assert_eq!(want, got, "{flow:?} {name:?}\n{}", subject.text);
            packets += 1;
            matched += u64::from(!want.1.is_empty());
        }
    }
    assert!(
        matched > packets / 4 && matched < packets,
        "{matched} of {packets}"
    );
}

/// Tables as maps hold them, with room for more.
fn live(subject: &Subject) -> Tables {
    let mut tables = Tables::clone(&compiled(&subject.desired, &subject.network).tables);
    (tables.control.generation, tables.control.secret) = (1, 1);
    let room = |used: usize| 3 * used + 1000;
    tables.classes.grow(room(tables.classes.len()));
    tables.summaries.grow(tables.classes.len());
    tables.blocks.grow(room(tables.blocks.len()));
    tables.nodes.grow(room(tables.nodes.len()));
    tables.skips.grow(room(tables.skips.len()));
    tables.rows.grow(room(tables.rows.len()));
    tables.slots.grow(MAX_SLOTS);
    tables.filters.grow(MAX_FILTERS);
    tables.endpoints.grow(MAX_ENDPOINTS);
    tables.endpoint_names.grow(MAX_ENDPOINTS);
    tables.hooks.grow(MAX_HOOKS);
    tables.listed.grow(MAX_INTERFACES);
    tables.names.grow(tables.names.len() * 3 / 2);
    tables.name_texts.grow(room(tables.name_texts.len()));
    tables
}

/// While a plan is being written, after each write, packets meet the rules of before, and after the
/// commit the new ones.
#[test]
fn a_reload_of_names_is_atomic() {
    let (mut writes, mut commits) = (0, 0);
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let mut subject = Subject::new(file(&mut random, 30));
        let mut live = live(&subject);
        let mut cache = Cache::default();
        for _ in 0..5 {
            let next = Subject::new(file(&mut random, 30));
            let asked: Vec<(Flow, Name)> = (0..60)
                .map(|_| (flow(&mut random), any_name(&mut random)))
                .collect();
            let mut is_new = false;
            loop {
                let step = compile(&next.desired, &next.network, &live, &mut cache)
                    .expect("there is room");
                let plan = Plan::new(&live, &step);
                if plan.is_empty() {
                    break;
                }
                for write in plan.writes {
                    live.store(write.table, write.offset, &write.bytes);
                    writes += 1;
                    let (flow, name) = random.pick(&asked);
                    let want = if is_new { &next } else { &subject }.wants(flow, name);
                    assert_eq!(next.has(&live, flow, name), want, "{flow:?} {name:?}");
                }
                if let Some(epoch) = plan.commit {
                    live.control.epoch = epoch;
                    is_new = true;
                    commits += 1;
                }
                for (flow, name) in &asked {
                    let want = if is_new { &next } else { &subject }.wants(flow, name);
                    assert_eq!(next.has(&live, flow, name), want, "{flow:?} {name:?}");
                }
            }
            if random.percent(50) {
                // as one who has only just come
                cache = Cache::default();
            }
            subject = next;
        }
    }
    assert!(
        writes > 10_000 && commits > 300,
        "{writes} writes, {commits} commits"
    );
}
