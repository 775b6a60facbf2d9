//! `status`: what is mirrored, from the kernel.

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::status;

use super::reading::{exit_code, not_running, with_rates};
use super::{print, print_json};

pub(crate) fn status(pin_path: &Path, rates: bool, json: bool) -> anyhow::Result<ExitCode> {
    let status = if rates {
        with_rates(pin_path, &mut None)?
    } else {
        status::read(pin_path)?
    };
    let Some(status) = status else {
        return not_running(pin_path);
    };
    if json {
        print_json(&status)?;
    } else {
        print(&status.to_string());
    }
    Ok(exit_code(&status))
}
