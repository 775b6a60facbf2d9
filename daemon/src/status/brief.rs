//! The first line of the status, which says it all.

use super::file::short;
use super::paint::{Tone, paint};
use super::{Daemon, File, Life, Standing, State, Status, local};
use crate::printable::printable;

impl Status {
    /// State, first reason and since when, daemon, file: one line without its end.
    pub fn brief(&self, color: bool) -> String {
        self.brief_within(None, color)
    }

    /// The same with at most as many characters.
    pub(super) fn brief_within(&self, columns: Option<usize>, color: bool) -> String {
        let reason = self.reasons.first();
        let told = reason.map(|reason| self.told(reason));
        let idle = self.idle.filter(|_| reason.is_none());
        let idle = idle.map(|why| format!("mirrors nothing: {why}"));
        // the reason has said so
        let is_told = self.daemon.state == Life::NotRunning
            && self
                .daemon
                .reason()
                .is_some_and(|it| reason == Some(&it.text));
        let daemon = (!is_told).then(|| self.daemon.brief());
        let file = self.file.as_ref().map(|file| file.brief(self.last_reload));
        let parts: Vec<String> = told
            .into_iter()
            .chain(idle)
            .chain(daemon)
            .chain(file)
            .collect();
        let word = self.state.word();
        let line = printable(&format!("{word:<11}{}", parts.join("; "))).into_owned();
        let rest = cut(&line, columns).get(word.len()..).unwrap_or_default();
        format!("{}{rest}", paint(color, self.state.tone(), word))
    }

    fn told(&self, reason: &str) -> String {
        let since = self
            .since
            .map_or_else(String::new, |at| format!("since {}: ", local(at)));
        let more = match self.reasons.len() - 1 {
            0 => String::new(),
            1 => " (and 1 more reason)".to_owned(),
            more => format!(" (and {more} more reasons)"),
        };
        format!("{since}{reason}{more}")
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Inactive => "inactive",
            Self::Unknown => "unknown",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Degraded | Self::Unknown => Tone::Bad,
            Self::Inactive => Tone::Heading,
        }
    }
}

impl Daemon {
    fn brief(&self) -> String {
        let version = self
            .version
            .as_ref()
            .map_or_else(String::new, |version| format!(", version {version}"));
        match self.state {
            Life::Running | Life::Hangs => format!("daemon {}{version}", self.named()),
            Life::NotRunning => "daemon not running".to_owned(),
        }
    }
}

impl File {
    fn brief(&self, loaded: Option<u64>) -> String {
        let hash = |hash: &Option<String>| short(hash).map(|hash| format!(", sha256 {hash}"));
        let (found, live) = (
            hash(&self.sha256).unwrap_or_default(),
            hash(&self.live_sha256).unwrap_or_default(),
        );
        let since = loaded.map_or_else(String::new, |at| format!(" since {}", local(at)));
        let path = &self.path;
        match self.state {
            Standing::Live => format!("{path}{found}, live{since}"),
            Standing::Changed => format!("{path}{found}, changed since, not loaded"),
            Standing::Rejected => format!("{path}{found}, rejected"),
            Standing::Missing => format!("{path}, missing"),
            Standing::Unreadable => format!("{path}, unreadable"),
            Standing::Orphan => format!("{path}{found}, replaced outside of its mount"),
            Standing::Skipped => {
                format!("{path} of another mount namespace{live}, live{since}")
            }
        }
    }
}

/// At most as many characters of a line.
pub(super) fn cut(line: &str, columns: Option<usize>) -> &str {
    let end = columns.and_then(|columns| line.char_indices().nth(columns));
    end.map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(state: Standing) -> File {
        File {
            path: "/etc/mirror.toml".to_owned(),
            state,
            sha256: Some("0123456789abcdef".to_owned()),
            live_sha256: Some("fedcba9876543210".to_owned()),
            rejected_sha256: None,
            rejected_at: None,
            changed_at: None,
            error: None,
        }
    }

    #[test]
    fn each_state_of_the_file_has_its_words() {
        use Standing::{Changed, Live, Missing, Orphan, Rejected, Skipped, Unreadable};
        for (state, words) in [
            (Live, ", sha256 0123456789ab, live"),
            (Changed, ", sha256 0123456789ab, changed since, not loaded"),
            (Rejected, ", sha256 0123456789ab, rejected"),
            (Missing, ", missing"),
            (Unreadable, ", unreadable"),
            (
                Orphan,
                ", sha256 0123456789ab, replaced outside of its mount",
            ),
            (
                Skipped,
                " of another mount namespace, sha256 fedcba987654, live",
            ),
        ] {
            let shown = file(state).brief(None);
            assert_eq!(shown, format!("/etc/mirror.toml{words}"));
        }
    }

    #[test]
    fn a_line_has_the_first_reason_and_counts_the_others() {
        let running = Daemon {
            state: Life::Running,
            pid: Some(812),
            version: Some("1.2.3".to_owned()),
            ..Daemon::default()
        };
        let reasons = |count: usize| -> Vec<String> {
            let all = ["a is absent", "b is absent", "c is absent"];
            all[..count].iter().map(|&it| it.to_owned()).collect()
        };
        let line = |state, daemon: &Daemon, reasons| {
            Status::without_maps(state, daemon.clone(), reasons).brief(false)
        };
        let daemon = "daemon pid 812, version 1.2.3";
        for (count, told) in [
            (1, "a is absent"),
            (2, "a is absent (and 1 more reason)"),
            (3, "a is absent (and 2 more reasons)"),
        ] {
            let shown = line(State::Degraded, &running, reasons(count));
            assert_eq!(shown, format!("degraded   {told}; {daemon}"));
        }
        let ok = line(State::Ok, &running, Vec::new());
        assert_eq!(ok, format!("ok         {daemon}"));
        let mut idle = Status::without_maps(State::Ok, running.clone(), Vec::new());
        idle.idle = Some("the file has no filters");
        let shown = idle.brief(false);
        assert_eq!(
            shown,
            format!("ok         mirrors nothing: the file has no filters; {daemon}")
        );
        let none = Daemon::default();
        let said = none.reason().map(|reason| reason.text);
        let shown = line(State::Degraded, &none, said.into_iter().collect());
        assert_eq!(shown, "degraded   the daemon is not running", "once");
        let shown = line(State::Inactive, &none, reasons(1));
        assert_eq!(shown, "inactive   a is absent; daemon not running");
        let green = Status::without_maps(State::Ok, running, Vec::new()).brief(true);
        assert_eq!(green, format!("\x1b[32mok\x1b[0m         {daemon}"));
    }
}
