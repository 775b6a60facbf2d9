//! Units that restart, and reloads.

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;
use traffic_mirror_tests::lab::deadline;

use super::laboratory::{DATAGRAMS, Lab, Role, config, end, filter, of, say};
use crate::edge::Attach;

fn has_other_cgroups(line: &str) -> bool {
    line.contains("it has other cgroups") || line.contains("it runs")
}

#[test]
fn a_unit_that_restarts_keeps_its_filter() -> Result<()> {
    for &attach in Attach::all()? {
        let wanted = Cgroup::new("pk-app", ".service")?;
        let mut lab = Lab::new(&config(&[of(wanted.name())]), attach)?;
        for round in 0..3 {
            for role in [Role::Server, Role::Client] {
                // the same ports again, of which the cgroup before is remembered
                let client = lab.connect(&wanted, role, 0, 7000)?;
                let (carried, _) = lab.carried(7000)?;
                let found = carried.get(&client).copied().unwrap_or_default();
                ensure!(found.is_whole(), "{attach:?} {round} {role:?}: {found:?}");
                let client = lab.exchange(&wanted, role, 0, 7001)?;
                let (carried, _) = lab.carried(7001)?;
                let found = carried.get(&client).copied().unwrap_or_default();
                ensure!(
                    found.packets == [DATAGRAMS; 2],
                    "{attach:?} {round} {role:?}: {found:?}"
                );
            }
            wanted.restart()?;
            lab.routed.daemon.wait_line(has_other_cgroups, deadline())?;
        }
    }
    Ok(())
}

#[test]
fn a_unit_may_start_after_the_daemon() -> Result<()> {
    for &attach in Attach::all()? {
        let slice = Cgroup::new("pk-later", ".slice")?;
        let name = slice.name().replace(".slice", ".service");
        let mut lab = Lab::new(&config(&[of(&name)]), attach)?;
        let wanted = slice.below(&name)?;
        lab.routed.daemon.wait_line(has_other_cgroups, deadline())?;
        let client = lab.connect(&wanted, Role::Server, 0, 7000)?;
        let (carried, _) = lab.carried(7000)?;
        let found = carried.get(&client).copied().unwrap_or_default();
        ensure!(found.is_whole(), "{attach:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn a_reload_takes_and_drops_connections_that_are_open() -> Result<()> {
    for &attach in Attach::all()? {
        let cgroups = [
            Cgroup::new("pk-one", ".service")?,
            Cgroup::new("pk-two", ".service")?,
        ];
        let mut lab = Lab::new(&config(&[of(cgroups[0].name())]), attach)?;
        let mut open = Vec::new();
        for (cgroup, port) in cgroups.iter().zip([7000, 7001]) {
            for role in [Role::Server, Role::Client] {
                let connection = lab.open(cgroup, role, 0, port)?;
                say(&connection)?;
                open.push((connection, port));
            }
        }
        let names = [cgroups[0].name(), cgroups[1].name()];
        for (wanted, want) in [
            (vec![names[1]], [false, true]),
            (names.to_vec(), [true, true]),
            (vec!["absent.service"], [false, false]),
            (vec![names[0]], [true, false]),
        ] {
            lab.routed.settle()?;
            let filters = [filter("app", &format!("application = {wanted:?}"))];
            lab.routed.daemon.write_config(&config(&filters))?;
            lab.routed.daemon.reload_done(deadline())?;
            for (connection, _) in &open {
                say(connection)?;
            }
            let (copies, _) = lab.routed.settle()?;
            for (connection, port) in &open {
                let client = connection[0].local_addr()?.port();
                let found = super::laboratory::carried(&copies, *port)?;
                let found = found.get(&client).copied().unwrap_or_default();
                let is_right = if want[usize::from(*port == 7001)] {
                    found
                        .bytes
                        .iter()
                        .all(|&bytes| bytes >= super::laboratory::BYTES)
                } else {
                    found.copies() == 0
                };
                ensure!(is_right, "{attach:?} {wanted:?} {port}: {found:?}");
            }
        }
        for (connection, _) in open {
            end(connection)?;
        }
    }
    Ok(())
}
