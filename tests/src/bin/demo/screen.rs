//! What the reader sees: plain words, at most 100 columns, colour only on a terminal.

use std::io::IsTerminal as _;

const INTRODUCTION: &str = "\
traffic-mirror demo

   client ------ eth0  edge  eth1 ------ server        real TCP and UDP, IPv4 and IPv6, both ways
                  eth2  |  eth3
              .---------'---------.
         collector A         collector B               each unwraps what comes in GUE packets

The daemon runs in \"edge\" and mirrors what its file asks for. The file is edited four times
while it runs; after each edit the same traffic flows again. Each copy that a collector unwraps is
compared, byte by byte, with the packet that was captured on the wire at the client. You will see
the daemon's own report of each edit, then where each packet went. At the end the daemon is
stopped, and the kernel is searched for what it may have left behind.";

/// Standard output.
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn opening(&self) {
        println!("{INTRODUCTION}");
    }

    pub(crate) fn heading(&self, title: &str) {
        println!("\n{}", self.paint("1", &format!("== {title}")));
    }

    /// A text as it is, set in.
    pub(crate) fn text(&self, text: &str) {
        text.lines()
            .for_each(|line| println!("{}", format!("  {line}").trim_end()));
    }

    /// What is edited in the file, as a diff.
    pub(crate) fn edit(&self, find: &str, replace: &str) {
        let has = |text: &str, wanted: &str| text.lines().any(|line| line == wanted);
        let removed = find.lines().filter(|line| !has(replace, line));
        removed.for_each(|line| println!("  {}", self.paint("31", &format!("-{line}"))));
        for line in replace.trim_start_matches('\n').lines() {
            let line = if has(find, line) {
                format!(" {line}")
            } else {
                self.green(&format!("+{line}"))
            };
            println!("  {line}");
        }
    }

    /// What the daemon says.
    pub(crate) fn daemon(&self, lines: &[String]) {
        lines
            .iter()
            .for_each(|line| println!("  {} {line}", self.paint("2", "daemon:")));
    }

    /// A line of a table.
    pub(crate) fn row(&self, cells: &str, result: &str) {
        println!("  {cells}  {}", self.green(result));
    }

    pub(crate) fn fact(&self, what: &str, is: &str) {
        println!("  {what}: {}", self.green(is));
    }

    pub(crate) fn passed(&self, text: &str) {
        println!("\n{} {text}", self.paint("1;32", "PASSED"));
    }

    pub(crate) fn failed(&self, text: &str) {
        println!("\n{} {text}", self.paint("1;31", "FAILED"));
    }
}
