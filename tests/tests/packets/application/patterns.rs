//! Patterns, cgroups below, and other fields.

use anyhow::{Context as _, Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::{FiveTuple, Ip};
use traffic_mirror_tests::lab::status::Status;

use super::laboratory::{Lab, Role, config, filter, of};
use crate::edge::Attach;

#[test]
fn a_pattern_has_what_is_below_it() -> Result<()> {
    for &attach in Attach::all()? {
        let top = Cgroup::new("pk-top", "")?;
        let [one, two] = [top.below("one")?, top.below("two")?];
        let inner = one.below("worker")?;
        let path = top.path();
        let mut lab = Lab::new(&config(&[of("absent.service")]), attach)?;
        let mut port = 7000;
        for (pattern, want) in [
            (path.to_owned(), [true, true, true]),
            (format!("{}*/one", &path[..8]), [true, true, false]),
            (format!("{path}/one/w?rker"), [true, false, false]),
            (format!("{path}/*"), [true, true, true]),
            ("absent.service".to_owned(), [false, false, false]),
        ] {
            lab.routed.settle()?;
            lab.routed.daemon.write_config(&config(&[of(&pattern)]))?;
            lab.routed.daemon.reload_done(deadline())?;
            for (cgroup, want) in [&inner, &one, &two].into_iter().zip(want) {
                for role in [Role::Client, Role::Server] {
                    port += 1;
                    let client = lab.connect(cgroup, role, 0, port)?;
                    let (carried, _) = lab.carried(port)?;
                    let found = carried.get(&client).copied().unwrap_or_default();
                    let is_right = if want {
                        found.is_whole()
                    } else {
                        found.is_nothing()
                    };
                    ensure!(
                        is_right,
                        "{attach:?} {pattern} {}: {found:?}",
                        cgroup.path()
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn other_fields_hold_too() -> Result<()> {
    for &attach in Attach::all()? {
        let cgroup = Cgroup::new("pk-app", ".service")?;
        let app = format!("application = [{:?}]", cgroup.name());
        let some = filter("some", &format!("{app}\ndestination_port = [7000]"));
        let mut lab = Lab::new(&config(&[some]), attach)?;
        for (port, want) in [(7000, true), (7001, false)] {
            let client = lab.connect(&cgroup, Role::Client, 0, port)?;
            let (carried, _) = lab.carried(port)?;
            let found = carried.get(&client).copied().unwrap_or_default();
            let is_right = if want {
                found.is_whole()
            } else {
                found.copies() == 0
            };
            ensure!(is_right, "{attach:?} {port}: {found:?}");
        }
    }
    Ok(())
}

#[test]
fn an_application_is_excluded_and_others_are_not() -> Result<()> {
    for &attach in Attach::all()? {
        let [cgroup, other] = ["pk-app", "pk-other"].map(|name| Cgroup::new(name, ".service"));
        let (cgroup, other) = (cgroup?, other?);
        let app = format!("application = [{:?}]", cgroup.name());
        let exclude = format!("[[filter]]\nname = \"not\"\naction = \"exclude\"\n{app}\n");
        let all = filter("all", "protocol = [\"tcp\"]");
        let mut lab = Lab::new(&config(&[all, exclude]), attach)?;
        // as a client it is known from its first packet on
        let excluded = lab.connect(&cgroup, Role::Client, 0, 7000)?;
        let last = lab.connect(&other, Role::Client, 0, 7000)?;
        let mut fins = 0;
        while fins < 2 {
            let copy = lab.routed.copies.next_copy(deadline())?;
            let copy = copy.context("the last copies")?;
            let ip = Ip::parse(&copy.inner)?;
            let (source, destination) = FiveTuple::parse(&copy.inner)?.ports.context("ports")?;
            let is_of = |port| [source, destination].contains(&port);
            ensure!(!is_of(excluded), "{attach:?}: a copy of what is excluded");
            fins += usize::from(ip.upper[13] & 1 != 0 && is_of(last));
        }
        // connections that match two filters do not add up
        let status = Status::count(&lab.routed.daemon)?;
        lab.routed.daemon.begin(&status);
    }
    Ok(())
}
