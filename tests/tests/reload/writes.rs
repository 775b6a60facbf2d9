//! How much a reload writes.

use traffic_mirror::network::{Link, Network};
use traffic_mirror::plan::Plan;
use traffic_mirror::tables::Table;
use traffic_mirror_ebpf::abi::MAX_INTERFACES;
use traffic_mirror_tests::oracle::maps::Maps;
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::oracle::{configuration, large, load};

const SMALL: &str = r#"
[[interface]]
name = "eth0"

[endpoint.ids]
address = "192.0.2.1"

[endpoint.log]
address = "192.0.2.2"

[[filter]]
name = "web"
protocol = ["tcp"]
source = ["10.0.0.0/8", "2001:db8::/32"]
destination_port = [80, 443, "8000-8100"]
to = ["ids", "log"]

[[filter]]
name = "dns"
protocol = ["udp", "tcp"]
destination_port = [53]
bidirectional = true
to = ["ids"]

[[filter]]
name = "not-me"
action = "exclude"
source = ["10.0.0.5"]
"#;

/// Elements that a reload writes, all steps together.
fn elements(plans: &[Plan]) -> usize {
    plans.iter().map(Plan::elements).sum()
}

#[test]
fn the_same_rules_in_other_words_write_nothing() {
    let network = configuration::network();
    let mut maps = Maps::new(0);
    assert!(elements(&maps.reload(&load(SMALL), &network)) > 0);
    let mut sections: Vec<&str> = SMALL.split("\n\n").collect();
    sections.reverse();
    let others = [
        SMALL.to_owned(),
        format!("# a comment\n{SMALL}"),
        sections.join("\n\n"),
        SMALL.replace(
            "[80, 443, \"8000-8100\"]",
            "[443, \"8000-8050\", \"8051-8100\", 80, \"8020-8030\"]",
        ),
        SMALL.replace(
            "10.0.0.0/8\"",
            "10.128.0.0/9\", \"10.0.0.0/9\", \"10.7.0.0/16\"",
        ),
        SMALL.replace("[\"udp\", \"tcp\"]", "[6, 17]"),
        SMALL.replace("[\"ids\", \"log\"]", "[\"log\", \"ids\"]"),
        SMALL.replace(
            "action = \"exclude\"",
            "action = \"exclude\"\nto = [\"ids\", \"log\"]",
        ),
    ];
    for text in others {
        assert_eq!(maps.reload(&load(&text), &network), [], "{text}");
    }
}

#[test]
fn a_filter_that_moves_is_one_slot() {
    let network = configuration::network();
    let mut maps = Maps::new(0);
    maps.reload(&load(SMALL), &network);
    let moved = SMALL.replace(
        "[53]\nbidirectional = true\nto = [\"ids\"]",
        "[53]\nbidirectional = true\nto = [\"log\"]",
    );
    let plans = maps.reload(&load(&moved), &network);
    let slots: Vec<Table> = plans
        .iter()
        .flat_map(|plan| &plan.writes)
        .map(|write| write.table)
        .collect();
    // two ways round, two copies each
    assert_eq!(slots, [Table::Slots; 4]);
    assert_eq!(plans.iter().filter(|plan| plan.commit.is_some()).count(), 1);
}

#[test]
fn an_endpoint_that_moves_is_one_element() {
    let mut network = configuration::network();
    let mut maps = Maps::new(0);
    maps.reload(&load(SMALL), &network);
    network.paths.entry("ids".to_owned()).or_default().own = true;
    let plans = maps.reload(&load(SMALL), &network);
    let places: Vec<_> = plans
        .iter()
        .flat_map(|plan| &plan.writes)
        .map(|w| (w.table, w.element()))
        .collect();
    assert!(
        !places.is_empty() && places.iter().all(|place| *place == places[0]),
        "{places:?}"
    );
    assert_eq!(places[0].0, Table::Endpoints);
}

/// One filter among 10,000, edited in each way, ten times: prints what each takes at most.
#[test]
fn few_elements_for_one_filter_of_ten_thousand() {
    const FILTERS: usize = 10_000;
    const MOST: usize = 32;
    let network = configuration::network();
    let mut random = Random::new(1);
    let text = large::mixed(&mut random, FILTERS - 1);
    let mut maps = Maps::new(FILTERS);
    // exact values: a range costs an element more for each class that it cuts, see ARCHITECTURE.md
    let one = |source: u32, port: u32, to: &str| {
        let source = std::net::Ipv4Addr::from_bits((10 << 24) | (source % (1 << 24)));
        format!(
            "[[filter]]\nname = \"one\"\nprotocol = [\"tcp\"]\nsource = [\"{source}\"]\n\
             destination_port = [{port}]\nto = [\"{to}\"]\n"
        )
    };
    let edits: [(&str, &dyn Fn(u32) -> String); 7] = [
        ("added", &|n| one(n, 443, "ids")),
        ("to another endpoint", &|n| one(n, 443, "log")),
        ("another port", &|n| one(n, 444, "log")),
        ("another address", &|n| one(n + 77, 444, "log")),
        ("disabled", &|n| {
            one(n + 77, 444, "log") + "enabled = false\n"
        }),
        ("enabled", &|n| one(n + 77, 444, "log")),
        ("removed", &|_| String::new()),
    ];
    maps.reload(&load(&text), &network);
    let mut most = [0; 7];
    for _ in 0..10 {
        let n = random.bits() as u32;
        for (most, (_, edit)) in most.iter_mut().zip(edits) {
            let plans = maps.reload(&load(&format!("{text}{}", edit(n % (1 << 23)))), &network);
            *most = elements(&plans).max(*most);
        }
    }
    for (most, (what, _)) in most.into_iter().zip(edits) {
        println!("one filter of {FILTERS} {what}: {most} elements at most");
        assert!((1..=MOST).contains(&most), "{what}: {most}");
    }
}

/// The interfaces of so many pods.
fn pods(count: u32) -> Network {
    let mut network = configuration::network();
    (1..=count).for_each(|number| add_pod(&mut network, 64 * number, &format!("pod{number:03}")));
    network
}

fn add_pod(network: &mut Network, index: u32, name: &str) {
    let template = network.link("eth0").expect("it is there").clone();
    network.links.insert(
        index,
        Link {
            index,
            name: name.to_owned(),
            ..template
        },
    );
}

const PODS: &str = "[[interface]]\nname = \"pod*\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n\
                    [[filter]]\nname = \"all\"\nto = [\"ids\"]\n";

#[test]
fn few_elements_for_one_pod_of_many() {
    for others in [1, 110, MAX_INTERFACES as u32 - 1] {
        let mut network = pods(others);
        add_pod(&mut network, 7, "pod");
        let mut maps = Maps::new(0);
        maps.reload(&load(PODS), &network);
        network.links.remove(&7);
        add_pod(&mut network, 8, "pod-");
        // two hooks that come and two that go, and a switch or two
        let written = elements(&maps.reload(&load(PODS), &network));
        assert!(
            (4..=16).contains(&written),
            "{written} elements beside {others} others"
        );
        let there: Vec<u32> = maps
            .live
            .tables
            .hooks
            .iter()
            .map(|hook| hook.interface)
            .collect();
        assert!(there.contains(&8) && !there.contains(&7));
    }
}

#[test]
fn a_pod_beyond_the_limit_writes_nothing_and_one_that_goes_makes_room() {
    let mut network = pods(MAX_INTERFACES as u32);
    let mut maps = Maps::new(0);
    maps.reload(&load(PODS), &network);
    // before all others by name
    add_pod(&mut network, 7, "pod");
    assert_eq!(maps.reload(&load(PODS), &network), []);
    network.links.remove(&64);
    let written = elements(&maps.reload(&load(PODS), &network));
    assert!((4..=16).contains(&written), "{written} elements");
    assert!(
        maps.live
            .tables
            .hooks
            .iter()
            .any(|hook| hook.interface == 7)
    );
}
