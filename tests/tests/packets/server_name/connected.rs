//! Connections of real sockets.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::packet::{FiveTuple, Gue, Ip};
use traffic_mirror_tests::lab::traffic::bind_when_free;

use super::PORT;
use crate::edge::Attach;
use crate::routed::{Routed, SERVER, address};

const ANSWER_BYTES: usize = 50_000;

fn config(names: &str) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.four]\naddress = \"10.9.0.1\"\n\
         [[filter]]\nname = \"shop\"\nprotocol = [\"tcp\"]\ndestination_port = [443]\n{names}\nto = [\"four\"]\n"
    )
}

/// What a client says first, in pieces, and whether that is wanted.
struct Talk {
    pieces: Vec<Vec<u8>>,
    is_wanted: bool,
}

/// A connection by the client's port, and the bytes that each side has sent.
fn connect(lab: &Routed, family: usize, talk: &Talk) -> Result<u16> {
    let to = address(SERVER[family], PORT);
    let bind = || bind_when_free(|| TcpListener::bind(to));
    let listener = lab.server.enter(|| Ok(bind()?))?;
    let said: usize = talk.pieces.iter().map(Vec::len).sum();
    let server = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; said];
        stream.read_exact(&mut buffer)?;
        stream.write_all(&vec![5; ANSWER_BYTES])?;
        Ok(())
    });
    let mut client = lab.client.enter(|| Ok(TcpStream::connect(to)?))?;
    client.set_nodelay(true)?;
    let port = client.local_addr()?.port();
    for piece in &talk.pieces {
        client.write_all(piece)?;
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    ensure!(
        answer.len() == ANSWER_BYTES,
        "{} bytes came back",
        answer.len()
    );
    server.join().expect("the server does not panic")?;
    Ok(port)
}

/// Payload bytes of the copies to and from each port of the client, and how many copies there are.
fn carried(copies: &[Gue]) -> Result<BTreeMap<u16, [usize; 3]>> {
    let mut carried: BTreeMap<u16, [usize; 3]> = BTreeMap::new();
    for copy in copies {
        let ip = Ip::parse(&copy.inner)?;
        let flow = FiveTuple::parse(&copy.inner)?;
        let (source, destination) = flow.ports.context("ports")?;
        let is_there = destination == PORT;
        let port = if is_there { source } else { destination };
        let header = usize::from(ip.upper[12] >> 4) * 4;
        let found = carried.entry(port).or_default();
        found[usize::from(!is_there)] += ip.upper.len() - header;
        found[2] += 1;
    }
    Ok(carried)
}

fn check(lab: &mut Routed, talks: &[Talk]) -> Result<()> {
    let mut ports = Vec::new();
    for (nth, talk) in talks.iter().enumerate() {
        ports.push(connect(lab, nth % 2, talk)?);
    }
    // what is wanted comes last, so that all others have come before
    let last = *ports.last().context("a talk")?;
    let mut fins = 0;
    let mut copies = Vec::new();
    while fins < 2 {
        let copy = lab
            .copies
            .next_copy(deadline())?
            .context("the last copies")?;
        let ip = Ip::parse(&copy.inner)?;
        let (source, destination) = FiveTuple::parse(&copy.inner)?.ports.context("ports")?;
        let is_fin = ip.upper[13] & 1 != 0;
        fins += usize::from(is_fin && [source, destination].contains(&last));
        copies.push(copy);
    }
    let carried = carried(&copies)?;
    for (talk, port) in talks.iter().zip(&ports) {
        let said: usize = talk.pieces.iter().map(Vec::len).sum();
        let found = carried.get(port).copied().unwrap_or_default();
        if talk.is_wanted {
            ensure!(
                found[0] >= said && found[1] >= ANSWER_BYTES,
                "wanted, but {found:?} of {said} bytes"
            );
        } else {
            ensure!(
                found[0] <= said && found[1] == 0 && found[2] <= 4 + talk.pieces.len(),
                "not wanted, but {found:?}"
            );
        }
    }
    Ok(())
}

fn one(bytes: Vec<u8>, is_wanted: bool) -> Talk {
    Talk {
        pieces: vec![bytes],
        is_wanted,
    }
}

#[test]
fn connections_are_mirrored_by_the_name_of_their_server() -> Result<()> {
    for &attach in Attach::all()? {
        let names = "server_name = [\"shop.example\", \"*.cdn.example\"]";
        let mut lab = Routed::new(&config(names), attach, 1600)?;
        let request = |host: &str| {
            format!("GET /a HTTP/1.1\r\nUser-Agent: b\r\nHost: {host}\r\n\r\n").into_bytes()
        };
        let long = client_hello("shop.example", 1800);
        let (first, second) = long.split_at(1000);
        let talks = [
            one(client_hello("shop.example", 0), true),
            one(client_hello("other.example", 0), false),
            one(client_hello("cdn.example", 0), false),
            one(client_hello("a.b.CDN.example", 0), true),
            one(request("shop.example:443"), true),
            one(request("other.example"), false),
            one(b"SSH-2.0-x\r\n".to_vec(), false),
            one(client_hello("shop.example", 1800), true),
            one(client_hello("other.example", 1800), false),
            Talk {
                pieces: vec![first.to_vec(), second.to_vec()],
                is_wanted: true,
            },
            one(client_hello("shop.example", 0), true),
        ];
        check(&mut lab, &talks).with_context(|| format!("{attach:?}"))?;
    }
    Ok(())
}
