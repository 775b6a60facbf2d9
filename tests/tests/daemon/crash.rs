//! A daemon that dies after any write of a reload, and the next one.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror_tests::lab::netns::command_in;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

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
        format!("{flooded}{}{}{}", filter("b", 55), filter("c", 53), filter("d", 56).replace("udp", "tcp")),
    ]
}

/// The stand-in for a daemon that dies, in the namespace and on the pins of a real one.
struct Crash {
    netns: OwnedFd,
    pin_path: PathBuf,
    files: Vec<PathBuf>,
}

impl Crash {
    fn run(&self, file: usize, writes: &str) -> Result<Output> {
        let mut command = command_in(&self.netns, env!("CARGO_BIN_EXE_crash"))?;
        command.arg(&self.pin_path).arg(&self.files[file]).arg(writes);
        process::output(&mut command, Instant::now() + Duration::from_secs(20))
    }

    /// Takes a file and dies after so many writes; whether there were that many.
    fn die(&self, file: usize, writes: u32) -> Result<bool> {
        let output = self.run(file, &writes.to_string())?;
        let code = process::code(output.status);
        ensure!([0, 128 + Signal::SIGABRT as i32].contains(&code), "{output:?}");
        Ok(code != 0)
    }

    /// Takes a file, and finds the tables as they would be if they had never held anything else.
    fn take(&self, file: usize) -> Result<()> {
        let output = self.run(file, "verify")?;
        ensure!(process::code(output.status) == 0, "{output:?}");
        Ok(())
    }
}

#[test]
fn a_daemon_may_die_after_any_write() -> Result<()> {
    const LEAST_DEATHS: u32 = 1000;
    const DEATHS_IN_A_ROW: u32 = 100;
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[4000, 4001])?;
    let directory = TempDir::new()?;
    let paths: Vec<PathBuf> = (0..4).map(|number| directory.path().join(format!("{number}.toml"))).collect();
    for (path, text) in paths.iter().zip(files()) {
        std::fs::write(path, text)?;
    }
    let netns = site.edge.as_fd().try_clone_to_owned()?;
    let crash = Crash { netns, pin_path: daemon.pin_path().to_owned(), files: paths };
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;

    let (mut deaths, mut packets, mut longest) = (0, 0, 0);
    let mut pairs = (0..4).flat_map(|a| (0..4).map(move |b| [a, b])).filter(|[a, b]| a < b).cycle();
    while deaths < LEAST_DEATHS {
        let [a, b] = pairs.next().context("pairs go round")?;
        let (mut writes, mut more) = (1, true);
        while more {
            let begin = deaths;
            let flooded = site.trickle(|| {
                crash.take(a)?;
                while more && deaths < begin + DEATHS_IN_A_ROW {
                    // from each to the other, dead on the way, and on from there
                    more = false;
                    for (file, other) in [(b, a), (a, b)] {
                        if crash.die(file, writes)? {
                            deaths += 1;
                            more = true;
                            // the next one dies, too, or wants something else
                            if writes % 3 == 0 {
                                deaths += u32::from(crash.die(file, 1 + writes / 2)?);
                            } else if writes % 7 == 0 {
                                deaths += u32::from(crash.die(other, writes)?);
                            }
                        }
                        crash.take(file)?;
                    }
                    longest = writes.max(longest);
                    writes += 1;
                }
                Ok(())
            });
            packets += flooded.with_context(|| format!("{a} {b} {writes} {:?}", status_of(&daemon)))?.sent;
        }
    }
    println!("{deaths} deaths, after 1 to {longest} writes; {packets} packets meanwhile, each copied once");
    Ok(())
}
