//! UDP superpackets of an interface whose checksums are not left to hardware: the kernel cuts them
//! only as long as they are not wrapped.

use crate::edge::Attach;
use crate::routed::{CLIENT, COLLECTOR, EDGE, Routed, WEB, address, count, sent_to};
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::packet::{Ip, verify_inner_checksums};
use traffic_mirror_tests::lab::traffic::{Stream, udp_bind, udp_gso_send};
use traffic_mirror_tests::lab::{ethtool, kernel};

#[test]
fn superpackets_without_checksum_offload_arrive_whole() -> Result<()> {
    const TIMES: usize = 5;
    const DATAGRAMS: usize = 10;
    // before, a socket refuses to send them there (`udp_send_skb`)
    if kernel()? < (6, 11) {
        println!("skipped: takes Linux 6.11");
        return Ok(());
    }
    for &attach in Attach::all()? {
        for (mtu, segment) in [
            (1600, 1452),
            (1600, 1200),
            (1500, 1200),
            (1500, 1452),
            (1280, 1452),
        ] {
            let mut lab = Routed::new(WEB, attach, mtu)?;
            ethtool::set_features(&lab.edge, "eth0", |feature| {
                (feature.name.starts_with("tx-checksum-") && feature.available).then_some(false)
            })?;
            let until = traffic_mirror_tests::lab::deadline();
            while !lab.has_segmenter()? {
                ensure!(
                    std::time::Instant::now() < until,
                    "{attach:?}: there is no segmenter"
                );
            }
            for family in 0..2 {
                let (_, before) = lab.settle()?;
                let receiver = udp_bind(&lab.client, address(CLIENT[family], 443))?;
                let sender = udp_bind(&lab.edge, address(EDGE[family], 4433))?;
                let payload = Stream::new(12).bytes(usize::from(segment) * (DATAGRAMS - 1) + 100);
                for _ in 0..TIMES {
                    udp_gso_send(&sender, address(CLIENT[family], 443), &payload, segment)?;
                    let mut buffer = [0; 2000];
                    for datagram in payload.chunks(segment.into()) {
                        let length = receiver.recv(&mut buffer).context("a datagram")?;
                        ensure!(buffer[..length] == *datagram, "another datagram");
                    }
                }
                let (copies, after) = lab.settle()?;
                let context = format!(
                    "{attach:?}, MTU {mtu}, datagrams of {segment} to {}",
                    CLIENT[family]
                );
                let matched =
                    count(&after, "filter web packets") - count(&before, "filter web packets");
                ensure!(
                    matched == (TIMES * DATAGRAMS) as u64,
                    "{context}: {matched} matched"
                );
                for collector in COLLECTOR {
                    let copies = sent_to(&copies, collector)?;
                    ensure!(
                        copies.len() == TIMES * DATAGRAMS,
                        "{context}: {} copies: {after:?}",
                        copies.len()
                    );
                    for (copy, datagram) in
                        copies.iter().zip(payload.chunks(segment.into()).cycle())
                    {
                        verify_inner_checksums(&copy.inner).with_context(|| context.clone())?;
                        ensure!(
                            Ip::parse(&copy.inner)?.upper[8..] == *datagram,
                            "{context}: another datagram"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}
