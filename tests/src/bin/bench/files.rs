//! Files for the packets' sake: with each, flows of which it is known what the file says of them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use traffic_mirror_tests::oracle::random::Random;
use traffic_mirror_tests::references::Flow;

/// What makes a file with so many filters.
pub(crate) type File = fn(&mut Random, usize) -> String;
/// A kind of file: its name, and the number of filters that a large one has.
pub(crate) type Kind = (&'static str, File, usize);

const HEAD: &str = "[[interface]]\nname = \"eth0\"\n[endpoint.ids]\naddress = \"192.0.2.1\"\n";

/// A TCP flow between random hosts.
fn flow(random: &mut Random, v6: bool) -> Flow {
    let address = |random: &mut Random| -> IpAddr {
        match v6 {
            true => Ipv6Addr::from_bits(0xfd << 120 | random.wide() >> 8).into(),
            false => Ipv4Addr::from_bits(10 << 24 | random.bits() as u32 >> 8).into(),
        }
    };
    let port = |random: &mut Random| random.within(1, 65_535) as u16;
    (address(random), address(random), port(random), port(random))
}

/// Each filter asks for one flow, all fields of it; the other half of the flows is IPv6. No two
/// filters ask for the same.
pub(crate) fn all_fields(random: &mut Random, count: usize) -> (String, Vec<Flow>) {
    let flows: Vec<Flow> = (0..count)
        .map(|index| flow(random, index % 2 == 1))
        .collect();
    let mut text = HEAD.to_owned();
    for (index, (source, destination, from, to)) in flows.iter().enumerate() {
        let _infallible = writeln!(
            text,
            "[[filter]]\nname = \"f{index:05}\"\nto = [\"ids\"]\nprotocol = [\"tcp\"]\nsource = [\"{source}\"]\n\
             destination = [\"{destination}\"]\nsource_port = [{from}]\ndestination_port = [{to}]"
        );
    }
    (text, flows)
}

/// Flows each of whose fields some flow of these has, and which are none of them: there must be two
/// of a family. So many fields of each kind are taken as the look-ups have room for.
pub(crate) fn crossings(random: &mut Random, flows: &[Flow], count: usize) -> Vec<Flow> {
    const ROOM: usize = 50;
    let known = &flows[..flows.len().min(ROOM)];
    let mut pick = || *random.pick(known);
    (0..count)
        .map(|_| {
            loop {
                let [a, b, c, d] = [pick(), pick(), pick(), pick()];
                let crossed = (a.0, b.1, c.2, d.3);
                if !flows.contains(&crossed) {
                    return crossed;
                }
            }
        })
        .collect()
}

/// Networks of either side of which each filter of [`crossed`] takes one half.
const CROSSED_NETWORKS: u8 = 32;

/// The worst that a file can do to packets: some filters, chosen at random, take a packet's source,
/// and none of these its destination, which others take. Each block has filters for either, and
/// none for both, which only the whole search finds out. Each filter takes other networks, so that
/// packets are of many classes, and little is known of one by the one before. What else filters ask
/// for keeps those of a kind from being put together.
pub(crate) fn crossed(random: &mut Random, count: usize) -> (String, Vec<Flow>) {
    let mut text = HEAD.to_owned();
    for index in 0..count {
        let mut host = || {
            format!(
                "\"{}\"",
                Ipv4Addr::from_bits(9 << 24 | random.bits() as u32 >> 8)
            )
        };
        let (mut source, mut destination) = (host(), host());
        let side = if random.percent(50) {
            &mut source
        } else {
            &mut destination
        };
        for network in (0..CROSSED_NETWORKS).filter(|_| random.percent(50)) {
            let _infallible = write!(side, ", \"10.{network}.0.0/16\"");
        }
        let _infallible = writeln!(
            text,
            "[[filter]]\nname = \"f{index:05}\"\nto = [\"ids\"]\nprotocol = [\"tcp\"]\n\
             source = [{source}]\ndestination = [{destination}]"
        );
    }
    let host = |network, host| Ipv4Addr::new(10, network, host, 1).into();
    let pairs =
        (0..CROSSED_NETWORKS).flat_map(|from| (0..CROSSED_NETWORKS).map(move |to| (from, to)));
    (
        text,
        pairs
            .map(|(from, to)| (host(from, 1), host(to, 2), 40_000, 443))
            .collect(),
    )
}

/// Flows of the internet: from anywhere but 10.0.0.0/8 and fd00::/8, where the filters of
/// `large::mixed` are, to anywhere but there.
pub(crate) fn strangers(random: &mut Random, v6: bool) -> impl Iterator<Item = Flow> {
    std::iter::repeat_with(move || {
        let mut address = || -> IpAddr {
            match v6 {
                true => Ipv6Addr::from_bits(1 << 125 | random.wide() >> 3).into(),
                // 11.0.0.0 to 222.255.255.255
                false => {
                    Ipv4Addr::from_bits(random.within(11 << 24, (223 << 24) - 1) as u32).into()
                }
            }
        };
        let (source, destination) = (address(), address());
        (
            source,
            destination,
            random.within(1024, 65_535) as u16,
            random.within(1, 65_535) as u16,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic_mirror::desired::Desired;
    use traffic_mirror::network::Direction;
    use traffic_mirror_tests::oracle::load;
    use traffic_mirror_tests::oracle::naive::{self, Place, Unknown, ask};

    fn matching(desired: &Desired, &(source, destination, from, to): &Flow) -> usize {
        let place = Place {
            interface: "eth0".to_owned(),
            direction: Direction::Ingress,
        };
        let (protocol, ports, vlan) = (6, Some((from, to)), 0);
        let flow = naive::Flow {
            source,
            destination,
            protocol,
            ports,
            vlan,
            unknown: Unknown::Nothing,
        };
        ask(desired, &place, &flow).filters.len()
    }

    #[test]
    fn the_files_say_of_the_flows_what_they_should() {
        let mut random = Random::new(1);
        let (text, flows) = all_fields(&mut random, 200);
        let desired = load(&text);
        assert!(flows.iter().all(|flow| matching(&desired, flow) == 1));
        let v4: Vec<Flow> = flows
            .iter()
            .copied()
            .filter(|flow| flow.0.is_ipv4())
            .collect();
        assert!(
            crossings(&mut random, &v4, 100)
                .iter()
                .all(|flow| matching(&desired, flow) == 0)
        );
        let (text, flows) = crossed(&mut random, 200);
        let desired = load(&text);
        assert!(flows.iter().all(|flow| matching(&desired, flow) == 0));
    }
}
