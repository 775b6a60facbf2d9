//! The file: each way of saving it, what is wrong with it, what happens to it and to its directory.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::{TempDir, deadline};

use crate::site::{Site, config, shell};

const KEPT: &str = "the running configuration was kept; nothing changed";

#[test]
fn a_saved_file_is_taken_however_it_is_saved() -> Result<()> {
    type Save = fn(&Path, &Path) -> Result<()>;
    // the file, and another one with the new content
    let ways: [(&str, Save); 7] = [
        ("rename over", |file, new| Ok(fs::rename(new, file)?)),
        ("truncate and write", |file, new| Ok(fs::write(file, fs::read(new)?)?)),
        ("install", |file, new| shell(&format!("install -m644 {} {}", new.display(), file.display())).map(drop)),
        ("cp", |file, new| shell(&format!("cp {} {}", new.display(), file.display())).map(drop)),
        ("sed -i", |file, new| {
            let text = fs::read_to_string(new)?;
            let port = text.split("destination_port = [").nth(1).and_then(|rest| rest.split(']').next());
            let port = port.context("no port")?;
            shell(&format!("sed -i -E s/(port-|\\[)[0-9]+/\\1{port}/ {}", file.display())).map(drop)
        }),
        ("delete and create", |file, new| {
            fs::remove_file(file)?;
            Ok(fs::write(file, fs::read(new)?)?)
        }),
        ("written in two halves", |file, new| {
            let text = fs::read(new)?;
            let mut file = fs::File::create(file)?;
            file.write_all(&text[..text.len() / 2])?;
            file.sync_all()?;
            Ok(file.write_all(&text[text.len() / 2..])?)
        }),
    ];
    let mut site = Site::new()?;
    let daemon = site.daemon(&[1000])?;
    let directory = TempDir::new()?;
    let mut port = 1000;
    for (way, save) in ways {
        let new = directory.path().join("new.toml");
        fs::write(&new, config(&[port + 1]))?;
        save(&daemon.config_path(), &new).context(way)?;
        daemon
            .wait_line(|line| line.ends_with(&format!("INFO + filter port-{}", port + 1)), deadline())
            .context(way)?;
        daemon.wait_line(|line| line.contains("INFO 2 changes, "), deadline()).context(way)?;
        site.expect(port, 0).context(way)?;
        port += 1;
        site.expect(port, 1).context(way)?;
    }
    let output = daemon.output();
    assert!(!output.iter().any(|line| line.contains("error") || line.contains(KEPT)), "{output:?}");
    Ok(())
}

#[test]
fn the_same_content_again_is_no_reload() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    let said = daemon.output().len();
    shell(&format!("touch {}", daemon.config_path().display()))?;
    fs::write(daemon.config_path(), config(&[53]))?;
    fs::write(daemon.config_path().with_file_name("another.toml"), "nonsense")?;
    daemon.write_config(&config(&[53]))?;
    // what follows is taken, and what went before was not
    daemon.write_config(&config(&[54]))?;
    daemon.reload_done(deadline())?;
    daemon.wait_line(|line| line.contains("INFO 2 changes, "), deadline())?;
    let output = daemon.output();
    let new: Vec<_> = output[said..].iter().filter_map(|line| line.split_once("INFO ")).map(|(_, text)| text).collect();
    // a line about a neighbour that was found may still have been on its way
    let new: Vec<_> = new.into_iter().filter(|line| !line.starts_with("0 changes, 1 map write, ")).collect();
    assert_eq!(new[..2], ["- filter port-53", "+ filter port-54"], "{output:?}");
    assert_eq!(daemon.notifications().iter().filter(|line| *line == "RELOADING=1").count(), 1);
    Ok(())
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why_once() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    // lines 13 and 17 are wrong, the ports in line 12 are not
    let wrong = config(&[54]) + "destination = [\"10.0.0.0/33\"]\n\n[[filter]]\nname = \"x\"\nto = [\"idz\"]\n";
    let line = |text: &str| wrong.lines().position(|line| line.contains(text)).map_or(0, |index| index + 1);
    let (network, endpoint) = (line("/33"), line("idz"));
    daemon.write_config(&wrong)?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.reload_done(deadline())?;
    let output = daemon.output();
    for (code, place) in [("bad-prefix", format!("{network}:16")), ("unknown-endpoint", format!("{endpoint}:7"))] {
        let at = output.iter().position(|line| line.starts_with(&format!("error[{code}]: ")));
        let next = at.and_then(|at| output.get(at + 1)).with_context(|| format!("no {code}: {output:#?}"))?;
        let place = format!("--> {}:{place}", daemon.config_path().display());
        assert!(next.trim() == place, "{next} instead of {place}");
    }
    site.expect(53, 1)?;
    site.expect(54, 0)?;

    // other files in the directory are no reason to say it again; SIGHUP is
    let complaints = |daemon: &Daemon| daemon.output().iter().filter(|line| line.contains(KEPT)).count();
    fs::write(daemon.config_path().with_file_name("passwd"), "")?;
    let soon = Instant::now() + Duration::from_millis(500);
    assert!(daemon.wait_line(|line| line.contains(KEPT), soon).is_err(), "{:?}", daemon.output());
    daemon.signal(Signal::SIGHUP)?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    assert_eq!(complaints(&daemon), 2);

    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(|line| line.contains("INFO 2 changes, "), deadline())?;
    site.expect(53, 0)?;
    site.expect(54, 1)?;
    // what was live before is right again after a mistake
    daemon.write_config("oops")?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(|line| line.contains("INFO 0 changes, 0 map writes, "), deadline())?;
    site.expect(54, 1)
}

#[test]
fn a_file_that_vanishes_changes_nothing() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    fs::remove_file(daemon.config_path())?;
    daemon.wait_line(|line| line.contains("ERROR cannot read ") && line.contains("No such file"), deadline())?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    daemon.reload_done(deadline())?;
    site.expect(53, 1)?;
    daemon.write_config(&config(&[54]))?;
    daemon.wait_line(|line| line.contains("INFO 2 changes, "), deadline())?;
    site.expect(53, 0)?;
    site.expect(54, 1)
}

#[test]
fn a_symbolic_link_is_followed() -> Result<()> {
    let mut site = Site::new()?;
    let places = [TempDir::new()?, TempDir::new()?];
    let [first, second] = places.each_ref().map(|place| place.path().join("real.toml"));
    let link = Launch { config: Some(places[0].path().join("mirror.toml")), ..Launch::default() };
    let daemon = site.launch(&[53], link)?;
    let taken = |site: &mut Site, port: u16| -> Result<()> {
        daemon.wait_line(|line| line.ends_with(&format!("INFO + filter port-{port}")), deadline())?;
        daemon.wait_line(|line| line.contains(" map write"), deadline())?;
        site.expect(port, 1)
    };
    // the file becomes a link into another directory
    fs::write(&second, config(&[54]))?;
    let swap = |target: &Path| -> Result<()> {
        let beside = places[0].path().join(".link");
        symlink(target, &beside)?;
        Ok(fs::rename(&beside, daemon.config_path())?)
    };
    swap(&second)?;
    taken(&mut site, 54)?;
    // the target is written and replaced
    fs::write(&second, config(&[55]))?;
    taken(&mut site, 55)?;
    fs::write(second.with_extension("new"), config(&[56]))?;
    fs::rename(second.with_extension("new"), &second)?;
    taken(&mut site, 56)?;
    // the link is swapped
    fs::write(&first, config(&[57]))?;
    swap(&first)?;
    taken(&mut site, 57)?;
    fs::write(&first, config(&[58]))?;
    taken(&mut site, 58)
}

#[test]
fn a_directory_that_is_replaced_is_followed() -> Result<()> {
    let mut site = Site::new()?;
    let place = TempDir::new()?;
    let directory = |name: &str, port: u16| -> Result<PathBuf> {
        let path = place.path().join(name);
        fs::create_dir(&path)?;
        fs::write(path.join("mirror.toml"), config(&[port]))?;
        Ok(path)
    };
    let live = directory("live", 0)?;
    let launch = Launch { config: Some(live.join("mirror.toml")), ..Launch::default() };
    let daemon = site.launch(&[53], launch)?;
    let taken = |site: &mut Site, port: u16| -> Result<()> {
        daemon.wait_line(|line| line.ends_with(&format!("INFO + filter port-{port}")), deadline())?;
        daemon.wait_line(|line| line.contains(" map write"), deadline())?;
        site.expect(port, 1)
    };
    // moved away, and another one of the same name in its place
    let new = directory("new", 54)?;
    fs::rename(&live, place.path().join("old"))?;
    fs::rename(&new, &live)?;
    taken(&mut site, 54)?;
    // and the new one is watched
    daemon.write_config(&config(&[55]))?;
    taken(&mut site, 55)?;
    // deleted: what is live stays
    fs::remove_dir_all(&live)?;
    daemon.wait_line(|line| line.contains(KEPT), deadline())?;
    site.expect(55, 1)?;
    directory("live", 56)?;
    // the slow timer would see it too
    daemon.signal(Signal::SIGHUP)?;
    taken(&mut site, 56)?;
    daemon.write_config(&config(&[57]))?;
    taken(&mut site, 57)?;
    ensure!(daemon.pid().is_some(), "it ended");
    Ok(())
}
