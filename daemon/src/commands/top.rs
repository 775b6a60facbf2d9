//! `top`: rates, live.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use traffic_mirror::status::{self, Status, Style};

use super::has_color;
use super::reading::{exit_code, not_running, with_rates};

/// To the upper left corner, and what is below is cleared after the picture (ECMA-48 CUP, EL, ED).
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

pub(crate) fn top(pin_path: &Path, once: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let (is_live, color) = (out.is_terminal() && !once, has_color(&out));
    let mut last: Option<(Status, Instant)> = None;
    loop {
        let Some(status) = with_rates(pin_path, &mut last)? else {
            return not_running(pin_path);
        };
        let rows = is_live.then(rows).flatten();
        let picture = status::frame(&status, Style { rows, color });
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

/// Lines of the terminal, less the one that the cursor is in.
fn rows() -> Option<usize> {
    // SAFETY: the kernel writes the structure, for which any bytes are valid.
    let (done, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (
            libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size),
            size,
        )
    };
    (done == 0 && size.ws_row > 1).then(|| usize::from(size.ws_row) - 1)
}
