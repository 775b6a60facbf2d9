//! What is remembered of flows of QUIC: over reloads, and against those who forge Initials.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::quic::{Client, Hello, crypto};

use super::{Flows, config};
use crate::edge::Attach;

#[test]
fn a_reload_takes_and_drops_flows_of_quic_that_are_open() -> Result<()> {
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        let mut open = Vec::new();
        for (name, copied) in [("shop.example", 1), ("a.cdn.example", 0)] {
            let flow = flows.flow(name);
            let copies = flows.talk(&flow)?;
            ensure!(copies == [copied; 4], "{attach:?} {name}: {copies:?}");
            open.push(flow);
        }
        for (names, want) in [
            ("server_name = [\"*.cdn.example\"]", [0, 1]),
            ("server_name = [\"other.example\"]", [0, 0]),
            ("server_name = [\"*.example\"]", [1, 1]),
        ] {
            flows.edge.configure(&config(names))?;
            for (flow, want) in open.iter().zip(want) {
                let copies = flows.go_on(flow)?;
                ensure!(copies == [want; 2], "{attach:?} {names}: {copies:?}");
            }
        }
        // a restart keeps them, and the next daemon reads what comes
        flows.edge.daemon.signal(Signal::SIGUSR2)?;
        flows.edge.daemon.wait_exit(deadline())?;
        flows.edge.daemon.restart()?;
        for flow in &open {
            let copies = flows.go_on(flow)?;
            ensure!(copies == [1; 2], "{attach:?} after a restart: {copies:?}");
        }
        for (name, copied) in [("shop.example", 1), ("shop.example.org", 0)] {
            let flow = flows.flow(name);
            let copies = flows.talk(&flow)?;
            ensure!(
                copies == [copied; 4],
                "{attach:?} {name} after a restart: {copies:?}"
            );
        }
    }
    Ok(())
}

/// Files for which the daemon makes new maps, while flows are open and Initials come.
#[test]
fn new_tables_keep_flows_of_quic_and_read_on() -> Result<()> {
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "")?;
        flows
            .edge
            .configure(&config("server_name = [\"shop.example\"]"))?;
        let flow = flows.flow("shop.example");
        let copies = flows.talk(&flow)?;
        ensure!(copies == [1; 4], "{attach:?}: {copies:?}");
        let between = flows.flow("shop.example");
        let copies = flows.client(&between, &between.said[0])?;
        ensure!(copies == 1, "{attach:?}: {copies}");
        let more: String = (0..200)
            .map(|nth| {
                format!(
                    "[[filter]]\nname = \"more-{nth}\"\nprotocol = [\"udp\"]\n\
                     destination_port = [{}]\nto = [\"a\"]\n",
                    1000 + nth
                )
            })
            .collect();
        let names = "server_name = [\"shop.example\"]";
        flows.edge.configure(&(config(names) + &more))?;
        flows.are_read()?;
        for flow in [&flow, &between] {
            let copies = flows.answer(flow)?;
            ensure!(copies == [1; 4], "{attach:?} with new maps: {copies:?}");
        }
        for (name, copied) in [("shop.example", 1), ("other.example", 0)] {
            let flow = flows.flow(name);
            let copies = flows.talk(&flow)?;
            ensure!(copies == [copied; 4], "{attach:?} {name}: {copies:?}");
        }
    }
    Ok(())
}

#[test]
fn an_initial_that_nobody_proves_changes_nothing() -> Result<()> {
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        for (name, forged, wanted) in [
            ("shop.example", "other.example", 1),
            ("other.example", "shop.example", 0),
        ] {
            let flow = flows.flow(name);
            let copies = flows.talk(&flow)?;
            ensure!(copies == [wanted; 4], "{attach:?} {name}: {copies:?}");
            let mut again = flows.flow(forged);
            again.port = flow.port;
            flows.ask(&again)?;
            let copies = flows.go_on(&flow)?;
            ensure!(copies == [wanted; 2], "{attach:?} forged: {copies:?}");
            // the same with an answer is another connection of the same ports
            flows.server(&again, &again.handshake())?;
            flows.client(&again, &again.data())?;
            let copies = flows.go_on(&again)?;
            ensure!(copies == [1 - wanted; 2], "{attach:?} again: {copies:?}");
        }
    }
    Ok(())
}

/// A Retry packet: the client begins again, with a connection ID and a token of the server.
#[test]
fn a_retry_is_followed() -> Result<()> {
    for &attach in Attach::all()? {
        let mut flows = Flows::new(attach, "server_name = [\"shop.example\"]")?;
        for (name, wanted) in [("shop.example", 1), ("other.example", 0)] {
            let flow = flows.flow(name);
            flows.ask(&flow)?;
            let retry = Client {
                destination: flow.client.source.clone(),
                source: vec![6; 12],
                ..flow.client.clone()
            };
            let copies = flows.server(&flow, &retry.long(3, &[1; 40]))?;
            ensure!(copies == wanted, "{attach:?} {name}: {copies}");
            let mut second = flows.flow(name);
            second.port = flow.port;
            second.client = Client {
                keys_of: vec![6; 12],
                destination: vec![6; 12],
                token: vec![1; 30],
                source: flow.client.source.clone(),
                number: 1,
                ..flow.client.clone()
            };
            let message = Hello::of(name).message(&mut flows.random);
            second.said = vec![second.client.datagram(&crypto(0, &message))];
            let copies = flows.ask(&second)?;
            ensure!(copies == [wanted], "{attach:?} {name}: {copies:?}");
            let copies = flows.answer(&second)?;
            ensure!(copies == [wanted; 4], "{attach:?} {name}: {copies:?}");
        }
    }
    Ok(())
}
