//! Kinds of interfaces of which tc sees nothing, or not all: the status says so, and what to list
//! instead.

use crate::edge::Attach;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::veth::veth;

/// A kind, the module that it takes, how `kind0` is made of `eth0`, and what is left out of it.
const KINDS: [(&str, &str, &[&str], &[&str]); 2] = [
    (
        "vrf",
        "vrf",
        &[
            "ip link add kind0 type vrf table 10",
            "ip link set kind0 up",
            "ip link set eth0 master kind0",
        ],
        &["ingress", "egress"],
    ),
    (
        "l3s",
        "ipvlan",
        &[
            "ip link add link eth0 name kind0 type ipvlan mode l3s",
            "ip link set kind0 up",
        ],
        &["ingress"],
    ),
];

/// Makes the interface; false where the kernel lacks the kind and may.
fn make(edge: &Netns, module: &str, lines: &[&str]) -> Result<bool> {
    for line in lines {
        let Err(error) = edge.run(line) else { continue };
        let wanted = std::env::var("TEST_MODULES")
            .is_ok_and(|modules| modules.split(' ').any(|one| one == module));
        if wanted || !format!("{error:#}").contains("Unknown device type") {
            return Err(error);
        }
        println!("SKIPPED: takes the kernel module {module}");
        return Ok(false);
    }
    Ok(true)
}

/// Packets that a filter has matched.
fn matched(status: &Status) -> u64 {
    status
        .named("filters", "all")
        .and_then(|filter| filter["packets"].as_u64())
        .unwrap_or_default()
}

fn left_out(status: &Status) -> Vec<(Value, Value, Value)> {
    let all = status.0["not_mirrored"].as_array().into_iter().flatten();
    all.map(|one| {
        (
            one["name"].clone(),
            one["reason"].clone(),
            one["directions"].clone(),
        )
    })
    .collect()
}

#[test]
fn what_tc_does_not_see_is_told() -> Result<()> {
    for &attach in Attach::all()? {
        for (reason, module, lines, directions) in KINDS {
            let (client, edge) = (Netns::new("client")?, Netns::new("edge")?);
            veth(&edge, "eth0", &client, "eth0")?;
            client.address("eth0", "10.0.0.1/24")?;
            if !make(&edge, module, lines)? {
                continue;
            }
            let has_the_address = if reason == "vrf" { "eth0" } else { "kind0" };
            edge.address(has_the_address, "10.0.0.254/24")?;
            let file = |name: &str, direction: &str| {
                format!(
                    "[[interface]]\nname = \"{name}\"\ndirection = \"{direction}\"\n\
                     [endpoint.ids]\naddress = \"192.0.2.10\"\n\
                     [[filter]]\nname = \"all\"\nprotocol = [\"icmp\"]\nto = [\"ids\"]\n"
                )
            };
            let mut daemon = Daemon::spawn(&edge, &file("kind0", "both"), attach.launch())?;
            daemon.ready(deadline())?;
            let wanted = vec![(json!("kind0"), json!(reason), json!(directions))];
            Status::until(
                &daemon,
                |status| left_out(status) == wanted && status.0["degraded"] == true,
                deadline(),
            )?;
            // a glob takes what can be mirrored
            daemon.write_config(&file("kind*", "both"))?;
            daemon.reload_done(deadline())?;
            let fault = |status: &Status| status.0["not_mirrored"][0]["is_fault"].clone();
            Status::until(
                &daemon,
                |status| left_out(status) == wanted && fault(status) == false,
                deadline(),
            )?;
            // what to list instead sees what comes in
            daemon.write_config(&file("eth0", "ingress"))?;
            daemon.reload_done(deadline())?;
            let before = matched(&Status::until(
                &daemon,
                |status| left_out(status).is_empty(),
                deadline(),
            )?);
            let ping = || client.run("ping -c 1 -W 1 10.0.0.254");
            let until = deadline();
            while let Err(error) = ping() {
                ensure!(std::time::Instant::now() < until, "{error:#}");
            }
            let after = matched(&Status::read(&daemon)?);
            if after == before {
                bail!("{attach:?} {reason}: eth0 has seen nothing");
            }
        }
    }
    Ok(())
}
