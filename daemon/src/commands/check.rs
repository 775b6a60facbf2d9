//! `check`: is the file right?

use std::path::Path;
use std::process::ExitCode;

use traffic_mirror::status;

use super::{File, load};
use crate::FAILURE;

pub(crate) fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let file = File::read(path)?;
    Ok(match load(&file) {
        Some(desired) => {
            println!("{}: ok, {}", file.name, status::summary(&desired));
            ExitCode::SUCCESS
        }
        None => FAILURE.into(),
    })
}
