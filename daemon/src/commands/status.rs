//! `status`: what is mirrored, from the kernel.

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::status;

use super::{print, print_json};
use crate::{FAILURE, NOT_RUNNING};

pub(crate) fn status(pin_path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(status) = status::read(pin_path)? else {
        eprintln!("nothing is mirrored below {}", pin_path.display());
        return Ok(NOT_RUNNING.into());
    };
    if json {
        print_json(&status)?;
    } else {
        print(&status.to_string());
    }
    Ok(if status.degraded { FAILURE.into() } else { ExitCode::SUCCESS })
}
