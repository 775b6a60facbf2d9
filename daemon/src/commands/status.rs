//! `status`: what is mirrored, from the kernel.

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::status::{self, Status};

use super::top::with_rates;
use super::{print, print_json};
use crate::{FAILURE, NOT_RUNNING};

pub(crate) fn status(pin_path: &Path, rates: bool, json: bool) -> anyhow::Result<ExitCode> {
    let status = if rates { with_rates(pin_path, &mut None)? } else { status::read(pin_path)? };
    let Some(status) = status else { return Ok(not_running(pin_path)) };
    if json {
        print_json(&status)?;
    } else {
        print(&status.to_string());
    }
    Ok(exit_code(&status))
}

pub(super) fn exit_code(status: &Status) -> ExitCode {
    if status.degraded { FAILURE.into() } else { ExitCode::SUCCESS }
}

/// Says that nothing is there to be looked at.
pub(super) fn not_running(pin_path: &Path) -> ExitCode {
    eprintln!("nothing is mirrored below {}", pin_path.display());
    NOT_RUNNING.into()
}
