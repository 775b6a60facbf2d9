//! UDP superpackets of an interface whose checksums are not left to hardware: the kernel cuts them
//! only as long as they are not wrapped.

use crate::edge::Attach;
use crate::gso::{SUPERPACKETS, datagrams_arrive};
use crate::routed::{CLIENT, EDGE, Routed, WEB, address};
use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::traffic::udp_bind;
use traffic_mirror_tests::lab::{ethtool, kernel};

#[test]
fn superpackets_without_checksum_offload_arrive_whole() -> Result<()> {
    const TIMES: usize = 5;
    // before, a socket refuses to send them there (`udp_send_skb`)
    if kernel()? < (6, 11) {
        println!("skipped: takes Linux 6.11");
        return Ok(());
    }
    for &attach in Attach::all()? {
        let mut lab = Routed::new(WEB, attach, 1600)?;
        for (mtu, segment) in SUPERPACKETS {
            lab.set_output_mtu(mtu)?;
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
                let sockets = [
                    udp_bind(&lab.edge, address(EDGE[family], 4433))?,
                    udp_bind(&lab.client, address(CLIENT[family], 443))?,
                ];
                let to = CLIENT[family];
                datagrams_arrive(&mut lab, &sockets, segment, TIMES).with_context(|| {
                    format!("{attach:?}, MTU {mtu}, datagrams of {segment} to {to}")
                })?;
            }
        }
    }
    Ok(())
}
