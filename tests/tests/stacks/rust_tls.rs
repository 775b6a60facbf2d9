//! rustls, which shuffles the extensions of its hello.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use traffic_mirror_tests::lab::netns::Netns;

use crate::host::{Host, SERVER, config};
use crate::identity;
use crate::web::{BODY_BYTES, Made, Nginx, check};

const CONNECTIONS: usize = 60;
/// Payload of a segment with timestamps.
const SEGMENT_BYTES: usize = 1448;

fn connect(client: &Netns, config: &Arc<ClientConfig>, name: &str, nth: usize) -> Result<Made> {
    let to = SocketAddr::new(SERVER[nth % 2].parse()?, 443);
    let mut tcp = client.enter(|| Ok(TcpStream::connect(to)?))?;
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(name.to_owned())?)?;
    let from = tcp.local_addr()?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => ensure!(answer.len() > BODY_BYTES, "{} bytes came", answer.len()),
    }
    Ok(Made {
        name: name.to_owned(),
        client: (from.ip(), from.port()),
        server: to.ip(),
    })
}

#[test]
fn hellos_of_rustls_are_read() -> Result<()> {
    let mut host = Host::new(&config("server_name = [\"*.shop.example\"]"), false)?;
    let nginx = Nginx::start(&host.host)?;
    let mut made = Vec::new();
    for nth in 0..CONNECTIONS {
        let (is_wanted, is_long) = (nth % 4 < 2, nth % 3 == 0);
        let domain = if is_wanted { "shop" } else { "other" };
        let name = format!("n{nth}.{domain}.example");
        let config = Arc::new(identity::client(nginx.directory(), "http/1.1", is_long)?);
        let one = connect(&host.client, &config, &name, nth);
        made.push((one.context(name)?, is_wanted, is_long));
    }
    let (originals, copies) = host.settle()?;
    for (one, is_wanted, is_long) in &made {
        let before = if *is_long { SEGMENT_BYTES } else { 0 };
        check(one, *is_wanted, before, &originals, &copies)?;
    }
    Ok(())
}
