//! What is remembered of connections: over other connections of the same ports, over reloads, and
//! in the flood of forged ones.

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::packet::Tcp;

use super::PORT;
use super::made::{FIRST, ISN, made, made_config, of_client, of_server};
use crate::edge::{Attach, Direction, SkbLayout, frame};
use crate::exact::packets;

#[test]
fn nobody_takes_a_name_back_and_a_new_connection_has_its_own() -> Result<()> {
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let wanted = client_hello("shop.example", 0);
        let end = FIRST.wrapping_add(wanted.len() as u32);
        let copies = made.talk(&wanted, &[(0, wanted.len())])?;
        ensure!(copies == [1; 3], "{attach:?}: {copies:?}");
        // a SYN that the server does not answer
        made.client(Tcp::SYN, 77, &[])?;
        let copies = [
            made.client(Tcp::ACK, end, b"more")?,
            made.server(Tcp::ACK, end.wrapping_add(4), b"more")?,
        ];
        ensure!(
            copies == [1; 2],
            "{attach:?}: a SYN hides the rest: {copies:?}"
        );
        // the same ports, for another server
        made.client(Tcp::RST, end, &[])?;
        made.port -= 1;
        let other = client_hello("other.example", 0);
        let copies = made.talk(&other, &[(0, other.len())])?;
        ensure!(copies == [0; 3], "{attach:?}: {copies:?}");
    }
    Ok(())
}

#[test]
fn a_reload_takes_and_drops_connections_that_are_open() -> Result<()> {
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let names = ["shop.example", "a.cdn.example"];
        let mut ports = Vec::new();
        for (name, copied) in names.iter().zip([1, 0]) {
            let said = client_hello(name, 0);
            let copies = made.talk(&said, &[(0, said.len())])?;
            ensure!(copies == [copied; 3], "{attach:?} {name}: {copies:?}");
            ports.push((made.port, FIRST.wrapping_add(said.len() as u32)));
        }
        for (names, want) in [
            ("server_name = [\"*.cdn.example\"]", [0, 1]),
            (
                "server_name = [\"shop.example\", \"*.cdn.example\"]",
                [1, 1],
            ),
            ("server_name = [\"other.example\"]", [0, 0]),
            ("server_name = [\"*.example\"]", [1, 1]),
        ] {
            made.edge.configure(&made_config(names))?;
            for ((port, end), want) in ports.iter().zip(want) {
                made.port = *port;
                let copies = [
                    made.client(Tcp::ACK, *end, b"more")?,
                    made.server(Tcp::ACK, end.wrapping_add(4), b"more")?,
                ];
                ensure!(copies == [want; 2], "{attach:?} {names}: {copies:?}");
            }
            made.port = 41_000;
        }
    }
    Ok(())
}

/// An interface with `learn` and no filter with names: nothing is copied, and a filter that comes
/// takes the connection.
#[test]
fn names_are_learned_before_a_filter_asks() -> Result<()> {
    for &attach in Attach::all()? {
        let other = "destination_port = [444]";
        let learning = |names: &str| {
            made_config(names).replace("name = \"eth0\"", "name = \"eth0\"\nlearn = true")
        };
        let nobody = learning("").replace("destination_port = [443]", other);
        let mut made = made(attach, "server_name = [\"no.example\"]")?;
        made.edge.configure(&nobody)?;
        let said = client_hello("shop.example", 0);
        let end = FIRST.wrapping_add(said.len() as u32);
        let copies = [
            made.client(Tcp::SYN, ISN, &[])?,
            made.client(Tcp::ACK, FIRST, &said)?,
            made.server(Tcp::ACK, end, b"answer")?,
        ];
        ensure!(copies == [0; 3], "{attach:?}: nobody asks, {copies:?}");
        let shown = made.edge.daemon.run(&["top", "--names", "--once"])?;
        let shown = String::from_utf8(shown.stdout)?;
        ensure!(
            shown.contains("none      shop.example"),
            "{attach:?}: {shown}"
        );
        made.edge
            .configure(&learning("server_name = [\"shop.example\"]"))?;
        let copies = [
            made.client(Tcp::ACK, end, b"more")?,
            made.server(Tcp::ACK, end.wrapping_add(4), b"more")?,
        ];
        ensure!(copies == [1; 2], "{attach:?}: the filter comes, {copies:?}");
    }
    Ok(())
}

/// A flood of SYNs and hellos that nobody answers, between a client's hello and the answer to it.
#[test]
fn forged_connections_push_nothing_out() -> Result<()> {
    // an emulator takes long for that many
    let flood = u16::try_from(packets()? / 5)?;
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let wanted = client_hello("shop.example", 0);
        let end = FIRST.wrapping_add(wanted.len() as u32);
        let copies = made.talk(&wanted, &[(0, wanted.len())])?;
        ensure!(copies == [1; 3], "{attach:?}: {copies:?}");
        let known = made.port;
        made.open()?;
        made.client(Tcp::ACK, FIRST, &wanted)?;
        let forged: Vec<_> = (0..flood)
            .map(|number| {
                let name = format!("{number}.example");
                let tcp = Tcp {
                    sequence: FIRST,
                    flags: if number % 2 == 0 { Tcp::SYN } else { Tcp::ACK },
                    ..Tcp::new(number, PORT)
                };
                let payload = if number % 2 == 0 {
                    Vec::new()
                } else {
                    client_hello(&name, 0)
                };
                let source = format!("10.7.{}.1", number % 256);
                (
                    frame()
                        .ip(&source, "10.0.0.2")
                        .layer(tcp)
                        .payload(payload)
                        .build(),
                    SkbLayout::Linear,
                )
            })
            .collect();
        for part in forged.chunks(1000) {
            made.edge.pass_all(part, Direction::Ingress)?;
        }
        let copies = [
            made.server(Tcp::ACK, end, b"answer")?,
            made.client(Tcp::ACK, end, b"more")?,
        ];
        ensure!(
            copies == [1; 2],
            "{attach:?} between hello and answer: {copies:?}"
        );
        made.port = known;
        let copies = [
            made.server(Tcp::ACK, end, b"answer")?,
            made.client(Tcp::ACK, end, b"more")?,
        ];
        ensure!(copies == [1; 2], "{attach:?} after the answer: {copies:?}");
    }
    Ok(())
}

/// Connections that begin before others are answered: they share places, and each keeps its own.
#[test]
fn connections_at_the_same_time_keep_their_names() -> Result<()> {
    const AT_ONCE: usize = 100;
    let ports: Vec<u16> = (10_000..).take(packets()? as usize / 50).collect();
    let said = client_hello("shop.example", 0);
    let end = FIRST.wrapping_add(said.len() as u32);
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let mut copied = |frames: Vec<Vec<u8>>, from| {
            let count = frames.len();
            let copies = made.pass(frames, from)?;
            ensure!(copies == count, "{attach:?}: {copies} copies of {count}");
            Ok(())
        };
        for ports in ports.chunks(AT_ONCE) {
            let begin = |&port: &u16| of_client(port, Tcp::SYN, ISN, &[]);
            copied(ports.iter().map(begin).collect(), Direction::Ingress)?;
        }
        for ports in ports.chunks(AT_ONCE) {
            let ask = |&port: &u16| of_client(port, Tcp::ACK, FIRST, &said);
            let answer = |&port: &u16| of_server(port, Tcp::ACK, end, b"answer");
            copied(ports.iter().map(ask).collect(), Direction::Ingress)?;
            copied(ports.iter().map(answer).collect(), Direction::Egress)?;
        }
    }
    Ok(())
}

/// As many open connections as a file may have names, each with its own.
#[test]
fn as_many_connections_as_names_are_mirrored() -> Result<()> {
    const AT_ONCE: usize = 1000;
    let attach = Attach::all()?[0];
    let clients: Vec<u32> = (0..packets()?).collect();
    let mut made = made(attach, "server_name = [\"shop.example\"]")?;
    let names: Vec<_> = clients
        .iter()
        .map(|number| format!("\"n{number}.example\""))
        .collect();
    // the file grows
    made.edge.configure(&made_config(&format!(
        "server_name = [{}]",
        names.join(", ")
    )))?;
    let segment = |number: u32, is_client: bool, flags, acknowledgement, said: &[u8]| {
        let client = format!("10.7.{}.1", number >> 12);
        let port = 10_000 + (number & 0xfff) as u16;
        let (ends, ports) = if is_client {
            ([&client, "10.0.0.2"], [port, PORT])
        } else {
            (["10.0.0.2", &client], [PORT, port])
        };
        let tcp = Tcp {
            sequence: if is_client { FIRST } else { 5001 },
            acknowledgement,
            flags,
            ..Tcp::new(ports[0], ports[1])
        };
        let frame = frame().ip(ends[0], ends[1]).layer(tcp);
        frame.payload(said).build()
    };
    let mut copied = |part: &[u32], from: Direction, frame: &dyn Fn(u32) -> Vec<u8>| {
        let copies = made.pass(part.iter().copied().map(frame).collect(), from)?;
        ensure!(copies == part.len(), "{copies} copies of {}", part.len());
        Ok(())
    };
    let said = |number: u32| client_hello(&format!("n{number}.example"), 0);
    for part in clients.chunks(AT_ONCE) {
        copied(part, Direction::Ingress, &|number| {
            segment(number, true, Tcp::ACK, 5001, &said(number))
        })
        .with_context(|| format!("hellos from {} on", part[0]))?;
        copied(part, Direction::Egress, &|number| {
            let end = FIRST.wrapping_add(said(number).len() as u32);
            segment(number, false, Tcp::ACK, end, b"answer")
        })
        .with_context(|| format!("answers from {} on", part[0]))?;
    }
    for part in clients.chunks(AT_ONCE) {
        copied(part, Direction::Ingress, &|number| {
            segment(number, true, Tcp::ACK, 5007, b"more")
        })
        .with_context(|| format!("what follows, from {} on", part[0]))?;
    }
    Ok(())
}
