//! SCTP: superpackets whose packets have different lengths, and a checksum (CRC32c) that no helper
//! computes.

use crate::edge::Attach;
use crate::routed::{CLIENT, COLLECTOR, Routed, SERVER, WEB, address, count, sent_to};
use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Instant;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::packet::{Ip, verify_inner_checksums};
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::{DEADLINE, deadline};

/// Opens a socket; `None` if the kernel has no SCTP.
fn open(netns: &Netns, family: libc::c_int) -> Result<Option<OwnedFd>> {
    netns.enter(|| {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(
                family,
                libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
                libc::IPPROTO_SCTP,
            )
        };
        match Errno::result(fd) {
            // SAFETY: the kernel has just given this descriptor to us.
            Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(Errno::EPROTONOSUPPORT) => Ok(None),
            Err(error) => Err(error).context("open an SCTP socket"),
        }
    })
}

/// Sends records over one association from `client`; each must arrive. Of SCTP sockets the calls
/// are those of TCP's.
fn transfer(client: OwnedFd, server: OwnedFd, to: SocketAddr, records: &[Vec<u8>]) -> Result<()> {
    let there = nix::sys::socket::SockaddrStorage::from(to);
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&server), &there).context("bind")?;
    nix::sys::socket::listen(&server, nix::sys::socket::Backlog::new(1)?).context("listen")?;
    let listener = TcpListener::from(server);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let (mut connection, _) = listener.accept().context("accept")?;
            connection.set_read_timeout(Some(DEADLINE))?;
            let mut wanted = records.concat();
            let mut buffer = vec![0; wanted.len()];
            connection.read_exact(&mut buffer).context("receive")?;
            ensure!(buffer == wanted, "other bytes arrived");
            wanted.clear();
            anyhow::Ok(())
        });
        nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&client), &there)
            .context("connect")?;
        let mut connection = TcpStream::from(client);
        records
            .iter()
            .try_for_each(|record| connection.write_all(record))
            .context("send")?;
        receiving.join().expect("the receiver does not panic")
    })
}

/// The user data of the DATA chunks of a packet by their numbers (RFC 9260, section 3.3.1).
fn data(packet: &[u8]) -> Result<Vec<(u32, Vec<u8>)>> {
    const DATA: u8 = 0;
    let ip = Ip::parse(packet)?;
    ensure!(ip.protocol == 132, "protocol {}", ip.protocol);
    let (mut chunks, mut found) = (&ip.upper[12..], Vec::new());
    while chunks.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([chunks[2], chunks[3]]));
        ensure!(
            (4..=chunks.len()).contains(&length),
            "a chunk of {length} bytes"
        );
        if chunks[0] == DATA {
            let number = chunks[4..8].try_into().expect("four bytes");
            found.push((u32::from_be_bytes(number), chunks[16..length].to_vec()));
        }
        chunks = &chunks[length.next_multiple_of(4).min(chunks.len())..];
    }
    Ok(found)
}

/// With room, each packet is wrapped; without, it goes in fragments: with the right checksum either
/// way.
#[test]
fn sctp_arrives_whole() -> Result<()> {
    for &attach in Attach::all()? {
        for mtu in [1600, 1500] {
            let mut lab = Routed::new(WEB, attach, mtu)?;
            if open(&lab.client, libc::AF_INET)?.is_none() {
                if std::env::var("TEST_MODULES")
                    .is_ok_and(|modules| modules.split(' ').any(|one| one == "sctp"))
                {
                    bail!("the kernel module sctp must be there");
                }
                eprintln!("SKIPPED: takes the kernel module sctp");
                return Ok(());
            }
            for (family, domain) in [libc::AF_INET, libc::AF_INET6].into_iter().enumerate() {
                let context = format!("{attach:?}, MTU {mtu}, from {}", CLIENT[family]);
                // with room nothing but superpackets that were lost tells that there must be a
                // segmenter
                let records: Vec<_> = (1..400)
                    .map(|n| Stream::new(n).bytes(100 + n as usize * 7))
                    .collect();
                let until = deadline();
                let (copies, before, after) = loop {
                    let (_, before) = lab.settle()?;
                    let has_segmenter = lab.has_segmenter()?;
                    let [client, server] = [&lab.client, &lab.server]
                        .map(|host| open(host, domain)?.context("no SCTP any more"));
                    transfer(client?, server?, address(SERVER[family], 443), &records)
                        .with_context(|| context.clone())?;
                    let (copies, after) = lab.settle()?;
                    if has_segmenter {
                        break (copies, before, after);
                    }
                    ensure!(
                        Instant::now() < until,
                        "{context}: there is no segmenter: {after:?}"
                    );
                    lab.daemon.signal(nix::sys::signal::Signal::SIGHUP)?;
                };
                for (endpoint, name) in COLLECTOR.into_iter().zip(["four", "six"]) {
                    let mut arrived = BTreeMap::new();
                    let copies = sent_to(&copies, endpoint)?;
                    let sent = |counters| count(counters, &format!("endpoint {name} packets"));
                    let counted = sent(&after) - sent(&before);
                    ensure!(
                        copies.len() as u64 == counted,
                        "{context} to {endpoint}: {} of {counted}",
                        copies.len()
                    );
                    for copy in copies {
                        verify_inner_checksums(&copy.inner)
                            .with_context(|| format!("{context} to {endpoint}"))?;
                        arrived.extend(data(&copy.inner)?);
                    }
                    let numbers: Vec<u32> = arrived.keys().copied().collect();
                    let first = numbers
                        .first()
                        .copied()
                        .with_context(|| format!("{context}: no data, {after:?}"))?;
                    ensure!(
                        numbers
                            .iter()
                            .zip(first..)
                            .all(|(is, should)| *is == should),
                        "{context}: {numbers:?}"
                    );
                    let bytes: Vec<u8> = arrived.into_values().flatten().collect();
                    ensure!(
                        bytes == records.concat(),
                        "{context}: other bytes at {endpoint}"
                    );
                }
            }
        }
    }
    Ok(())
}
