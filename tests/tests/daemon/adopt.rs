//! A wrong file at the start of a daemon whose predecessor has left a mirror in the kernel.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::objects::Objects;

use crate::site::{Site, attach, config, maps_of, mechanisms};

const STATUS: &str = "STATUS=the file is invalid; mirroring continues with the previous configuration until the file is valid";

fn wrong() -> String {
    config(&[4000]) + "destination_port = [99999]\n"
}

/// Kills the daemon, and starts the next one. Returns how many lines all before have said.
fn succeed(daemon: &mut Daemon) -> Result<usize> {
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    let said = daemon.output().len();
    daemon.restart()?;
    daemon.ready(deadline())?;
    Ok(said)
}

fn last_notification(daemon: &Daemon) -> Result<String> {
    daemon
        .notifications()
        .pop()
        .context("it has notified of nothing")
}

#[test]
fn it_goes_on_until_the_file_is_right() -> Result<()> {
    let mut site = Site::new()?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[4000, 4001], attach(mechanism))?;
        site.expect(4000, 1)?;
        let before = Objects::below(daemon.pin_path())?;
        site.flood(|| {
            daemon.write_config(&wrong())?;
            daemon.reload_done(deadline())?;
            let said = succeed(&mut daemon)?;
            daemon.wait_line(|line| line.ends_with(STATUS.split_at(7).1), deadline())?;
            let said = &daemon.output()[said..];
            ensure!(
                said.iter().filter(|line| line.contains("--> ")).count() == 1,
                "{said:?}"
            );
            // it is asked for, and is still wrong; then it is gone
            daemon.signal(Signal::SIGHUP)?;
            daemon.reload_done(deadline())?;
            fs::remove_file(daemon.config_path())?;
            daemon.reload_done(deadline())?;
            succeed(&mut daemon).map(drop)
        })?;
        assert_eq!(last_notification(&daemon)?, STATUS);
        assert_eq!(
            Objects::below(daemon.pin_path())?,
            before,
            "nothing was to be changed"
        );

        daemon.write_config(&config(&[4000, 4002]))?;
        daemon.reload_done(deadline())?;
        let notified = daemon.notifications();
        assert_eq!(notified[notified.len() - 2..], ["STATUS=", "READY=1"]);
        site.expect(4000, 1)?;
        site.expect(4001, 0)?;
        site.expect(4002, 1)?;

        daemon.write_config(&wrong())?;
        daemon.reload_done(deadline())?;
        succeed(&mut daemon)?;
        site.stops(&mut daemon)?;
    }
    Ok(())
}

#[test]
fn maps_of_another_version_go_on_too() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[4000, 4001])?;
    let ours = maps_of(&daemon, 1)?;
    let other = ours.with_file_name("maps-1-99-00000001");
    daemon.changed_by_others();
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    fs::rename(ours, &other)?;
    daemon.write_config(&wrong())?;
    site.flood(|| {
        daemon.restart()?;
        daemon.ready(deadline())
    })?;
    assert!(other.exists());
    site.flood(|| {
        daemon.write_config(&config(&[4000, 4001]))?;
        daemon.reload_done(deadline()).map(drop)
    })?;
    assert!(!other.exists());
    Ok(())
}
