//! `wait`: until the file is the live one.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use traffic_mirror::desired::Desired;
use traffic_mirror::kernel::{Kernel, Observer, hash, record};
use traffic_mirror::printable::printable;
use traffic_mirror::source::FileWatch;
use traffic_mirror::source::{Unfit, ignore_writers, read_complete};
use traffic_mirror::status::{self, Daemon, Life};
use traffic_mirror::triggers::{Trigger, queue};

use super::plan::Seen;
use super::{File, load};
use crate::FAILURE;

/// The kernel has no event for stores into maps, so the maps are read at this interval; the file is
/// watched.
const INTERVAL: Duration = Duration::from_millis(50);
/// A status takes longer to read, and an endpoint longer to become reachable.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
/// A daemon that is being started, or started again, is waited for that long.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Until {
    /// Give up after this time [default: wait forever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Wait until the status is ok, too: nothing is degraded, and each endpoint is ready
    #[arg(long)]
    healthy: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "write a number of seconds such as 30 or 0.5".to_owned())
}

pub(crate) fn wait(until: &Until, path: &Path, pin_path: &Path) -> anyhow::Result<ExitCode> {
    let deadline = until.timeout.map(|timeout| Instant::now() + timeout);
    let (sender, triggers) = queue();
    let mut watch = FileWatch::new(path, sender, Trigger::File);
    let mut observer = Observer::open(pin_path)?;
    // a user who may not read the pin path would take that for a missing daemon
    Kernel::is_live(pin_path)?;
    ignore_writers()?;
    let mut file: Option<(File, Desired)> = None;
    let (mut seen, mut is_read, mut taker) = (None, false, Taker::default());
    let mut is_live = false;
    loop {
        if !is_read || watch.is_blind() || triggers.take_all() {
            // what cannot be watched is read each time
            let _ = watch.rearm();
            let content = read_complete(path, &watch);
            is_read = matches!(content, Some(Ok(_)));
            if let Some(Err(untrusted @ Unfit::Untrusted(_))) = content {
                eprintln!("{untrusted}");
                return Ok(FAILURE.into());
            }
            // one that is missing or being written may be there soon
            if let Some(Ok(bytes)) = content {
                let read = File {
                    name: path.display().to_string(),
                    bytes,
                };
                if file.as_ref().is_none_or(|(there, _)| *there != read) {
                    let Some(desired) = load(&read) else {
                        return Ok(FAILURE.into());
                    };
                    (file, seen) = (Some((read, desired)), None);
                }
            }
        }
        let mut ills = Vec::new();
        if let Some((read, desired)) = file.as_ref().filter(|_| is_read) {
            if desired.has_dns_names() {
                // addresses change at any time, and the daemon keeps some that no file has any more
                let live = record(pin_path).and_then(|record| record.live);
                is_live = live == Some(hash(&read.bytes));
            } else {
                let look = Seen::look(&mut observer, desired)?;
                if seen.as_ref() != Some(&look) {
                    is_live = look.preview(desired)?.is_empty();
                    seen = Some(look);
                }
            }
            let mut idle = None;
            if is_live && until.healthy {
                match status::read(pin_path)? {
                    Some(status) => (ills, idle) = (status.reasons, status.idle),
                    None => ills = vec!["nothing is mirrored".to_owned()],
                }
            }
            if is_live && ills.is_empty() {
                if let Some(why) = idle {
                    eprintln!("{} is live, and mirrors nothing: {why}", name(path));
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
        let bytes = file
            .as_ref()
            .filter(|_| is_read)
            .map(|(file, _)| &*file.bytes);
        let interval = if ills.is_empty() {
            INTERVAL
        } else {
            HEALTH_INTERVAL
        };
        let left = deadline.map_or(interval, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if let Some(why) = taker.refuses(pin_path, bytes) {
            let goal = if ills.is_empty() { "live" } else { "healthy" };
            eprintln!("{} will not become {goal}: {why}", name(path));
            return Ok(FAILURE.into());
        }
        if left.is_zero() {
            eprintln!("{} {}", name(path), missing(&ills));
            return Ok(FAILURE.into());
        }
        std::thread::sleep(interval.min(left));
    }
}

/// The path for a terminal.
fn name(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

/// What is missing after the timeout.
fn missing(ills: &[String]) -> String {
    if ills.is_empty() {
        "is not live yet; `traffic-mirror plan` shows what is missing".to_owned()
    } else {
        format!("is live, but the status is degraded: {}", ills.join("; "))
    }
}

/// The daemon that is to load the file.
#[derive(Debug, Default)]
struct Taker {
    /// Since when no daemon has been running.
    missing: Option<Instant>,
}

impl Taker {
    /// Why no daemon will load the file, if that is so.
    fn refuses(&mut self, pin_path: &Path, file: Option<&[u8]>) -> Option<String> {
        let record = record(pin_path);
        let daemon = Daemon::look(pin_path, record.as_ref());
        if daemon.state == Life::NotRunning {
            let since = *self.missing.get_or_insert_with(Instant::now);
            return (since.elapsed() >= GRACE).then(|| {
                "the daemon is not running; start it: systemctl start traffic-mirror".to_owned()
            });
        }
        self.missing = None;
        if let Some(reason) = daemon.reason() {
            return Some(format!(
                "{}; restart it: systemctl restart traffic-mirror",
                reason.text
            ));
        }
        let rejected = record
            .and_then(|record| record.rejection)
            .and_then(|rejection| rejection.hash);
        let is_it = file.is_some_and(|file| rejected == Some(hash(file)));
        is_it.then(|| "the daemon rejected it; the log has the reason".to_owned())
    }
}
