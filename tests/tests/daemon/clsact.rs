//! Filters of a clsact qdisc: what is not ours stays, whenever it came, and so does what production
//! has queued.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::objects::{has_clsact, tc_filters};
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::{deadline, process};

use crate::site::{Site, attach};

/// Frames that wait behind a slow queue, and how long each is; they take half a second.
const QUEUED: usize = 60;
const PAYLOAD: usize = 1000;
const SLOW: &str = "tc qdisc replace dev eth0 root tbf rate 1mbit burst 2000 limit 1000000";

/// Ends a daemon that has put filters on `eth0`.
type End = fn(&mut Daemon) -> Result<()>;

const ENDS: [(&str, End); 2] = [
    ("stop", |daemon| {
        daemon.signal(Signal::SIGTERM)?;
        ensure!(daemon.wait_exit(deadline())? == 0, "it fails");
        Ok(())
    }),
    ("detach", |daemon| {
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        process::succeed(&mut daemon.command("detach")?, deadline()).map(drop)
    }),
];

#[test]
fn the_end_takes_nothing_with_it_that_is_not_ours() -> Result<()> {
    let site = Site::new()?;
    let is_queued = |frame: &[u8]| frame.ends_with(&[0xa5; PAYLOAD]);
    let mut client = Collector::start_filtered(&site.client, "eth0", is_queued)?;
    let macs = (site.edge.mac("eth0")?, site.client.mac("eth0")?);
    let frame = eth_between(macs.0, macs.1)
        .ip("10.0.0.254", "10.0.0.1")
        .udp(1, 9)
        .payload([0xa5; PAYLOAD])
        .build();
    for (what, end) in ENDS {
        let mut daemon = site.launch(&[53], attach("clsact"))?;
        site.edge
            .run("tc filter add dev eth0 egress protocol ip prio 7 u32 match ip dst 203.0.113.99/32 flowid 1:1")?;
        site.edge.run(SLOW)?;
        let socket = PacketSocket::open(&site.edge, "eth0", Capture::Nothing)?;
        (0..QUEUED).try_for_each(|_| socket.send(&frame))?;
        end(&mut daemon)?;
        client
            .wait_for(QUEUED, deadline())
            .with_context(|| format!("{what}: what was queued is lost"))?;
        let left = tc_filters(&site.edge, "eth0")?;
        ensure!(
            left.contains("u32") && !left.contains("bpf"),
            "{what}: {left}"
        );
        ensure!(
            has_clsact(&site.edge, "eth0")? && has_clsact(&site.edge, "eth1")?,
            "{what}: a qdisc is gone"
        );
        site.edge.run("tc qdisc del dev eth0 root")?;
        site.edge.run("tc filter del dev eth0 egress prio 7")?;
        site.bare(daemon.pin_path())?;
    }
    Ok(())
}
