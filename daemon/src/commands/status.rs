//! `status`: what is mirrored, from the kernel.

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::kernel::strays;
use traffic_mirror::status::{self, Status};

use super::top::with_rates;
use super::{print, print_json};
use crate::{FAILURE, NOT_RUNNING};

pub(crate) fn status(pin_path: &Path, rates: bool, json: bool) -> anyhow::Result<ExitCode> {
    let status = if rates { with_rates(pin_path, &mut None)? } else { status::read(pin_path)? };
    let Some(status) = status else { return not_running(pin_path) };
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

/// Says that nothing is there to be looked at, or that it cannot be looked at.
pub(super) fn not_running(pin_path: &Path) -> anyhow::Result<ExitCode> {
    let strays = strays(pin_path, &mut Netlink::open()?)?;
    if strays.is_empty() {
        eprintln!("nothing is mirrored below {}", pin_path.display());
        return Ok(NOT_RUNNING.into());
    }
    strays.iter().for_each(|stray| eprintln!("{stray}"));
    Ok(FAILURE.into())
}
