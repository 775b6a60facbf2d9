//! `top`: rates, live.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use traffic_mirror::status::{self, Names, Style};

use super::has_color;
use super::reading::{exit_code, not_running, with_rates};

/// To the upper left corner, and what is below is cleared after the picture (ECMA-48 CUP, EL, ED).
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Show only the interfaces, filters and endpoints of these names; a glob pattern matches
    /// several [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<Names>,
    /// Print one screen and exit
    #[arg(long)]
    once: bool,
}

pub(crate) fn top(shown: &Shown, pin_path: &Path) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let (is_live, color) = (out.is_terminal() && !shown.once, has_color(&out));
    let (mut last, mut is_first) = (None, true);
    loop {
        let Some(mut status) = with_rates(pin_path, &mut last)? else {
            return not_running(pin_path);
        };
        // later the last object of a name may go, and come again
        if let Some(unknown) = status.lacks(&shown.names).filter(|_| is_first) {
            bail!(unknown);
        }
        is_first = false;
        status.choose(&shown.names);
        let (rows, columns) = is_live.then(size).flatten().unzip();
        let style = Style {
            rows,
            columns,
            color,
        };
        let picture = status::frame(&status, style);
        if !is_live {
            super::print(&picture);
            return Ok(exit_code(&status));
        }
        let picture = format!("{HOME}{}{CLEAR_BELOW}", picture.replace('\n', CLEAR_LINE));
        if out
            .write_all(picture.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            // the terminal has gone
            return Ok(exit_code(&status));
        }
    }
}

/// Lines of the terminal, less the one that the cursor is in, and characters of a line.
fn size() -> Option<(usize, usize)> {
    // SAFETY: the kernel writes the structure, for which any bytes are valid.
    let (done, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (
            libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size),
            size,
        )
    };
    let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
    // a serial console does not know its size
    (done == 0 && rows > 1 && columns > 0).then(|| (rows - 1, columns))
}
