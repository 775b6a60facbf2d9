//! The status of what is mirrored, as `status` and `top` read it.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::kernel::{KernelError, strays};
use traffic_mirror::status::{self, Daemon, State, Status};

use crate::{FAILURE, NOT_RUNNING};

/// Between the two readings of a rate.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The status an interval after `last`, which it becomes. `None` if nothing is mirrored.
pub(super) fn with_rates(
    pin_path: &Path,
    last: &mut Option<(Status, Instant)>,
) -> Result<Option<Status>, KernelError> {
    let read =
        || Ok::<_, KernelError>(status::read(pin_path)?.map(|status| (status, Instant::now())));
    if last.is_none() {
        *last = read()?;
    }
    let Some((before, then)) = last.take() else {
        return Ok(None);
    };
    thread::sleep(INTERVAL.saturating_sub(then.elapsed()));
    *last = read()?;
    Ok(last
        .as_ref()
        .map(|(status, now)| status.clone().with_rates(&before, now.duration_since(then))))
}

pub(super) fn exit_code(status: &Status) -> ExitCode {
    match status.state {
        State::Ok => ExitCode::SUCCESS,
        State::Degraded | State::Unknown => FAILURE.into(),
        State::Inactive => NOT_RUNNING.into(),
    }
}

/// The status without maps: nothing is mirrored, or programs without a pin prevent an answer.
pub(super) fn without_maps(pin_path: &Path) -> Result<Status, KernelError> {
    let strays = strays(pin_path, &mut Netlink::open()?)?;
    let daemon = Daemon::look(pin_path, None);
    if strays.is_empty() {
        let why = format!(
            "nothing is mirrored: no maps are pinned below {}",
            pin_path.display()
        );
        return Ok(Status::without_maps(State::Inactive, daemon, vec![why]));
    }
    let reasons = strays.iter().map(ToString::to_string).collect();
    Ok(Status::without_maps(State::Degraded, daemon, reasons))
}

/// Reports that nothing is mirrored, or which programs without a pin prevent an answer.
pub(super) fn not_running(pin_path: &Path) -> anyhow::Result<ExitCode> {
    let status = without_maps(pin_path)?;
    status
        .reasons
        .iter()
        .for_each(|reason| eprintln!("{reason}"));
    Ok(exit_code(&status))
}
