//! A daemon that dies after any write of a reload, and the next one.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror::kernel::Step;
use traffic_mirror_tests::lab::netns::command_in;
use traffic_mirror_tests::lab::{TempDir, deadline, kernel, patience, process};

use traffic_mirror_tests::lab::daemon::{Daemon, Launch};

use crate::site::{SITE, Site, config, filter, status_of};

/// What a flood sends is mirrored by all of them. The rest comes, goes and changes in every table.
fn files() -> [String; 4] {
    let flooded = config(&[4000, 4001]);
    [
        format!("{flooded}{}{}", filter("a", 53), filter("b", 54)),
        format!(
            "{flooded}\n[endpoint.log]\naddress = \"192.0.2.10\"\nport = 6081\n\
             [[filter]]\nname = \"nets\"\nsource = [\"10.7.0.0/16\", \"10.7.9.0/24\", \"2001:db8::/32\", \"10.0.0.9\"]\n\
             destination = [\"10.9.0.0/17\", \"2001:db8:9::/48\"]\nto = [\"log\"]\n\
             [[filter]]\nname = \"both\"\nprotocol = [\"tcp\", \"sctp\"]\nsource_port = [\"1000-2000\"]\n\
             destination_port = [443, \"1500-3000\"]\nbidirectional = true\nto = [\"ids\", \"log\"]\n"
        ),
        // the flood by other filters, and none of the first
        format!(
            "{SITE}[[filter]]\nname = \"by-address\"\nprotocol = [\"udp\"]\nsource = [\"10.0.0.0/24\"]\n\
             destination = [\"10.0.0.0/24\"]\nto = [\"ids\"]\n\
             [[filter]]\nname = \"not\"\naction = \"exclude\"\nsource = [\"10.7.9.0/25\"]\n\
             [[filter]]\nname = \"off\"\nenabled = false\nprotocol = [47]\nto = [\"ids\"]\n"
        ),
        format!(
            "{flooded}{}{}{}",
            filter("b", 55),
            filter("c", 53),
            filter("d", 56).replace("udp", "tcp")
        ),
    ]
}

/// The stand-in for a daemon that dies, in the namespace and on the pins of a real one.
pub(crate) struct Crash {
    netns: OwnedFd,
    pin_path: PathBuf,
    files: Vec<PathBuf>,
    _directory: TempDir,
}

impl Crash {
    /// In the place of a daemon that has been killed.
    fn of(site: &Site, files: Vec<String>) -> Result<(Daemon, Self)> {
        Self::by(site, files, Launch::default())
    }

    /// The same, started in a certain way.
    pub(crate) fn by(site: &Site, files: Vec<String>, launch: Launch) -> Result<(Daemon, Self)> {
        let mut daemon = site.launch(&[4000, 4001], launch)?;
        let directory = TempDir::new()?;
        let name = |number| directory.path().join(format!("{number}.toml"));
        let paths: Vec<PathBuf> = (0..files.len()).map(name).collect();
        for (path, text) in paths.iter().zip(files) {
            std::fs::write(path, text)?;
        }
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        daemon.changed_by_others();
        let netns = site.edge.as_fd().try_clone_to_owned()?;
        let crash = Self {
            netns,
            pin_path: daemon.pin_path().to_owned(),
            files: paths,
            _directory: directory,
        };
        Ok((daemon, crash))
    }

    fn run(&self, what: &str, file: usize, rest: &[&OsStr]) -> Result<Output> {
        let mut command = command_in(&self.netns, env!("CARGO_BIN_EXE_crash"))?;
        command
            .arg(what)
            .arg(&self.pin_path)
            .arg(&self.files[file])
            .args(rest);
        process::output(
            &mut command,
            Instant::now() + Duration::from_secs(20) * patience(),
        )
    }

    /// Takes a file and dies before the step of that number; whether there was one.
    pub(crate) fn die(&self, file: usize, steps: u32) -> Result<bool> {
        Self::has_died(&self.run("die", file, &[steps.to_string().as_ref()])?)
    }

    /// Does what [`Self::take`] does, then takes the next file and dies before the step of that
    /// number; whether there was one.
    fn take_and_die(&self, file: usize, next: usize, steps: u32) -> Result<bool> {
        Self::has_died(&self.run(
            "next",
            file,
            &[self.files[next].as_ref(), steps.to_string().as_ref()],
        )?)
    }

    fn has_died(output: &Output) -> Result<bool> {
        let code = process::code(output.status);
        ensure!(
            [0, 128 + Signal::SIGABRT as i32].contains(&code),
            "{output:?}"
        );
        Ok(code != 0)
    }

    /// Takes a file and then another, with a step that fails; whether there was such a step.
    fn fail(&self, file: usize, next: usize, step: Step, number: u32) -> Result<bool> {
        let (word, count) = (format!("{step:?}"), number.to_string());
        let output = self.run(
            "fail",
            file,
            &[self.files[next].as_ref(), word.as_ref(), count.as_ref()],
        )?;
        let code = process::code(output.status);
        ensure!(
            [0, 3].contains(&code),
            "{step:?} {number} of {file} -> {next}: {output:?}"
        );
        Ok(code == 0)
    }

    /// Takes a file, and finds the tables as they would be if they had never held anything else.
    fn take(&self, file: usize) -> Result<()> {
        let output = self.run("verify", file, &[])?;
        ensure!(process::code(output.status) == 0, "{output:?}");
        Ok(())
    }
}

#[test]
fn a_daemon_may_die_after_any_write() -> Result<()> {
    die_between([[0, 1], [0, 2], [0, 3]])
}

/// The same, apart so that both run at once.
#[test]
fn a_daemon_may_die_after_any_write_of_other_files() -> Result<()> {
    die_between([[1, 2], [1, 3], [2, 3]])
}

/// From each file of a pair to the other.
fn die_between(pairs: [[usize; 2]; 3]) -> Result<()> {
    /// Each pair of files dies after every third write, and its neighbours after others.
    const STRIDE: u32 = 3;
    const DEATHS_IN_A_ROW: u32 = 100;
    let mut site = Site::new()?;
    let (daemon, crash) = Crash::of(&site, files().to_vec())?;

    let (mut deaths, mut packets, mut longest) = (0, 0, 0);
    for ([a, b], first) in pairs.into_iter().zip(1..=STRIDE) {
        let (mut writes, mut more) = (first, true);
        while more {
            let begin = deaths;
            let flooded = site.trickle(|| {
                while more && deaths < begin + DEATHS_IN_A_ROW {
                    // from each to the other, dead on the way, and on from there
                    more = false;
                    for (file, other) in [(b, a), (a, b)] {
                        // the first to go on from what the one before has left
                        if crash.take_and_die(other, file, writes)? {
                            deaths += 1;
                            more = true;
                            // the next one dies, too, or wants something else
                            if (writes / STRIDE).is_multiple_of(3) {
                                deaths += u32::from(crash.die(file, 1 + writes / 2)?);
                            } else if (writes / STRIDE).is_multiple_of(7) {
                                deaths += u32::from(crash.die(other, writes)?);
                            }
                        }
                    }
                    longest = writes.max(longest);
                    writes += STRIDE;
                }
                crash.take(a)
            });
            packets += flooded
                .with_context(|| format!("{a} {b} {writes} {:?}", status_of(&daemon)))?
                .sent;
        }
    }
    println!(
        "{deaths} deaths, after 1 to {longest} writes; {packets} packets meanwhile, each copied once"
    );
    Ok(())
}

/// Between the look for what has been detached and the end of a reload.
#[test]
fn what_is_detached_during_a_reload_is_told() -> Result<()> {
    if kernel()? < (6, 6) {
        // the filters of clsact have no pins that hold them
        return Ok(());
    }
    let site = Site::new()?;
    let (_daemon, crash) = Crash::of(&site, files().to_vec())?;
    for role in ["encap", "mirror", "icmp_errors"] {
        let output = crash.run("strip", 0, &[crash.files[1].as_ref(), role.as_ref()])?;
        ensure!(output.status.success(), "{role}: {output:?}");
    }
    Ok(())
}

#[test]
fn what_fails_on_the_way_is_undone() -> Result<()> {
    /// More than the maps have room for.
    const MANY: u16 = 300;
    let mut site = Site::new()?;
    let [one, other, ..] = [0, 2].map(|number| files()[number].clone());
    let many = (0..MANY)
        .map(|n| filter(&format!("filler-{n}"), 20_000 + n))
        .collect::<String>();
    let (daemon, crash) = Crash::of(&site, vec![one.clone(), other, one + &many])?;
    let mut failures = Vec::new();
    for next in [1, 2] {
        for step in Step::ALL {
            let mut number = 0;
            if next == 1 {
                let mut all = || {
                    while crash.fail(0, next, step, number + 1)? {
                        number += 1;
                    }
                    Ok(())
                };
                site.trickle(&mut all)?;
            } else {
                let detach = || process::succeed(&mut daemon.command("detach")?, deadline());
                // else maps with room for many would be there already
                detach()?;
                while crash.fail(0, next, step, number + 1)? {
                    number += 1;
                    site.expect(4000, 1)?;
                    detach()?;
                }
            }
            failures.push((next, step, number));
        }
    }
    println!("failures: {failures:?}");
    for step in Step::ALL {
        assert!(
            failures
                .iter()
                .any(|(_, failed, number)| *failed == step && *number > 0),
            "{step:?}: {failures:?}"
        );
    }
    Ok(())
}
