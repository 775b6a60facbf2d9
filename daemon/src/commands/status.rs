//! `status`: what is mirrored, from the kernel.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use traffic_mirror::kernel::{KernelError, reason};
use traffic_mirror::status::{self, Daemon, Names, State, Status, View};

use super::dns::of_daemon;
use super::reading::{exit_code, with_rates, without_maps};
use super::{has_color, print, print_json};

#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Show only the interfaces, filters and endpoints of these names; a glob pattern matches
    /// several [default: the most important ones]
    #[arg(value_name = "NAME")]
    names: Vec<Names>,
    /// Print the first line only: state, first reason, daemon, file
    #[arg(long, conflicts_with_all = ["names", "rates", "json"])]
    brief: bool,
    /// Measure packets and bits per second, for one second
    #[arg(long)]
    rates: bool,
    /// Print JSON, whatever the state
    #[arg(long)]
    json: bool,
}

pub(crate) fn status(wanted: &Wanted, pin_path: &Path, names: &Path) -> anyhow::Result<ExitCode> {
    let read = read(pin_path, wanted.rates).inspect_err(|error| {
        if wanted.json {
            let daemon = Daemon::look(pin_path, None);
            let unknown = Status::without_maps(State::Unknown, daemon, vec![reason(error)]);
            // the error is reported anyway
            let _ = print_json(&unknown);
        }
    });
    let mut status = read?;
    if let Some((desired, names)) = of_daemon(pin_path, names, status.lacks_address()) {
        status.add_dns_names(&desired, &names);
    }
    if let Some(unknown) = status.lacks(&wanted.names) {
        bail!(unknown);
    }
    status.choose(&wanted.names);
    let color = has_color(&std::io::stdout());
    if wanted.json {
        print_json(&status)?;
    } else if wanted.brief {
        print(&(status.brief(color) + "\n"));
    } else {
        let is_chosen = !wanted.names.is_empty();
        print(&status.text(View { color, is_chosen }));
    }
    Ok(exit_code(&status))
}

fn read(pin_path: &Path, has_rates: bool) -> Result<Status, KernelError> {
    let status = if has_rates {
        with_rates(pin_path, &mut None)?
    } else {
        status::read(pin_path)?
    };
    status.map_or_else(|| without_maps(pin_path), Ok)
}
