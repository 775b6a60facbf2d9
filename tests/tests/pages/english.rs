//! Texts for operators have actors and plain verbs: "another process", "the daemon", "match",
//! "log", "load".

use std::path::{Path, PathBuf};

use crate::{files, literals, pages, read};

/// Phrases that operators had to translate, and the usual ones.
const PHRASES: [(&str, &str); 12] = [
    ("somebody", "another process, another user, a sender"),
    ("anybody else", "another process, other users"),
    ("whoever", "a user who, a process that"),
    ("anew", "again"),
    ("as yet", "so far"),
    ("looked at", "matched, monitored, read"),
    ("once wrapped", "after encapsulation"),
    ("heard of", "received"),
    ("says why", "has the reason"),
    ("goes on mirroring", "continues to mirror"),
    ("made again", "recreated"),
    ("was taken", "was loaded"),
];

/// Pages for those who change the code.
const NOT_FOR_OPERATORS: [&str; 3] = ["docs/design", "docs/security.md", "tests"];

fn phrases(text: &str) -> Vec<(&'static str, &'static str)> {
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let has = |phrase: &str| {
        text.match_indices(phrase).any(|(at, _)| {
            let (before, behind) = (&text[..at], &text[at + phrase.len()..]);
            !is_part(before.chars().next_back()) && !is_part(behind.chars().next())
        })
    };
    PHRASES
        .into_iter()
        .filter(|(phrase, _)| has(phrase))
        .collect()
}

#[test]
fn operators_read_plain_english() {
    let pages = pages()
        .into_iter()
        .filter(|(path, _)| {
            !NOT_FOR_OPERATORS
                .iter()
                .any(|there| path.starts_with(there))
        })
        // in prose a line may end anywhere
        .map(|(path, text)| (path, text.replace('\n', " ")));
    let code = files(Path::new("daemon/src"), "rs")
        .into_iter()
        .filter(|path| path.file_stem().is_some_and(|stem| stem != "tests"))
        .map(|path| {
            let source = read(path.to_str().expect("a path in UTF-8"));
            let text = literals(&source).join("\n");
            (path, text)
        });
    let others = [
        "etc/mirror.toml",
        "packaging/deb/control",
        "packaging/grafana/traffic-mirror.json",
        "packaging/prometheus/alerts.yml",
        "systemd/traffic-mirror.service",
    ];
    let others = others.map(|path| (PathBuf::from(path), read(path)));
    let wrong: Vec<_> = pages
        .chain(code)
        .chain(others)
        .map(|(path, text)| (path, phrases(&text)))
        .filter(|(_, found)| !found.is_empty())
        .collect();
    assert!(wrong.is_empty(), "write it otherwise: {wrong:#?}");
}

#[test]
fn a_phrase_that_has_come_back_is_noticed() {
    let found = phrases("It is made again by somebody, for renewals, overlooked at night");
    let found: Vec<_> = found.into_iter().map(|(phrase, _)| phrase).collect();
    assert_eq!(found, ["somebody", "made again"]);
}
