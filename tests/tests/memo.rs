//! What programs remember of packets: it is what the tables say, and counts as they do.

use anyhow::Result;
use traffic_mirror::network::{Direction, Link, Network};
use traffic_mirror::tables::Tables;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::lab::testrun::TestRun;
use traffic_mirror_tests::oracle::kernel::Loaded;
use traffic_mirror_tests::oracle::{compiled, load};

const SECRET: u64 = 0x0123_4567_89ab_cdef;
/// Where a test run has its frame come by.
const LOOPBACK: u32 = 1;

/// A file with two endpoints, both out of reach, so that each copy that is wanted shows as a drop.
fn tables(filters: &str) -> std::sync::Arc<Tables> {
    let link = Link {
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..Link::ethernet(LOOPBACK, "eth0")
    };
    let network = Network {
        links: [(LOOPBACK, link)].into(),
        ..Network::default()
    };
    let head = "[[interface]]\nname = \"eth0\"\n[endpoint.a]\naddress = \"192.0.2.1\"\n[endpoint.b]\naddress = \"192.0.2.2\"\n";
    compiled(&load(&format!("{head}{filters}")), &network)
        .tables
        .clone()
}

/// The same packet, so many times on one CPU, which remembers it.
fn run(loaded: &Loaded, times: u32) -> Result<()> {
    let frame = eth().ip("10.0.0.1", "10.0.0.2").tcp(40_000, 443).build();
    let mirror = loaded.mirror(Direction::Ingress);
    let run = TestRun {
        repeat: times,
        ..TestRun::new(&frame)
    };
    Cpu::all()?[0].run(|| run.run(mirror).map(drop))
}

#[test]
fn what_is_remembered_ends_with_the_next_write() -> Result<()> {
    let to = |endpoint: &str| {
        tables(&format!(
            "[[filter]]\nname = \"f\"\nprotocol = [\"tcp\"]\ndestination_port = [443]\nto = [{endpoint:?}]\n"
        ))
    };
    let mut loaded = Loaded::new(&to("a"), SECRET)?;
    run(&loaded, 3)?;
    assert_eq!(loaded.no_route()?, [3, 0]);
    // in the same epoch the same classes say something else
    loaded.fill(&to("b"), SECRET)?;
    run(&loaded, 5)?;
    assert_eq!(loaded.no_route()?, [3, 5]);
    Ok(())
}

#[test]
fn a_packet_that_is_remembered_counts_as_any_other() -> Result<()> {
    for (to, no_route) in [
        ("to = [\"a\"]\n", [7, 0]),
        ("to = [\"a\", \"b\"]\n", [7, 7]),
    ] {
        counts_as_any_other(to, no_route)?;
        // it counts for the filter that excludes, too, and goes nowhere
        let excluded = format!(
            "[[filter]]\nname = \"none\"\nprotocol = [\"tcp\"]\naction = \"exclude\"\n{to}"
        );
        counts_as_any_other(&format!("{to}{excluded}"), [0, 0])?;
    }
    Ok(())
}

fn counts_as_any_other(to: &str, no_route: [u64; 2]) -> Result<()> {
    let filter = |name: &str, more: &str| {
        format!(
            "[[filter]]\nname = {name:?}\nprotocol = [\"tcp\"]\nsource = [\"10.0.0.0/24\"]\n{more}"
        )
    };
    // one that matches either way round counts once
    let mut text = filter(
        "both",
        "destination = [\"10.0.0.0/24\"]\nbidirectional = true\n",
    ) + to;
    // with so many others it is remembered, and with one more it is not
    for others in [1, 3, 4, 70] {
        text = (0..others).fold(text, |text, nth| {
            text + &filter(
                &format!("{others}-{nth}"),
                to.lines().next().unwrap_or_default(),
            ) + "\n"
        });
        let tables = tables(&text);
        let loaded = Loaded::new(&tables, SECRET)?;
        run(&loaded, 7)?;
        let matched: Vec<u64> = loaded
            .matched()?
            .iter()
            .map(|count| count.packets)
            .collect();
        assert!(matched.iter().all(|packets| *packets == 7), "{matched:?}");
        assert_eq!(loaded.no_route()?, no_route);
    }
    Ok(())
}
