//! The tables of applications on the host against the patterns themselves, and each step of a
//! reload, also while units start and end.

use std::fmt::Write as _;
use std::sync::Arc;

use traffic_mirror::cgroup::{Applications, Tree, selecting};
use traffic_mirror::compile::{Cache, class_of_cgroup, compile, new_maps};
use traffic_mirror::desired::Desired;
use traffic_mirror::network::Network;
use traffic_mirror::plan::Plan;
use traffic_mirror::tables::Tables;
use traffic_mirror_ebpf::abi::{
    Field, MAX_ENDPOINTS, MAX_FILTERS, MAX_HOOKS, MAX_INTERFACES, MAX_SLOTS,
};
use traffic_mirror_ebpf::classify::Candidates;
use traffic_mirror_tests::oracle::frame::packet;
use traffic_mirror_tests::oracle::naive::{Flow, Place, Unknown, places};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{configuration, hook, load};

const NAMES: [&str; 4] = ["a.slice", "b.service", "c", "d.scope"];
const PATTERNS: [&str; 9] = [
    "/",
    "a.slice",
    "b.service",
    "*.service",
    "/a.slice/*",
    "/*/c",
    "/c/*/d.scope",
    "/a.slice/b.service/c",
    "absent.service",
];

/// The cgroups of a host at a time: each start of a unit has another id.
struct Host {
    tree: Tree,
    next: u64,
}

impl Host {
    fn new(random: &mut Random) -> Self {
        let mut host = Self {
            tree: Tree::new(1),
            next: 2,
        };
        host.change(random);
        host
    }

    /// Some units end, others start.
    fn change(&mut self, random: &mut Random) {
        let before = std::mem::replace(&mut self.tree, Tree::new(1));
        let mut at = 0;
        while at < self.tree.cgroups.len() {
            let above = self.tree.cgroups[at].clone();
            for name in NAMES {
                let path = format!("{}/{name}", above.path.trim_end_matches('/'));
                let old = before.cgroups.iter().find(|one| one.path == path);
                let old = old
                    .filter(|old| before.cgroups[old.parent].id == above.id && random.percent(80));
                if old.is_some() || above.level < 4 && random.percent(25) {
                    let id = old.map_or(self.next, |old| old.id);
                    self.next = self.next.max(id + 1);
                    self.tree.add(at, name, id);
                }
            }
            at += 1;
        }
    }
}

struct Subject {
    desired: Desired,
    network: Network,
    tree: Tree,
    place: Place,
}

impl Subject {
    fn new(text: &str, host: &Host) -> Self {
        let desired = load(text);
        let mut patterns: Vec<_> = desired
            .filters
            .iter()
            .flat_map(|filter| filter.application.clone())
            .collect();
        patterns.sort();
        patterns.dedup();
        let network = Network {
            applications: Arc::new(Applications::new(&patterns, &host.tree)),
            ..configuration::network()
        };
        let place = places(&desired, &network).remove(0);
        Self {
            desired,
            network,
            tree: host.tree.clone(),
            place,
        }
    }

    /// The names of the filters that have a cgroup; `None` is one that cannot be known.
    fn wants(&self, cgroup: Option<usize>) -> Vec<String> {
        let filters = self.desired.filters.iter().filter(|filter| {
            filter.application.is_empty()
                || match cgroup {
                    Some(at) => {
                        !selecting(&filter.application, &self.tree.cgroups[at].path).is_empty()
                    }
                    None => filter.undecided == traffic_mirror::desired::Undecided::Mirror,
                }
        });
        filters.map(|filter| filter.name.clone()).collect()
    }

    /// The same by tables. `tree` is the one that `cgroup` is of.
    fn has(&self, tables: &Tables, tree: &Tree, cgroup: Option<usize>) -> Vec<String> {
        let hook = hook(tables.active_bank(), &self.network, &self.place).expect("it is listed");
        let active = tables.active_bank();
        let flow = Flow {
            source: "198.51.100.1".parse().unwrap(),
            destination: "198.51.100.2".parse().unwrap(),
            protocol: 6,
            ports: Some((40_000, 443)),
            vlan: 0,
            unknown: Unknown::Nothing,
        };
        let mut names = Vec::new();
        let Some(mut candidates) = Candidates::of(tables, active, hook, &packet(&flow)).unwrap()
        else {
            return names;
        };
        let class = cgroup.map_or(tables.values.undecided_application, |at| {
            class_of_cgroup(tables, &tree.ids(at))
        });
        if candidates.want(active, Field::Application)
            && !candidates
                .give(tables, active, Field::Application, class)
                .unwrap()
        {
            return names;
        }
        while let Some(block) = candidates.next_block() {
            let mut found = candidates
                .search::<_, false>(tables, active, block)
                .unwrap();
            while let Some(slot) = found.next_slot() {
                let filter = tables.slots[slot as usize].filter as usize;
                names.push(tables.filters[filter].text().unwrap().to_owned());
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

fn file(random: &mut Random) -> String {
    let mut text =
        "[[interface]]\nname = \"eth0\"\n[endpoint.a]\naddress = \"192.0.2.1\"\n".to_owned();
    for number in 0..random.within(1, 12) {
        writeln!(text, "[[filter]]\nname = \"f{number:02}\"\nto = [\"a\"]").unwrap();
        if random.percent(85) {
            let patterns: Vec<String> = (0..random.within(1, 3))
                .map(|_| format!("{:?}", random.pick(&PATTERNS)))
                .collect();
            writeln!(text, "application = [{}]", patterns.join(", ")).unwrap();
            if random.percent(30) {
                text.push_str("undecided = \"mirror\"\n");
            }
        }
    }
    text
}

/// Tables as maps hold them, with room for more.
fn live(subject: &Subject) -> Tables {
    let made = new_maps(
        &subject.desired,
        &subject.network,
        &[],
        &mut Cache::default(),
    );
    let mut tables = Tables::clone(&made.expect("there is room").tables);
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
    tables.names.grow(1);
    tables.cgroup_texts.grow(room(tables.cgroup_texts.len()));
    tables
}

/// While a plan is being written, after each write, packets meet the rules of before, and after the
/// commit the new ones: as files change, and as units start and end.
#[test]
fn a_reload_of_applications_is_atomic() {
    let (mut writes, mut commits, mut matched, mut compared) = (0, 0, 0, 0);
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let mut host = Host::new(&mut random);
        // some filter gives the field, so that there is room
        let first = "[[filter]]\nname = \"z\"\nto = [\"a\"]\napplication = [\"/c\"]\n";
        let mut text = file(&mut random) + first;
        let mut subject = Subject::new(&text, &host);
        let mut live = live(&subject);
        let mut cache = Cache::default();
        for _ in 0..8 {
            if random.percent(50) {
                text = file(&mut random) + first;
            }
            if random.percent(70) {
                host.change(&mut random);
            }
            let next = Subject::new(&text, &host);
            let mut is_new = false;
            loop {
                let step = compile(&next.desired, &next.network, &live, &mut cache)
                    .expect("there is room");
                let plan = Plan::new(&live, &step);
                if plan.is_empty() {
                    break;
                }
                let check = |live: &Tables, cgroup, is_new: bool| {
                    let now = if is_new { &next } else { &subject };
                    let (want, got) = (now.wants(cgroup), next.has(live, &now.tree, cgroup));
                    assert_eq!(got, want, "{seed} {cgroup:?}\n{text}");
                    usize::from(!want.is_empty())
                };
                for write in plan.writes {
                    live.store(write.table, write.offset, &write.bytes);
                    writes += 1;
                    let now = if is_new { &next } else { &subject };
                    let cgroup = random.below(now.tree.cgroups.len() as u64 + 1) as usize;
                    check(&live, (cgroup > 0).then(|| cgroup - 1), is_new);
                }
                if let Some(epoch) = plan.commit {
                    live.control.epoch = epoch;
                    is_new = true;
                    commits += 1;
                }
                let now = if is_new { &next } else { &subject };
                for cgroup in 0..now.tree.cgroups.len() {
                    matched += check(&live, Some(cgroup), is_new);
                    compared += 1;
                }
                check(&live, None, is_new);
            }
            if random.percent(50) {
                // as one who has only just come
                cache = Cache::default();
            }
            subject = next;
        }
    }
    assert!(
        writes > 600 && commits > 70 && matched > compared / 10 && matched < compared,
        "{writes} writes, {commits} commits, {matched} of {compared}"
    );
}
