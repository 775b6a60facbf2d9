//! A name as `address` of an endpoint.

use anyhow::Result;
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::{deadline, file};

use super::{resolve, start};
use crate::site::{Site, filter, status_until};

fn config() -> String {
    file::interface("eth0") + &file::endpoint("ids", "ids.example", "") + &filter("web", 4000)
}

#[test]
fn copies_go_to_the_address_of_a_name() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &config())?;
    let state = |wanted: &'static str| {
        status_until(&daemon, move |_, status| {
            status["endpoints"][0]["state"] == wanted
        })
    };
    // the state is a reason for drops, counted, and no failed start
    let status = state("no-address")?;
    assert_eq!(status["degraded"], true);
    site.expect(4000, 0)?;
    let status = status_until(&daemon, |_, status| {
        status["endpoints"][0]["drops"]["no-address"] == 1
    })?;
    assert_eq!(status["endpoints"][0]["dns_name"]["name"], "ids.example");
    resolve(&daemon, &[("ids.example", &["192.0.2.10"])])?;
    let status = state("ready")?;
    assert_eq!(status["endpoints"][0]["dns_name"]["until"], super::UNTIL);
    site.expect(4000, 1)?;
    // it stays with its address as long as the name has it, also over a restart
    resolve(&daemon, &[("ids.example", &["192.0.2.9", "192.0.2.10"])]).ok();
    site.expect(4000, 1)?;
    daemon.signal(Signal::SIGUSR2)?;
    daemon.wait_exit(deadline())?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    site.expect(4000, 1)?;
    site.host.address("eth0", "192.0.2.9/24")?;
    resolve(&daemon, &[("ids.example", &["192.0.2.9"])])?;
    let moved = |status: &serde_json::Value| {
        let endpoint = &status["endpoints"][0];
        endpoint["address"] == "192.0.2.9" && endpoint["state"] == "ready"
    };
    status_until(&daemon, |_, status| moved(status))?;
    site.expect(4000, 1)
}
