//! Connections by the name of their server: those of a name that a filter has are mirrored whole,
//! and of others no more than the handshake.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::{FiveTuple, Gue, Ip, Tcp};
use traffic_mirror_tests::lab::traffic::bind_when_free;

use crate::edge::{Attach, Direction, ENDPOINTS, Edge, SkbLayout, frame};
use crate::exact::packets;
use crate::routed::{Routed, SERVER, address, count};

const PORT: u16 = 443;
const ANSWER_BYTES: usize = 50_000;

fn config(names: &str) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.four]\naddress = \"10.9.0.1\"\n\
         [[filter]]\nname = \"shop\"\nprotocol = [\"tcp\"]\ndestination_port = [443]\n{names}\nto = [\"four\"]\n"
    )
}

/// A ClientHello with this name, and `padding` bytes of an extension before it (RFC 8446 section
/// 4.1.2, RFC 7685).
fn hello(name: &str, padding: usize) -> Vec<u8> {
    let short = |bytes: usize| (bytes as u16).to_be_bytes();
    let sized = |bytes: &[u8]| [&short(bytes.len()), bytes].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let extensions = [
        &short(21)[..],
        &sized(&vec![0; padding]),
        &short(0),
        &sized(&sized(&entry)),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &short(body.len()), &body].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
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
        let long = hello("shop.example", 1800);
        let (first, second) = long.split_at(1000);
        let talks = [
            one(hello("shop.example", 0), true),
            one(hello("other.example", 0), false),
            one(hello("cdn.example", 0), false),
            one(hello("a.b.CDN.example", 0), true),
            one(request("shop.example:443"), true),
            one(request("other.example"), false),
            one(b"SSH-2.0-x\r\n".to_vec(), false),
            one(hello("shop.example", 1800), true),
            one(hello("other.example", 1800), false),
            Talk {
                pieces: vec![first.to_vec(), second.to_vec()],
                is_wanted: true,
            },
            one(hello("shop.example", 0), true),
        ];
        check(&mut lab, &talks).with_context(|| format!("{attach:?}"))?;
    }
    Ok(())
}

/// Bytes of what a client says, from one place up to another.
type Piece = (usize, usize);

/// A connection of frames that a test makes up: the client is behind the ingress of the interface.
struct Made {
    edge: Edge,
    port: u16,
}

/// The client's first sequence number, so that the hello goes beyond the largest.
const ISN: u32 = u32::MAX - 100;
const FIRST: u32 = ISN.wrapping_add(1);

impl Made {
    /// Passes a segment; how many copies came of it.
    fn segment(&mut self, from: Direction, tcp: Tcp, payload: &[u8]) -> Result<usize> {
        let (source, destination) = match from {
            Direction::Ingress => ("10.0.0.1", "10.0.0.2"),
            _ => ("10.0.0.2", "10.0.0.1"),
        };
        let frame = frame()
            .ip(source, destination)
            .layer(tcp)
            .payload(payload)
            .build();
        let seen = self.edge.pass(&frame, SkbLayout::Linear, from)?;
        ensure!(seen.originals == [frame], "the original");
        Ok(seen.copies.values().map(Vec::len).sum())
    }

    fn client(&mut self, flags: u8, sequence: u32, payload: &[u8]) -> Result<usize> {
        let tcp = Tcp {
            sequence,
            acknowledgement: 5001,
            flags,
            ..Tcp::new(self.port, PORT)
        };
        self.segment(Direction::Ingress, tcp, payload)
    }

    fn server(&mut self, flags: u8, acknowledgement: u32, payload: &[u8]) -> Result<usize> {
        let tcp = Tcp {
            sequence: 5001 - u32::from(flags & Tcp::SYN != 0),
            acknowledgement,
            flags,
            ..Tcp::new(PORT, self.port)
        };
        self.segment(Direction::Egress, tcp, payload)
    }

    /// A new connection, up to the client's first payload.
    fn open(&mut self) -> Result<()> {
        self.port += 1;
        let copies = [
            self.client(Tcp::SYN, ISN, &[])?,
            self.server(Tcp::SYN | Tcp::ACK, FIRST, &[])?,
            self.client(Tcp::ACK, FIRST, &[])?,
        ];
        ensure!(copies == [1; 3], "the handshake: {copies:?}");
        Ok(())
    }

    /// Says `said` by pieces, each from a place on, in this order, and has it answered. How many
    /// copies came of each piece, and of the answer.
    fn talk(&mut self, said: &[u8], pieces: &[Piece]) -> Result<Vec<usize>> {
        self.open()?;
        let mut copies = Vec::new();
        for &(from, to) in pieces {
            let at = FIRST.wrapping_add(from as u32);
            copies.push(self.client(Tcp::ACK | Tcp::PSH, at, &said[from..to])?);
        }
        let end = FIRST.wrapping_add(said.len() as u32);
        copies.push(self.server(Tcp::ACK, end, b"answer")?);
        copies.push(self.client(Tcp::ACK, end, &[])?);
        Ok(copies)
    }
}

fn made_config(names: &str) -> String {
    let (name, address, _) = ENDPOINTS[0];
    format!(
        "[[interface]]\nname = \"eth0\"\n[endpoint.{name}]\naddress = \"{address}\"\n\
         [[filter]]\nname = \"shop\"\nprotocol = [\"tcp\"]\ndestination_port = [443]\n{names}\nto = [{name:?}]\n"
    )
}

fn made(attach: Attach, names: &str) -> Result<Made> {
    let config = made_config(names);
    Ok(Made {
        edge: Edge::new(&config, attach)?,
        port: 40_000,
    })
}

/// A hello in records of this many bytes.
fn in_records(hello: &[u8], bytes: usize) -> Vec<u8> {
    let records = hello[5..].chunks(bytes);
    let records = records.map(|part| {
        let length = (part.len() as u16).to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

#[test]
fn a_hello_may_come_in_any_pieces_and_order() -> Result<()> {
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        for (name, is_wanted) in [("shop.example", 1), ("shop.example.org", 0)] {
            let short = hello(name, 0);
            let long = hello(name, 1200);
            let (short_end, end) = (short.len(), long.len());
            let records = in_records(&hello(name, 300), 60);
            let records_end = records.len();
            for (what, said, pieces) in [
                ("at once", &short, vec![(0, short_end)]),
                ("one byte first", &long, vec![(0, 1), (1, end)]),
                ("halves", &long, vec![(0, 700), (700, end)]),
                (
                    "halves, the second first",
                    &long,
                    vec![(700, end), (0, 700)],
                ),
                ("overlapping", &long, vec![(0, 500), (300, end)]),
                ("repeated", &long, vec![(0, 500), (0, 500), (500, end)]),
                (
                    "in three, backwards",
                    &long,
                    vec![(900, end), (400, 900), (0, 400)],
                ),
                ("in records", &records, vec![(0, records_end)]),
                (
                    "in records and pieces",
                    &records,
                    vec![(200, records_end), (0, 90), (90, 200)],
                ),
            ] {
                let copies = made.talk(said, &pieces)?;
                // all before the last piece is copied, and what follows if it is wanted
                let mut want = vec![1; pieces.len() - 1];
                want.extend([is_wanted; 3]);
                ensure!(copies == want, "{attach:?} {name} {what}: {copies:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_has_no_name_is_undecided() -> Result<()> {
    for &attach in Attach::all()? {
        for (undecided, copied) in [("skip", 0), ("mirror", 1)] {
            let names = format!("server_name = [\"shop.example\"]\nundecided = \"{undecided}\"");
            let mut made = made(attach, &names)?;
            let ssh = b"SSH-2.0-x\r\n";
            let bare = hello("", 0);
            for (what, said) in [("neither", &ssh[..]), ("an empty name", &bare)] {
                let copies = made.talk(said, &[(0, said.len())])?;
                ensure!(
                    copies == [copied; 3],
                    "{attach:?} {undecided} {what}: {copies:?}"
                );
            }
            made.open()?;
            let copies = [
                made.server(Tcp::ACK, FIRST, b"220 ready\r\n")?,
                made.client(Tcp::ACK, FIRST, &hello("shop.example", 0))?,
            ];
            ensure!(
                copies == [copied; 2],
                "{attach:?} the server first: {copies:?}"
            );
            let skipped = made.edge.counters()?;
            let undecided = count(&skipped, "eth0 ingress undecided");
            let explained = made.edge.daemon.run(&[
                "explain",
                "--interface",
                "eth0",
                "--direction",
                "ingress",
                "--protocol",
                "tcp",
                "--source",
                "10.0.0.1",
                "--source-port",
                "40000",
                "--destination",
                "10.0.0.2",
                "--destination-port",
                "443",
                "--server-name",
                "Other.example.",
            ])?;
            let explained = String::from_utf8(explained.stdout)?;
            ensure!(
                explained.contains("server_name is Other.example., the filter wants shop.example"),
                "{explained}"
            );
            ensure!(undecided > 0, "{attach:?}: not counted: {skipped:?}");
            // in the middle of a connection
            made.port += 1;
            let copies = [
                made.client(Tcp::ACK, FIRST, b"more")?,
                made.server(Tcp::ACK, FIRST.wrapping_add(4), b"more")?,
            ];
            ensure!(
                copies == [copied; 2],
                "{attach:?} in the middle: {copies:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn nobody_takes_a_name_back_and_a_new_connection_has_its_own() -> Result<()> {
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let wanted = hello("shop.example", 0);
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
        let other = hello("other.example", 0);
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
            let said = hello(name, 0);
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

/// A flood of SYNs and hellos that nobody answers, between a client's hello and the answer to it.
#[test]
fn forged_connections_push_nothing_out() -> Result<()> {
    // an emulator takes long for that many
    let flood = u16::try_from(packets()? / 5)?;
    for &attach in Attach::all()? {
        let mut made = made(attach, "server_name = [\"shop.example\"]")?;
        let wanted = hello("shop.example", 0);
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
                    hello(&name, 0)
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
