//! XDP on an interface that is listed.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::foreign::{Foreign, Side, Verdict, drop_long_by_xdp};
use traffic_mirror_tests::lab::socket::PacketType;

use crate::order::ordered;
use crate::site::{Site, attach, mechanisms, status_of, status_until};

const LOSS: &str = "XDP metadata of copied packets does not reach ";

#[test]
fn who_reads_what_xdp_has_left_behind_ours_is_told_of() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        daemon.write_config(&ordered(&[53], "first"))?;
        daemon.reload_done(deadline())?;
        let xdp = drop_long_by_xdp(&site.edge, "eth0")?;
        let look = |daemon: &mut Daemon| -> Result<()> {
            daemon.signal(Signal::SIGHUP)?;
            daemon.reload_done(deadline()).map(drop)
        };
        look(&mut daemon)?;
        let noted = |status: &serde_json::Value| status["interfaces"][0]["note"].clone();
        ensure!(
            noted(&status_of(&daemon)?.1).is_null(),
            "nobody is behind ours"
        );
        let mut reader = Foreign::load("reader", Verdict::Next)?;
        if mechanism == "clsact" {
            reader.attach_filter(&site.edge, "eth0", PacketType::Incoming, 60_000)?;
        } else {
            reader.attach(
                &site.edge,
                mechanism,
                "eth0",
                PacketType::Incoming,
                Side::Last,
            )?;
        }
        let said = |daemon: &Daemon| {
            daemon
                .output()
                .iter()
                .filter(|line| line.contains(LOSS))
                .cloned()
                .collect::<Vec<_>>()
        };
        for _ in 0..3 {
            look(&mut daemon)?;
        }
        let line = daemon.wait_line(|line| line.contains(LOSS), deadline())?;
        ensure!(
            line.contains(" WARN ")
                && line.contains("which runs after mirror on the ingress of eth0"),
            "{line}"
        );
        ensure!(said(&daemon).len() == 1, "{:?}", said(&daemon));
        // nothing that is wanted does not work
        let status = status_until(&daemon, |code, status| {
            code == 0 && noted(status).is_string()
        })?;
        ensure!(
            noted(&status)
                .as_str()
                .is_some_and(|note| note.starts_with(LOSS)),
            "{status:#}"
        );
        let output = daemon.run(&["status"])?;
        let text = String::from_utf8(output.stdout).context("status")?;
        ensure!(text.contains(LOSS), "{text}");
        site.expect(53, 1)?;
        drop(xdp);
        // the kernel takes the program off a moment after the last descriptor is closed, and tells
        // nobody
        let (over, end) = (format!(" INFO resolved: {LOSS}"), deadline());
        while !daemon.output().iter().any(|line| line.contains(&over)) {
            ensure!(Instant::now() < end, "it is not over");
            look(&mut daemon)?;
        }
        ensure!(noted(&status_of(&daemon)?.1).is_null(), "XDP has gone");
    }
    Ok(())
}
