//! `top`: rates, live.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use traffic_mirror::kernel::Generation;
use traffic_mirror::status::{self, Names, Style, names_frame, server_names};

use super::has_color;
use super::reading::{INTERVAL, exit_code, not_running, with_rates};

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
    /// Show the names of servers that clients ask for, where filters give server_name; NAME chooses
    /// among them
    #[arg(long = "names")]
    server_names: bool,
    /// Print one screen and exit
    #[arg(long)]
    once: bool,
}

pub(crate) fn top(shown: &Shown, pin_path: &Path) -> anyhow::Result<ExitCode> {
    let screen = Screen::of(shown);
    if shown.server_names {
        return names(shown, pin_path, screen);
    }
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
        if screen.show(&status::frame(&status, screen.style())) == Next::End {
            return Ok(exit_code(&status));
        }
    }
}

/// The names of servers in place of the objects.
fn names(shown: &Shown, pin_path: &Path, screen: Screen) -> anyhow::Result<ExitCode> {
    let mut last = None;
    loop {
        let Some(names) = server_names(pin_path)? else {
            if Generation::list(pin_path)?.is_empty() {
                return not_running(pin_path);
            }
            bail!("no filter gives server_name, so nobody looks for names");
        };
        let now = Instant::now();
        if let Some((before, then)) = last.replace((names.clone(), now)) {
            let rated = status::rated(names, &before, now.duration_since(then), &shown.names);
            if screen.show(&names_frame(&rated, screen.style())) == Next::End {
                return Ok(ExitCode::SUCCESS);
            }
        }
        thread::sleep(INTERVAL);
    }
}

/// Where pictures go.
#[derive(Clone, Copy)]
struct Screen {
    is_live: bool,
    color: bool,
}

#[derive(PartialEq, Eq)]
enum Next {
    Picture,
    End,
}

impl Screen {
    fn of(shown: &Shown) -> Self {
        let out = std::io::stdout();
        Self {
            is_live: out.is_terminal() && !shown.once,
            color: has_color(&out),
        }
    }

    fn style(self) -> Style {
        let (rows, columns) = self.is_live.then(size).flatten().unzip();
        Style {
            rows,
            columns,
            color: self.color,
        }
    }

    fn show(self, picture: &str) -> Next {
        if !self.is_live {
            super::print(picture);
            return Next::End;
        }
        let picture = format!("{HOME}{}{CLEAR_BELOW}", picture.replace('\n', CLEAR_LINE));
        let mut out = std::io::stdout();
        let shown = out.write_all(picture.as_bytes()).and_then(|()| out.flush());
        // else the terminal has gone
        if shown.is_ok() {
            Next::Picture
        } else {
            Next::End
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
