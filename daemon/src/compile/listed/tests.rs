use super::*;
use crate::compile::{Cache, compile, new_maps};
use crate::desired;
use crate::network::Network;

const CAN: u16 = 280;

fn link(index: u32, name: &str) -> (u32, Link) {
    let link = Link {
        kind: if name.starts_with("can") {
            LinkKind::Other(CAN)
        } else {
            LinkKind::Ethernet
        },
        info_kind: name.starts_with("vrf").then(|| "vrf".to_owned()),
        altnames: if name == "eth0" {
            vec!["enp3s0".to_owned(), "wan".to_owned()]
        } else {
            Vec::new()
        },
        is_l3s: name.starts_with("ipvl"),
        ..Link::ethernet(index, name)
    };
    (index, link)
}

fn entries_of(names: &[&str]) -> Vec<Interface> {
    let text: String = names
        .iter()
        .map(|name| format!("[[interface]]\nname = \"{name}\"\n"))
        .collect();
    desired::load(&text).unwrap().0.interfaces
}

/// Name, reason, fault, for a host with eth0 (enp3s0, wan), eth1, vrf0 and can0.
fn outcome(names: &[&str], mirrored: &[u32]) -> Vec<(String, &'static str, bool)> {
    let links: BTreeMap<u32, Link> = [
        link(1, "eth0"),
        link(2, "eth1"),
        link(3, "vrf0"),
        link(4, "can0"),
    ]
    .into();
    let all = not_mirrored(
        &entries_of(names),
        &links,
        &mirrored.iter().copied().collect(),
        &BTreeSet::new(),
    );
    all.into_iter()
        .map(|one| (one.name.clone(), one.why.label(), one.is_fault()))
        .collect()
}

#[test]
fn what_is_served_is_not_among_them() {
    assert_eq!(outcome(&["eth*"], &[1, 2]), []);
    assert_eq!(outcome(&["enp3s0", "eth1"], &[1, 2]), []);
}

#[test]
fn each_other_entry_has_its_reason() {
    let one = |name: &str, label, is_fault| [(name.to_owned(), label, is_fault)];
    assert_eq!(outcome(&["eht0"], &[]), one("eht0", "absent", true));
    assert_eq!(outcome(&["wlan*"], &[]), one("wlan*", "pending", false));
    assert_eq!(outcome(&["vrf0"], &[]), one("vrf0", "vrf", true));
    assert_eq!(outcome(&["vrf*"], &[]), one("vrf0", "vrf", false));
    assert_eq!(outcome(&["can0"], &[]), one("can0", "kind", true));
    assert_eq!(outcome(&["can?"], &[]), one("can0", "kind", false));
    assert_eq!(outcome(&["can?", "can0"], &[]), one("can0", "kind", true));
    assert_eq!(outcome(&["eth1"], &[]), one("eth1", "waiting", true));
}

#[test]
fn beyond_the_limit_is_a_fault_even_for_a_glob() {
    let others: Vec<u32> = (100..).take(MAX_INTERFACES).collect();
    assert_eq!(
        outcome(&["eth1*"], &others),
        [("eth1".to_owned(), "limit", true)]
    );
    assert_eq!(
        outcome(&["vrf*"], &others),
        [("vrf0".to_owned(), "vrf", false)],
        "it would not fit in any case"
    );
}

#[test]
fn an_alternative_name_is_a_name() {
    let (_, eth0) = link(1, "eth0");
    let best = |names: &[&str]| {
        best(entries_of(names).iter(), &eth0).map(|entry| entry.name.as_str().to_owned())
    };
    assert_eq!(
        best(&["e*", "wan"]).as_deref(),
        Some("wan"),
        "an exact name before a glob, if longer"
    );
    assert_eq!(
        best(&["enp3s0", "eth0"]).as_deref(),
        Some("eth0"),
        "its own name before an alternative one"
    );
    assert_eq!(best(&["*", "enp*"]).as_deref(), Some("enp*"));
    assert_eq!(best(&["eth1"]), None);
    let links = [(1, eth0.clone())].into();
    let found = not_mirrored(
        &entries_of(&["wan"]),
        &links,
        &BTreeSet::new(),
        &BTreeSet::new(),
    );
    assert_eq!((&*found[0].name, found[0].altname()), ("eth0", Some("wan")));
}

#[test]
fn of_an_ipvlan_in_mode_l3s_only_what_it_receives_is_left_out() {
    let found = |direction: &str, mirrored: &[u32]| {
        let text = format!("[[interface]]\nname = \"ipvl0\"\ndirection = \"{direction}\"\n");
        let entries = desired::load(&text).unwrap().0.interfaces;
        let all = not_mirrored(
            &entries,
            &[link(5, "ipvl0")].into(),
            &mirrored.iter().copied().collect(),
            &BTreeSet::new(),
        );
        all.into_iter()
            .map(|one| (one.directions, one.why))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("both", &[5]), [(vec![Direction::Ingress], Why::L3s)]);
    assert_eq!(found("egress", &[5]), []);
    assert_eq!(
        found("ingress", &[]),
        [(vec![Direction::Ingress], Why::L3s)]
    );
    assert_eq!(
        found("both", &[]),
        [(vec![Direction::Ingress, Direction::Egress], Why::Waiting)]
    );
}

#[test]
fn directions_are_those_of_all_entries() {
    let text = "[[interface]]\nname = \"vrf*\"\ndirection = \"egress\"\n\
                [[interface]]\nname = \"vrf0\"\ndirection = \"ingress\"\norder = \"before policy\"\n";
    let entries = desired::load(text).unwrap().0.interfaces;
    let found = not_mirrored(
        &entries,
        &[link(3, "vrf0")].into(),
        &BTreeSet::new(),
        &BTreeSet::new(),
    );
    assert_eq!(found[0].directions, [Direction::Ingress, Direction::Egress]);
    assert_eq!(
        (&*found[0].entry, found[0].order.to_string()),
        ("vrf0", "before policy".to_owned())
    );
}

#[test]
fn entries_survive_the_map() {
    let text = "[[interface]]\nname = \"eth[0-9]*\"\ndirection = \"egress\"\norder = \"after prog.o:[classifier]\"\n\
                [[interface]]\nname = \"lo\"\n[[interface]]\nname = \"a?\"\ndirection = \"ingress\"\norder = \"first\"\n";
    let wanted = desired::load(text).unwrap().0.interfaces;
    let mut table: Vec<abi::Listed> = wanted.iter().rev().map(element).collect();
    table.insert(1, abi::Listed::zeroed());
    assert_eq!(entries(&table.into_iter().collect()), wanted);
}

#[test]
fn an_interface_that_took_no_encap_says_so_also_in_the_tables() {
    let (index, tun) = link(7, "tun0");
    let tun = Link {
        kind: LinkKind::Other(0xfffe),
        ..tun
    };
    let desired = desired::load("[[interface]]\nname = \"tun*\"\n").unwrap().0;
    let network = Network {
        links: [(index, tun)].into(),
        refused: [index].into(),
        ..Network::default()
    };
    let tables = new_maps(&desired, &network, &[], &mut Cache::default())
        .unwrap()
        .tables;
    assert_eq!(refused(&tables.listed), network.refused);
    assert_eq!(
        entries(&tables.listed),
        desired.interfaces,
        "it is no entry"
    );
    let found = |refused| {
        not_mirrored(
            &desired.interfaces,
            &network.links,
            &BTreeSet::new(),
            refused,
        )[0]
        .clone()
    };
    assert_eq!(
        (
            found(&network.refused).why,
            found(&network.refused).is_fault()
        ),
        (Why::AttachFailed, true)
    );
    assert_eq!(found(&BTreeSet::new()).why, Why::Waiting);
    let again = compile(&desired, &network, &tables, &mut Cache::default()).unwrap();
    assert!(*again.tables == *tables, "it does not move");
    let network = Network {
        refused: BTreeSet::new(),
        ..network
    };
    let tables = new_maps(&desired, &network, &[], &mut Cache::default())
        .unwrap()
        .tables;
    assert_eq!(refused(&tables.listed), BTreeSet::new());
}

#[test]
fn each_reason_has_its_label() {
    let all = [
        Why::Absent,
        Why::AttachFailed,
        Why::Kind(CAN),
        Why::L3s,
        Why::Limit,
        Why::Pending,
        Why::Vrf,
        Why::Waiting,
    ];
    assert_eq!(all.map(Why::label), Why::LABELS);
}
