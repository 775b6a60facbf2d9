//! `wait`: until the file is the live one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use traffic_mirror::desired::Desired;
use traffic_mirror::kernel::Observer;
use traffic_mirror::source::{ignore_writers, read_complete};
use traffic_mirror::watch::FileWatch;

use super::plan::Seen;
use super::{File, load};
use crate::FAILURE;

/// The kernel tells nobody about stores into maps, so they are read that often; the file is watched.
const INTERVAL: Duration = Duration::from_millis(50);

pub(crate) fn wait(path: &Path, pin_path: &Path, timeout: Option<Duration>) -> anyhow::Result<ExitCode> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let (sender, triggers) = mpsc::channel();
    let mut watch =
        FileWatch::new(path, sender).with_context(|| format!("cannot watch the directory of {}", path.display()))?;
    let mut observer = Observer::open(pin_path)?;
    ignore_writers()?;
    let mut file: Option<(File, Desired)> = None;
    let (mut seen, mut is_read) = (None, false);
    loop {
        if !is_read || triggers.try_iter().count() > 0 {
            watch.rearm()?;
            let content = read_complete(path, &watch);
            is_read = matches!(content, Some(Ok(_)));
            // one that is missing or being written may be there soon
            if let Some(Ok(bytes)) = content {
                let read = File { name: path.display().to_string(), bytes };
                if file.as_ref().is_none_or(|(there, _)| *there != read) {
                    let Some(desired) = load(&read) else { return Ok(FAILURE.into()) };
                    (file, seen) = (Some((read, desired)), None);
                }
            }
        }
        if let Some((_, desired)) = file.as_ref().filter(|_| is_read) {
            let look = Seen::look(&mut observer, desired)?;
            if seen.as_ref() != Some(&look) {
                if look.preview(desired)?.is_empty() {
                    return Ok(ExitCode::SUCCESS);
                }
                seen = Some(look);
            }
        }
        let left = deadline.map_or(INTERVAL, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            eprintln!("{} is not live yet; `traffic-mirror plan` says what is missing", path.display());
            return Ok(FAILURE.into());
        }
        std::thread::sleep(INTERVAL.min(left));
    }
}
