use super::obstacles::interfaces;
use super::*;
use crate::compile::{NotMirrored, Why};
use crate::desired;
use crate::network::{Link, LinkKind, Network, Path, Route, RouteKind};

fn lines(live: &str, want: &str) -> Vec<String> {
    let load = |text| desired::load(text).unwrap().0;
    changes(&load(live), &load(want))
        .iter()
        .map(ToString::to_string)
        .collect()
}

const LIVE: &str = r#"
    [[interface]]
    name = "eth0"
    [endpoint.ids]
    address = "192.0.2.10"
    [endpoint.old]
    address = "192.0.2.11"
    [[filter]]
    name = "web"
    to = ["ids"]
    [[filter]]
    name = "old-dns"
    to = ["old"]
"#;

#[test]
fn of_thousands_of_changes_the_first_are_told() {
    let all: Vec<usize> = (0..MOST_LINES + 1).collect();
    let (shown, more) = bounded(&all, "change");
    assert_eq!(shown, &all[..MOST_LINES]);
    assert_eq!(more.as_deref(), Some("and 1 more change"));
    assert_eq!(bounded(shown, "change"), (shown, None));
}

#[test]
fn what_came_went_and_changed() {
    let want = r#"
        enabled = false
        [[interface]]
        name = "eth0"
        [endpoint.capture]
        address = "192.0.2.12"
        [endpoint.ids]
        address = "192.0.2.20"
        [[filter]]
        name = "web"
        to = ["ids"]
        [[filter]]
        name = "dns"
        to = ["ids", "capture"]
    "#;
    assert_eq!(
        lines(LIVE, want),
        [
            "~ mirroring disabled",
            "- endpoint old",
            "+ endpoint capture",
            "~ endpoint ids",
            "- filter old-dns",
            "+ filter dns",
        ],
        "web names the same endpoint, at another place"
    );
}

/// eth0 is a port of br0, and vlan5 is built on it; endpoints are behind out0.
fn network(endpoints: &[&str]) -> Network {
    let kind = |name: &str| {
        if name == "lo" {
            LinkKind::Loopback
        } else {
            LinkKind::Ethernet
        }
    };
    let link = |(index, (name, mtu)): (u32, (&str, u32))| {
        let link = Link {
            mtu,
            mac: Some([2, 0, 0, 0, 0, 1]),
            kind: kind(name),
            master: (name == "eth0").then_some(2),
            parent: (name == "vlan5").then_some(1),
            ..Link::ethernet(index, name)
        };
        (index, link)
    };
    let links = [
        ("eth0", 1500),
        ("br0", 1500),
        ("vlan5", 1496),
        ("lo", 65_536),
        ("out0", 1500),
    ];
    let route = Route {
        interface: 5,
        gateway: None,
        source: Some([192, 0, 2, 1].into()),
        mtu: None,
        kind: RouteKind::Unicast,
        assumed: false,
    };
    let path = Path {
        route: Some(route),
        mac: Some([2, 0, 0, 0, 0, 2]),
        ..Path::default()
    };
    Network {
        links: (1..).zip(links).map(link).collect(),
        paths: endpoints
            .iter()
            .map(|name| ((*name).to_owned(), path.clone()))
            .collect(),
        ..Network::default()
    }
}

#[test]
fn what_is_not_mirrored_is_told() {
    let said = surprises("[[interface]]\nname = \"eht0\"\n[[interface]]\nname = \"wlan*\"\n");
    assert_eq!(
        said,
        [
            "interface eht0 is absent: no interface has this name; the daemon mirrors it when it appears",
            "interface wlan* is pending: no interface matches; the daemon mirrors each one that appears",
        ]
    );
}

#[test]
fn those_beyond_the_limit_are_told_together() {
    let beyond = |count: usize| -> Vec<NotMirrored> {
        let one = |nth| NotMirrored {
            name: format!("veth{nth:02}"),
            entry: "veth*".to_owned(),
            is_exact: false,
            directions: Vec::new(),
            order: Default::default(),
            why: Why::Limit,
        };
        (0..count).map(one).collect()
    };
    let (few, many) = (interfaces(&beyond(2)), interfaces(&beyond(10)));
    let text = many[0].to_string();
    assert!(text.ends_with(
        "; left out: veth00, veth01, veth02, veth03, veth04, veth05, veth06, veth07 and 2 more"
    ));
    assert_eq!((few.len(), many.len()), (1, 1));
    assert_eq!(
        crate::obstacle::lines(&few, &many),
        [],
        "which they are changes with each container"
    );
}

fn surprises(text: &str) -> Vec<String> {
    let desired = desired::load(text).unwrap().0;
    let names: Vec<&str> = desired
        .endpoints
        .iter()
        .map(|endpoint| &*endpoint.name)
        .collect();
    let network = network(&names);
    let compiled = crate::compile::new_maps(
        &desired,
        &network,
        &[],
        &mut crate::compile::Cache::default(),
    )
    .unwrap();
    let obstacles = obstacles(&desired, &network, &compiled)
        .iter()
        .map(ToString::to_string)
        .collect();
    [obstacles, advice(&desired, &network, &compiled)].concat()
}

/// Each copy of a packet of 1,500 bytes is in two fragments.
#[test]
fn what_takes_longer_than_the_budget_is_told() {
    let told = |endpoints: usize, top: &str, keys: &str, filter: &str| -> Vec<String> {
        let mut text = format!("{top}\n[[interface]]\nname = \"eth0\"\n");
        let mut to = Vec::new();
        for number in 0..endpoints {
            text += &format!(
                "[endpoint.e{number:02}]\naddress = \"192.0.2.{}\"\n{keys}\n",
                number + 1
            );
            to.push(format!("\"e{number:02}\""));
        }
        text += &format!(
            "[[filter]]\nname = \"all\"\n{filter}\nto = [{}]\n",
            to.join(", ")
        );
        surprises(&text)
            .into_iter()
            .filter(|line| line.contains("budget"))
            .collect()
    };
    assert_eq!(
        told(12, "", "", ""),
        [
            "copying one packet of eth0 may take longer than the budget of 1ms: copies that are not made in time are dropped as budget; give the output interface an MTU with room for the outer header, send to fewer endpoints, or raise budget; \
             filter all sends a superpacket of 43 packets to 12 endpoints, 1032 copies take 1.032ms or more"
        ]
    );
    assert_eq!(told(11, "", "", ""), [""; 0]);
    assert_eq!(told(12, "budget = \"2ms\"", "", ""), [""; 0]);
    assert_eq!(told(12, "", "oversize = \"drop\"", ""), [""; 0]);
    assert_eq!(told(12, "", "snap = 128", ""), [""; 0]);
    assert_eq!(
        told(12, "", "", "protocol = [\"tcp\"]"),
        [""; 0],
        "TCP is cut smaller"
    );
    assert_eq!(
        told(12, "", "checksum = true", "protocol = [\"tcp\"]").len(),
        1
    );
    assert_eq!(told(12, "enabled = false", "", ""), [""; 0]);
    assert_eq!(
        told(64, "", "mtu = 1400", "protocol = [\"icmp\"]"),
        [""; 0],
        "no superpackets"
    );
}

#[test]
fn several_filters_count_where_a_packet_may_match_them_all() {
    let file = |second: &str| {
        let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
        let mut to = [Vec::new(), Vec::new()];
        for number in 0..12 {
            text += &format!(
                "[endpoint.e{number:02}]\naddress = \"192.0.2.{}\"\n",
                number + 1
            );
            to[number % 2].push(format!("\"e{number:02}\""));
        }
        let [first, rest] = to.map(|names| names.join(", "));
        text += &format!("[[filter]]\nname = \"a\"\nprotocol = [\"udp\"]\nto = [{first}]\n");
        text + &format!("[[filter]]\nname = \"b\"\n{second}\nto = [{rest}]\n")
    };
    let is_told = |text: &str| surprises(text).iter().any(|line| line.contains("budget"));
    assert!(is_told(&file("")));
    assert!(
        !is_told(&file("destination_port = [53]")),
        "none may match both"
    );
    assert!(!is_told(
        &(file("") + "[[filter]]\nname = \"x\"\naction = \"exclude\"\nto = [\"e03\"]\n")
    ));
}

#[test]
fn what_is_looked_at_twice_is_told() {
    let all = "[[interface]]\nname = \"*\"\n";
    assert_eq!(
        surprises(all),
        [
            "lo is monitored in both directions: each packet on it is copied twice; list one direction",
            "eth0 is a port of br0: a packet that passes both is copied twice; list one of them",
            "vlan5 is built on eth0: a packet that passes both is copied twice; list one of them",
        ]
    );
    for one in ["eth0", "br0", "vlan5"] {
        assert!(surprises(&all.replace('*', one)).is_empty(), "{one}");
    }
    assert!(
        surprises(&format!(
            "{}direction = \"ingress\"",
            all.replace('*', "lo")
        ))
        .is_empty()
    );
}

#[test]
fn encap_is_wanted_where_clones_are_sent_to() {
    let file = |endpoint: &str| format!("[[interface]]\nname = \"*\"\n{endpoint}");
    let compiled = |text: &str, refused: &[u32]| {
        let desired = desired::load(text).unwrap().0;
        let names: Vec<&str> = desired
            .endpoints
            .iter()
            .map(|endpoint| &*endpoint.name)
            .collect();
        let mut network = network(&names);
        network.refused = refused.iter().copied().collect();
        network.links.get_mut(&1).unwrap().kind = LinkKind::Other(0xfffe);
        network.links.get_mut(&2).unwrap().kind = LinkKind::Other(803);
        let memory = &mut crate::compile::Cache::default();
        let compiled = crate::compile::new_maps(&desired, &network, &[], memory).unwrap();
        let lines: Vec<_> = obstacles(&desired, &network, &compiled)
            .iter()
            .map(ToString::to_string)
            .collect();
        (compiled.encaps.into_iter().collect::<Vec<_>>(), lines)
    };
    let ids = file("[endpoint.ids]\naddress = \"192.0.2.10\"\nsnap = 100\n");
    let left_out = |lines: &[String], name: &str| {
        lines
            .iter()
            .any(|line| line.contains(&format!("interface {name} is left out")))
    };
    let (encaps, lines) = compiled(&ids, &[]);
    assert_eq!(encaps, [1, 5]);
    assert!(
        left_out(&lines, "br0") && !left_out(&lines, "eth0"),
        "{lines:?}"
    );
    assert_eq!(compiled(&file(""), &[]).0, [0; 0], "without an endpoint");
    let (encaps, lines) = compiled(&ids, &[1]);
    assert_eq!(encaps, [5]);
    assert!(left_out(&lines, "eth0"), "{lines:?}");
}

#[test]
fn what_may_not_fit_is_told() {
    let file = |interface: &str, lines: &str| {
        let endpoint = format!("[endpoint.ids]\naddress = \"192.0.2.10\"\n{lines}");
        surprises(&format!(
            "[[interface]]\nname = \"{interface}\"\n{endpoint}"
        ))
    };
    let said = |from: &str, wrapped: u32, fate: &str| {
        [format!(
            "endpoint ids: packets from {from} can reach {wrapped} bytes after encapsulation, the MTU is 1500: \
             longer copies are {fate} (raise the MTU to avoid this)"
        )]
    };
    assert_eq!(file("eth0", ""), said("eth0", 1532, "fragmented"));
    assert_eq!(
        file("vlan5", "oversize = \"truncate\""),
        said("vlan5", 1528, "truncated")
    );
    assert_eq!(
        file("eth0", "oversize = \"drop\"\nsnap = 1469"),
        said("eth0", 1501, "dropped")
    );
    assert!(file("eth0", "snap = 1468").is_empty());
}

#[test]
fn order_never_shows() {
    let mut tables: Vec<&str> = LIVE.split("[[filter]]").collect();
    tables.swap(1, 2);
    assert!(lines(LIVE, &tables.join("[[filter]]")).is_empty());
}

#[test]
fn the_summary_counts() {
    let report = Report {
        writes: 1,
        duration: Duration::from_millis(4),
        ..Report::default()
    };
    assert_eq!(
        report.summary("the file"),
        "loaded the file: 0 changes, 1 map write, 4 ms"
    );
    let causes = |count| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
    let update = |count| report.update(&causes(count));
    assert_eq!(update(0), "updated the maps; 1 map write, 4 ms");
    assert_eq!(update(2), "1; 2; 1 map write, 4 ms");
    assert_eq!(update(6), "1; 2; 3; 4; 2 more changes; 1 map write, 4 ms");
}
