//! docs/commands.md has each event of the log, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{files, read};

/// Words behind `event = "` and from functions that name an event.
fn coded() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files(Path::new("daemon/src"), "rs") {
        let source = read(path.to_str().expect("a path in UTF-8"));
        let direct = source.split("event = \"").skip(1);
        let told = source.split("tell(Level::").skip(1);
        let told = told.filter_map(|call| call.split(");").next()?.split(", \"").nth(1));
        // of the kinds of a change, of an obstacle and of a state of health
        let named = source.split("fn event(self)").skip(1);
        let named = named.filter_map(|body| body.split("\n    }").next());
        let named = named.flat_map(|body| body.split('"').skip(1).step_by(2));
        let words = direct.chain(told).filter_map(|rest| rest.split('"').next());
        found.extend(words.chain(named).map(str::to_owned));
    }
    found.extend(["problem", "notice"].map(str::to_owned));
    found.retain(|word| {
        word.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    });
    found
}

#[test]
fn each_event_of_the_log_is_described_and_no_other_is() {
    let page = read("docs/commands.md");
    let table = page.split("| event | meaning |").nth(1).expect("a table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let described: BTreeSet<String> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert_eq!(coded(), described);
}

/// Every line of the daemon's log has an event.
#[test]
fn no_line_of_the_log_is_without_an_event() {
    let mut lines = 0;
    for path in files(Path::new("daemon/src"), "rs") {
        let source = read(path.to_str().expect("a path in UTF-8"));
        for word in ["error!(", "warn!(", "info!(", "debug!("] {
            for (at, _) in source.match_indices(word) {
                let is_word = source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let rest = source[at + word.len()..].trim_start();
                if !is_word {
                    lines += 1;
                    let shown = &rest[..rest.len().min(60)];
                    assert!(
                        rest.starts_with("event = \""),
                        "{}: {shown}",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(lines > 20, "{lines}");
}
