//! The file: each way of saving it, what is wrong with it, what happens to it and on the way to it.

mod editors;
mod latency;
mod mounted;
mod place;
mod rest;
mod trust;
mod ways;
mod writers;
mod wrong;

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::cpu::Stopwatch;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch, is_of_network};
use traffic_mirror_tests::lab::{TempDir, deadline, pause};

use crate::site::{Site, config};

/// From the end of a save to live, on a machine that has nothing else to do.
const LIVE_WITHIN: Duration = Duration::from_millis(500);
/// Filters that are in each file, so that it takes several writes.
const OTHERS: std::ops::Range<u16> = 20_000..21_000;

/// What to save: the file has a filter for a UDP port, and has to have one for the next in its
/// place.
struct Save {
    file: PathBuf,
    /// A file with what is to become of it.
    new: PathBuf,
    /// The port that is live.
    port: u16,
}

impl Save {
    fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.new)?)
    }
}

/// A daemon whose file is saved again and again.
struct Desk {
    site: Site,
    daemon: Daemon,
    directory: TempDir,
    port: u16,
    /// How many lines of output were checked.
    read: usize,
}

impl Desk {
    fn new() -> Result<Self> {
        Self::launch(Launch::default())
    }

    fn launch(launch: Launch) -> Result<Self> {
        const FIRST: u16 = 1000;
        let site = Site::new()?;
        let daemon = site.launch(&ports(FIRST), launch)?;
        // the log comes by another way than the notification that it is ready
        daemon.wait_line(|line| line.contains("INFO loaded the file: "), deadline())?;
        let read = daemon.output().len();
        Ok(Self {
            site,
            daemon,
            directory: TempDir::new()?,
            port: FIRST,
            read,
        })
    }

    /// A file for that port. Each of its parts that ends before a filter is right, too.
    fn text(port: u16) -> String {
        config(&ports(port))
    }

    /// What to save next.
    fn next(&self) -> Result<Save> {
        let new = self.directory.path().join("new.toml");
        fs::write(&new, Self::text(self.port + 1))?;
        Ok(Save {
            file: self.daemon.config_path(),
            new,
            port: self.port,
        })
    }

    /// Saves: what was saved is live in time, for packets, too, and nothing else was between.
    fn save(&mut self, way: &str, save: impl FnOnce(&Save) -> Result<()>) -> Result<()> {
        save(&self.next()?).with_context(|| way.to_owned())?;
        self.saved(self.stopwatch(), way)
    }

    fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(self.daemon.pid().expect("the daemon runs"))
    }

    /// The same, for what has been saved just then.
    fn saved(&mut self, then: Stopwatch, way: &str) -> Result<()> {
        let live = self
            .daemon
            .reload_done(deadline())
            .with_context(|| way.to_owned())?;
        let took = then.until(live);
        println!("{way}: {took:?}");
        ensure!(took <= LIVE_WITHIN, "{way}: live after {took:?}");
        let lived = self
            .lived_until(self.port + 1)
            .with_context(|| way.to_owned())?;
        ensure!(
            lived == [self.port + 1],
            "{way}: {lived:?} were live, and not only {}",
            self.port + 1
        );
        self.site
            .expect(self.port, 0)
            .with_context(|| way.to_owned())?;
        self.port += 1;
        self.site
            .expect(self.port, 1)
            .with_context(|| way.to_owned())
    }

    /// What has been live since the last look, up to that port: whole files, or it is an error.
    fn lived_until(&mut self, last: u16) -> Result<Vec<u16>> {
        let deadline = deadline();
        let (mut lived, mut port) = (Vec::new(), self.port);
        loop {
            // the log comes by another way than notifications
            let output = self.daemon.output();
            let texts = output[self.read..].iter().filter(|line| said_of_file(line));
            let texts: Vec<_> = texts
                .map(|line| line.split_once("INFO ").map_or(&**line, |(_, text)| text))
                .collect();
            ensure!(
                Instant::now() < deadline,
                "{} was not live: {texts:?}",
                last
            );
            let (reloads, rest) = texts.as_chunks::<3>();
            if rest.is_empty()
                && !reloads.is_empty()
                && texts[texts.len() - 2].ends_with(&format!("-{last}"))
            {
                for reload in reloads {
                    let next = reload[1]
                        .strip_prefix("+ filter port-")
                        .and_then(|port| port.parse().ok());
                    let next = next.with_context(|| format!("{reload:?}"))?;
                    let whole = reload[0] == format!("- filter port-{port}")
                        && reload[2].starts_with("loaded the file: 2 changes, ");
                    ensure!(whole, "{reload:?}");
                    lived.push(next);
                    port = next;
                }
                self.read = output.len();
                return Ok(lived);
            }
            pause();
        }
    }

    /// A while in which nothing becomes live and nothing is complained about.
    fn nothing(&self, time: Duration) -> Result<()> {
        let ended = self.daemon.wait_line(|_| false, Instant::now() + time);
        ensure!(
            ended.is_err_and(|error| error.to_string().contains("in time")),
            "the daemon ended"
        );
        let output = self.daemon.output();
        let said: Vec<_> = output[self.read..]
            .iter()
            .filter(|line| said_of_file(line))
            .collect();
        ensure!(said.is_empty(), "{said:?}");
        Ok(())
    }

    /// Nothing came after what was checked.
    fn end(self) -> Result<()> {
        self.nothing(LIVE_WITHIN)
    }
}

fn ports(first: u16) -> Vec<u16> {
    std::iter::once(first).chain(OTHERS).collect()
}

/// Whether a line of output is about the file: what has changed, what is wrong.
fn said_of_file(line: &str) -> bool {
    !is_of_network(line)
}

fn lines_of(paths: &[&Path]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}
