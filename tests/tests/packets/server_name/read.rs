//! What is read of a client's first payload, and what is not.

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::hello::client_hello;
use traffic_mirror_tests::lab::packet::Tcp;

use super::made::{FIRST, made};
use crate::edge::Attach;
use crate::routed::count;

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
            let short = client_hello(name, 0);
            let long = client_hello(name, 1200);
            let (short_end, end) = (short.len(), long.len());
            let records = in_records(&client_hello(name, 300), 60);
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
            let bare = client_hello("", 0);
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
                made.client(Tcp::ACK, FIRST, &client_hello("shop.example", 0))?,
            ];
            ensure!(
                copies == [copied; 2],
                "{attach:?} the server first: {copies:?}"
            );
            let counted = made.edge.counters()?;
            for (direction, found, connections) in [
                ("ingress", "other-protocol", 1),
                ("ingress", "no-name", 1),
                ("egress", "server-first", 1),
            ] {
                let name = format!("eth0 {direction} connections {found}");
                ensure!(count(&counted, &name) == connections, "{name}: {counted:?}");
            }
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
            // names that are found
            for name in ["shop.example", "other.example", "other.example"] {
                let said = client_hello(name, 0);
                made.talk(&said, &[(0, said.len())])?;
            }
            let counted = made.edge.counters()?;
            for (found, connections) in [("mid-flow", 1), ("wanted", 1), ("other-name", 2)] {
                let name = format!("eth0 ingress connections {found}");
                ensure!(count(&counted, &name) == connections, "{name}: {counted:?}");
            }
        }
    }
    Ok(())
}
