//! docs/troubleshooting.md has each word and each sentence of the status.

use std::collections::{BTreeMap, BTreeSet};

use traffic_mirror::compile::{READY, Why};
use traffic_mirror::health::HealthChange;
use traffic_mirror::status::{Daemon, File, Life, Standing};
use traffic_mirror_ebpf::abi::{Drop, IcmpError, Skipped, Trouble};

use crate::status::everything;
use crate::{literals, module, read, slug};

/// The words in backticks of each row's first cell, and of each heading, by the section that they
/// are in.
fn explained(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = slug(heading);
        }
        let cell = line
            .strip_prefix("| ")
            .and_then(|row| row.split(" |").next());
        let words = cell
            .or(line.strip_prefix("### "))
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2);
        sections
            .entry(section.clone())
            .or_default()
            .extend(words.map(str::to_owned));
    }
    sections
}

/// Words that a section of the page does not explain.
fn unexplained<'w>(
    page: &str,
    section: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Vec<&'w str> {
    let sections = explained(page);
    let there = sections
        .get(section)
        .unwrap_or_else(|| panic!("the page has no section {section}"));
    words
        .into_iter()
        .filter(|word| !there.contains(*word))
        .collect()
}

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";
const OF_AN_ENDPOINT: &str = "state-of-an-endpoint";
const OF_AN_INTERFACE: &str = "state-of-an-interface";
const OF_A_FILTER: &str = "state-of-a-filter";

/// Reasons that are a state of the endpoint: what the daemon finds out before a copy is made. The
/// match is to grow with the reasons.
const fn is_state(reason: Drop) -> bool {
    match reason {
        Drop::NoAddress
        | Drop::NoRoute
        | Drop::NoInterface
        | Drop::InterfaceDown
        | Drop::NoCarrier
        | Drop::NoNeighbour
        | Drop::Resolving
        | Drop::NoSource
        | Drop::OwnAddress
        | Drop::Unsupported
        | Drop::IpsecPolicy
        | Drop::NoSegmenter
        | Drop::Unwrapped => true,
        Drop::None
        | Drop::Sample
        | Drop::Limit
        | Drop::Budget
        | Drop::Backlog
        | Drop::Oversize
        | Drop::Shared
        | Drop::HardwareTimestamp
        | Drop::Offloaded
        | Drop::Clone
        | Drop::Encap
        | Drop::Queue => false,
    }
}

const LIVES: [Life; 3] = [Life::Running, Life::Hangs, Life::NotRunning];
const STANDINGS: [Standing; 7] = [
    Standing::Live,
    Standing::Changed,
    Standing::Rejected,
    Standing::Missing,
    Standing::Unreadable,
    Standing::Orphan,
    Standing::Skipped,
];

/// A state that is missing above does not compile here.
const fn all_are_listed(life: Life, standing: Standing) -> bool {
    let life = match life {
        Life::Running | Life::Hangs | Life::NotRunning => true,
    };
    life && match standing {
        Standing::Live
        | Standing::Changed
        | Standing::Rejected
        | Standing::Missing
        | Standing::Unreadable
        | Standing::Orphan
        | Standing::Skipped => true,
    }
}

const _: () = assert!(all_are_listed(LIVES[0], STANDINGS[0]));

fn word<T: serde::Serialize>(state: T) -> String {
    serde_json::to_value(state)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn is_compound(word: &str) -> bool {
    word.contains('-')
        && word
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

#[test]
fn each_word_of_the_status_is_explained() {
    let page = read(TROUBLESHOOTING);
    let missing = |section: &str, words: Vec<&str>| {
        let missing = unexplained(&page, section, words);
        assert!(
            missing.is_empty(),
            "{TROUBLESHOOTING}#{section} does not explain {missing:?}"
        );
    };
    let drops = || Drop::ALL.iter().filter(|reason| **reason != Drop::None);
    missing(
        "why-a-copy-was-dropped",
        drops().map(|reason| reason.label()).collect(),
    );
    missing(
        "why-a-packet-was-skipped",
        Skipped::ALL.iter().map(|reason| reason.label()).collect(),
    );
    missing(
        "icmp-errors-about-copies",
        IcmpError::ALL.iter().map(|reason| reason.label()).collect(),
    );
    let troubles = Trouble::ALL
        .iter()
        .filter(|trouble| **trouble != Trouble::None)
        .map(|trouble| trouble.label());
    let states = drops()
        .filter(|reason| is_state(**reason))
        .map(|reason| reason.label());
    missing(
        OF_AN_ENDPOINT,
        troubles.chain(states).chain([READY]).collect(),
    );
    missing(OF_AN_INTERFACE, Why::LABELS.to_vec());
    let lives = LIVES.map(word);
    missing(
        "state-of-the-daemon",
        lives.iter().map(String::as_str).collect(),
    );
    let standings = STANDINGS.map(word);
    missing(
        "state-of-the-file",
        standings.iter().map(String::as_str).collect(),
    );
}

/// Sentences of a section in which the words in backticks are whole sentences.
fn unquoted(page: &str, section: &str, sentences: impl IntoIterator<Item = String>) -> Vec<String> {
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .expect("the section");
    let text = rest.split("\n## ").next().unwrap_or_default();
    sentences
        .into_iter()
        .filter(|sentence| !text.contains(&format!("`{sentence}`")))
        .collect()
}

const WHYS: [Why; 8] = [
    Why::Absent,
    Why::Pending,
    Why::Limit,
    Why::Kind(24),
    Why::Vrf,
    Why::L3s,
    Why::AttachFailed,
    Why::Waiting,
];

/// Whoever searches for what the daemon says finds it.
#[test]
fn each_sentence_of_the_status_and_of_the_log_is_quoted() {
    let page = read(TROUBLESHOOTING);
    let missing = |section: &str, sentences: Vec<String>| {
        let missing = unquoted(&page, section, sentences);
        assert!(
            missing.is_empty(),
            "{TROUBLESHOOTING}, \"{section}\", does not quote {missing:#?}"
        );
    };
    let daemons = LIVES.map(|state| Daemon {
        state,
        pid: Some(812),
        silent_seconds: Some(12),
        ..Daemon::default()
    });
    let files = STANDINGS.map(|state| {
        let error = (state == Standing::Unreadable).then(|| "Permission denied".to_owned());
        File {
            state,
            error,
            ..everything().file.expect("a file")
        }
    });
    let reasons = daemons
        .iter()
        .filter_map(Daemon::reason)
        .chain(files.iter().filter_map(File::reason));
    missing(
        "Why the status is degraded",
        reasons.map(|reason| reason.text).collect(),
    );
    let mut labels = WHYS.map(Why::label);
    labels.sort_unstable();
    assert_eq!(labels, Why::LABELS, "all of them");
    missing("State of an interface", WHYS.map(Why::text).to_vec());
    let text = "[endpoint.ids]\naddress = \"192.0.2.10\"\n";
    let (desired, _) = traffic_mirror::desired::load_bytes(text.as_bytes()).expect("a right file");
    let troubles = Trouble::ALL
        .iter()
        .filter(|trouble| **trouble != Trouble::None)
        .map(|trouble| HealthChange::Lost(*trouble));
    let others = [
        HealthChange::Recovered(Trouble::PortClosed),
        HealthChange::Left(Trouble::PortClosed),
        HealthChange::PathMtu(1280),
        HealthChange::PathMtuForgotten,
    ];
    let lines = troubles
        .chain(others)
        .map(|change| change.line(&desired.endpoints[0]));
    missing("State of an endpoint", lines.collect());
}

/// States that have no type: compound words that the code of `status` and of the metrics spells
/// out.
#[test]
fn each_word_that_the_status_spells_out_is_explained() {
    let sections = explained(&read(TROUBLESHOOTING));
    let states = [OF_AN_ENDPOINT, OF_AN_INTERFACE, OF_A_FILTER].map(|section| &sections[section]);
    let sources = [module("status"), module("metrics")].concat();
    let mut checked = 0;
    for (path, source) in &sources {
        for word in literals(source)
            .into_iter()
            .filter(|word| is_compound(word))
        {
            assert!(
                states.iter().any(|there| there.contains(word)),
                "{TROUBLESHOOTING} has no state {word} ({path:?})"
            );
            checked += 1;
        }
    }
    assert!(checked > 3, "only {checked} words were found");
    for word in ["active", "disabled"] {
        assert!(sections[OF_A_FILTER].contains(word), "{word}");
    }
}

#[test]
fn a_word_that_is_not_explained_is_noticed() {
    let page = "## One\n| `a`, `b` | text `c` |\n### `d`\n## Two\n| `e` | |\n`f`\n";
    assert_eq!(
        unexplained(page, "one", ["a", "b", "c", "d", "e", "f"]),
        ["c", "e", "f"]
    );
    let quoted = ["d", "c e"].map(str::to_owned);
    assert_eq!(unquoted(&format!("\n{page}"), "One", quoted), ["c e"]);
    let source = "let a = \"one-two\"; // \"x\"\n// \"three-four\"\n#[serde(rename = \"a-b\")]\nf(\"five\");\n#[cfg(test)]\n\"six-seven\"";
    assert_eq!(literals(source), ["one-two", "x", "five"]);
    assert!(
        is_compound("one-two") && !is_compound("one") && !is_compound("-") && !is_compound("a-B")
    );
}
