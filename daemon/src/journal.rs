//! Standard error, with priorities if it is the journal's (sd-daemon(3)): `journalctl -p warning`
//! shows what is one.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use nix::sys::stat::fstat;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error is the journal's.
pub fn is_ours() -> bool {
    static IS_OURS: OnceLock<bool> = OnceLock::new();
    *IS_OURS.get_or_init(|| is_journal(io::stderr()))
}

/// Whether a stream is the journal's, by the variable of systemd.exec(5): children that write to
/// another stream inherit the variable, too.
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(stat) = fstat(stream) else {
        return false;
    };
    std::env::var("JOURNAL_STREAM")
        .is_ok_and(|journal| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Writes several lines to standard error, such as diagnostics. A failure to write is ignored.
pub fn say(level: Level, text: &str) {
    let _ = Line(priority(level)).write_all(text.as_bytes());
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl<'w> MakeWriter<'w> for Log {
    type Writer = Line;

    fn make_writer(&'w self) -> Line {
        Line(priority(Level::INFO))
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Line {
        Line(priority(*metadata.level()))
    }
}

/// Writes to standard error, each line behind a priority.
#[derive(Debug)]
pub struct Line(&'static str);

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // in one piece, since others write there, too
        io::stderr().write_all(&prefixed(self.0, text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        _ if !is_ours() => "",
        // of syslog(3)
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

fn prefixed(priority: &str, text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|&byte| byte == b'\n')
        .flat_map(|line| [priority.as_bytes(), line].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_priority() {
        assert_eq!(prefixed("<4>", b"one\n\ntwo\n"), b"<4>one\n<4>\n<4>two\n");
        assert_eq!(prefixed("", b"one\ntwo"), b"one\ntwo");
    }
}
