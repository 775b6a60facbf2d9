//! Lines on standard error, with priorities if it is the journal's (sd-daemon(3)).

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use nix::sys::stat::fstat;

/// How much a line matters, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// The process ends.
    Error,
    /// Addresses are missing, or may be.
    Warning,
    /// What has changed.
    Info,
}

/// Writes a line. A failure to write is ignored.
pub(crate) fn say(priority: Priority, text: &str) {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    let is_journal = *IS_JOURNAL.get_or_init(|| is_journal(io::stderr()));
    // in one piece, since others write there, too
    let _ = io::stderr().write_all(line(priority, text, is_journal).as_bytes());
}

fn line(priority: Priority, text: &str, is_journal: bool) -> String {
    let begin = match (priority, is_journal) {
        (Priority::Error, true) => "<3>",
        (Priority::Warning, true) => "<4>",
        (Priority::Info, true) => "<6>",
        (Priority::Error, false) => "error: ",
        (Priority::Warning, false) => "warning: ",
        (Priority::Info, false) => "",
    };
    // a path may have any characters, and a terminal obeys some
    let text = text.replace(char::is_control, " ");
    format!("{begin}{text}\n")
}

/// Whether a stream is the journal's, by the variable of systemd.exec(5).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(stat) = fstat(stream) else {
        return false;
    };
    std::env::var("JOURNAL_STREAM")
        .is_ok_and(|journal| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_has_its_priority() {
        assert_eq!(line(Priority::Warning, "a", true), "<4>a\n");
        assert_eq!(
            line(Priority::Error, "a\nb\x1b[2J", false),
            "error: a b [2J\n"
        );
        assert_eq!(line(Priority::Info, "a", false), "a\n");
    }
}
