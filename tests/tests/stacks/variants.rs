//! Hellos as OpenSSL makes them.

use anyhow::{Context as _, Result, ensure};

use traffic_mirror_tests::lab::TempDir;

use crate::host::{Host, config};
use crate::web::{Nginx, check, openssl};

#[test]
fn hellos_of_all_kinds_are_read() -> Result<()> {
    let mut host = Host::new(&config("server_name = [\"shop.example\"]"), false)?;
    let _nginx = Nginx::start(&host.host)?;
    // more than a segment of them
    let protocols: Vec<String> = (0..200).map(|nth| format!("protocol-{nth}")).collect();
    let protocols = ["http/1.1".to_owned()]
        .into_iter()
        .chain(protocols)
        .collect::<Vec<_>>()
        .join(",");
    let directory = TempDir::new()?;
    let session = directory.path().join("session");
    let session = session.to_str().context("a path")?;
    let mut made = Vec::new();
    for (name, is_wanted) in [("shop.example", true), ("other.example", false)] {
        for args in [
            &["-tls1_3"][..],
            &["-tls1_2"],
            &["-tls1_2", "-sess_out", session],
            &["-tls1_2", "-sess_in", session],
            &["-alpn", &protocols],
        ] {
            let port = 20_000 + made.len() as u16;
            let before = if args[0] == "-alpn" { 1448 } else { 0 };
            let one =
                openssl(&host.client, name, port, args).with_context(|| format!("{args:?}"))?;
            made.push((one, is_wanted, before));
        }
    }
    let (originals, copies) = host.settle()?;
    for (one, is_wanted, before) in &made {
        check(one, *is_wanted, *before, &originals, &copies)?;
    }
    let shown = host.daemon.run(&["top", "--names", "--once"])?;
    let shown = String::from_utf8(shown.stdout)?;
    for (name, is_wanted) in [("shop.example", "yes"), ("other.example", "none")] {
        let row = shown
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        // rate, connections, idle, its unit, whether a filter has it, name
        let told = (words.get(1).copied(), words.get(4).copied());
        ensure!(told == (Some("5"), Some(is_wanted)), "{name}: {shown}");
    }
    Ok(())
}
