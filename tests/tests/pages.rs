//! The pages say what the code says: each word that the daemon prints is explained, each metric is described, each link leads
//! somewhere, each file that a page shows is right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use traffic_mirror::compile::{READY, Why};
use traffic_mirror::health::Change;
use traffic_mirror::metrics::{Process, render};
use traffic_mirror::status::{Daemon, Endpoint, File, Filter, Interface, Life, Output, Standing, Status};
use traffic_mirror_ebpf::abi::{Drop, IcmpError, Trouble, Unseen};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(page: &str) -> String {
    fs::read_to_string(workspace().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// What no page of ours is in.
const FOREIGN: [&str; 2] = ["target", ".git"];

/// Files below a directory whose names end like this, relative to the workspace.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join(directory)).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !FOREIGN.iter().any(|name| entry.file_name() == *name) {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<(PathBuf, String)> {
    let pages: Vec<_> =
        files(Path::new(""), "md").into_iter().map(|path| (path.clone(), read(path.to_str().unwrap()))).collect();
    assert!(pages.len() > 10, "only {} pages were found", pages.len());
    pages
}

// --- words ---------------------------------------------------------------------------------------------------------

/// The words in backticks of each row's first cell, and of each heading, by the section that they are in.
fn explained(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = slug(heading);
        }
        let cell = line.strip_prefix("| ").and_then(|row| row.split(" |").next());
        let words = cell.or(line.strip_prefix("### ")).unwrap_or_default().split('`').skip(1).step_by(2);
        sections.entry(section.clone()).or_default().extend(words.map(str::to_owned));
    }
    sections
}

/// Words that a section of the page does not explain.
fn unexplained<'w>(page: &str, section: &str, words: impl IntoIterator<Item = &'w str>) -> Vec<&'w str> {
    let sections = explained(page);
    let there = sections.get(section).unwrap_or_else(|| panic!("the page has no section {section}"));
    words.into_iter().filter(|word| !there.contains(*word)).collect()
}

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";
const OF_AN_ENDPOINT: &str = "state-of-an-endpoint";
const OF_AN_INTERFACE: &str = "state-of-an-interface";
const OF_A_FILTER: &str = "state-of-a-filter";

/// Reasons that are a state of the endpoint: what the daemon finds out before a copy is made. The match is to grow with the reasons.
const fn is_state(reason: Drop) -> bool {
    match reason {
        Drop::NoRoute
        | Drop::NoInterface
        | Drop::InterfaceDown
        | Drop::NoCarrier
        | Drop::NoNeighbour
        | Drop::Resolving
        | Drop::NoSource
        | Drop::OwnAddress
        | Drop::Unsupported
        | Drop::IpsecPolicy
        | Drop::NoLane
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
    Standing::Unseen,
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
        | Standing::Unseen => true,
    }
}

const _: () = assert!(all_are_listed(LIVES[0], STANDINGS[0]));

fn word<T: serde::Serialize>(state: T) -> String {
    serde_json::to_value(state).unwrap().as_str().unwrap().to_owned()
}

/// The code of a module of the daemon, without its tests: one file, or a folder.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let is_part = |path: &Path| path.with_extension("").iter().any(|part| part == name);
    let is_test = |path: &Path| path.file_stem().is_some_and(|stem| stem == "tests");
    let mut found = files(Path::new("daemon/src"), "rs");
    found.retain(|path| is_part(path) && !is_test(path));
    assert!(!found.is_empty(), "the daemon has no module {name}");
    found.into_iter().map(|path| (path.clone(), read(path.to_str().unwrap()))).collect()
}

/// String literals of the code, without those of its tests, of comments and of attributes.
fn literals(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//") && !line.starts_with("#["));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

fn is_compound(word: &str) -> bool {
    word.contains('-')
        && word.split('-').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

#[test]
fn each_word_of_the_status_is_explained() {
    let page = read(TROUBLESHOOTING);
    let missing = |section: &str, words: Vec<&str>| {
        let missing = unexplained(&page, section, words);
        assert!(missing.is_empty(), "{TROUBLESHOOTING}#{section} does not explain {missing:?}");
    };
    let drops = || Drop::ALL.iter().filter(|reason| **reason != Drop::None);
    missing("why-a-copy-was-dropped", drops().map(|reason| reason.label()).collect());
    missing("why-a-packet-was-skipped", Unseen::ALL.iter().map(|reason| reason.label()).collect());
    missing("icmp-errors-about-copies", IcmpError::ALL.iter().map(|reason| reason.label()).collect());
    let troubles = Trouble::ALL.iter().filter(|trouble| **trouble != Trouble::None).map(|trouble| trouble.label());
    let states = drops().filter(|reason| is_state(**reason)).map(|reason| reason.label());
    missing(OF_AN_ENDPOINT, troubles.chain(states).chain([READY]).collect());
    missing(OF_AN_INTERFACE, Why::LABELS.to_vec());
    let lives = LIVES.map(word);
    missing("state-of-the-daemon", lives.iter().map(String::as_str).collect());
    let standings = STANDINGS.map(word);
    missing("state-of-the-file", standings.iter().map(String::as_str).collect());
}

/// Sentences of a section in which the words in backticks are whole sentences.
fn unquoted(page: &str, section: &str, sentences: impl IntoIterator<Item = String>) -> Vec<String> {
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = rest.split("\n## ").next().unwrap_or_default();
    sentences.into_iter().filter(|sentence| !text.contains(&format!("`{sentence}`"))).collect()
}

const WHYS: [Why; 8] =
    [Why::Absent, Why::Pending, Why::Limit, Why::Kind(24), Why::Vrf, Why::L3s, Why::Refused, Why::Waiting];

/// Whoever searches for what the daemon says finds it.
#[test]
fn each_sentence_of_the_status_and_of_the_log_is_quoted() {
    let page = read(TROUBLESHOOTING);
    let missing = |section: &str, sentences: Vec<String>| {
        let missing = unquoted(&page, section, sentences);
        assert!(missing.is_empty(), "{TROUBLESHOOTING}, \"{section}\", does not quote {missing:#?}");
    };
    let daemons = LIVES.map(|state| Daemon { state, pid: Some(812), silent_seconds: Some(12), ..Daemon::default() });
    let files = STANDINGS.map(|state| {
        let error = (state == Standing::Unreadable).then(|| "Permission denied".to_owned());
        File { state, error, ..everything().file.expect("a file") }
    });
    let reasons = daemons.iter().filter_map(Daemon::reason).chain(files.iter().filter_map(File::reason));
    missing("Why the status is degraded", reasons.map(|reason| reason.text).collect());
    let mut labels = WHYS.map(Why::label);
    labels.sort_unstable();
    assert_eq!(labels, Why::LABELS, "all of them");
    missing("State of an interface", WHYS.map(Why::text).to_vec());
    let text = "[endpoint.ids]\naddress = \"192.0.2.10\"\n";
    let (desired, _) = traffic_mirror::desired::load_bytes(text.as_bytes()).expect("a right file");
    let troubles =
        Trouble::ALL.iter().filter(|trouble| **trouble != Trouble::None).map(|trouble| Change::Lost(*trouble));
    let others = [
        Change::Recovered(Trouble::PortClosed),
        Change::Left(Trouble::PortClosed),
        Change::PathMtu(1280),
        Change::PathMtuForgotten,
    ];
    let lines = troubles.chain(others).map(|change| change.line(&desired.endpoints[0]));
    missing("State of an endpoint", lines.collect());
}

/// States that have no type: compound words that the code of `status` and of the metrics spells out.
#[test]
fn each_word_that_the_status_spells_out_is_explained() {
    let sections = explained(&read(TROUBLESHOOTING));
    let states = [OF_AN_ENDPOINT, OF_AN_INTERFACE, OF_A_FILTER].map(|section| &sections[section]);
    let sources = [module("status"), module("metrics")].concat();
    let mut checked = 0;
    for (path, source) in &sources {
        for word in literals(source).into_iter().filter(|word| is_compound(word)) {
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
    assert_eq!(unexplained(page, "one", ["a", "b", "c", "d", "e", "f"]), ["c", "e", "f"]);
    let quoted = ["d", "c e"].map(str::to_owned);
    assert_eq!(unquoted(&format!("\n{page}"), "One", quoted), ["c e"]);
    let source = "let a = \"one-two\"; // \"x\"\n// \"three-four\"\n#[serde(rename = \"a-b\")]\nf(\"five\");\n#[cfg(test)]\n\"six-seven\"";
    assert_eq!(literals(source), ["one-two", "x", "five"]);
    assert!(is_compound("one-two") && !is_compound("one") && !is_compound("-") && !is_compound("a-B"));
}

// --- metrics -------------------------------------------------------------------------------------------------------

/// A status in which everything is there once.
fn everything() -> Status {
    Status {
        schema: 1,
        degraded: false,
        reasons: Vec::new(),
        since: None,
        daemon: Daemon::default(),
        file: Some(File {
            path: "/etc/mirror.toml".to_owned(),
            state: Standing::Live,
            sha256: Some("0".to_owned()),
            live_sha256: Some("0".to_owned()),
            rejected_sha256: None,
            rejected_at: None,
            changed_at: None,
            error: None,
        }),
        last_reload: Some(1),
        last_refusal: None,
        reloads: Some(1),
        repairs: Some(0),
        interfaces: vec![Interface {
            name: Some("eth0".to_owned()),
            altname: None,
            index: 2,
            direction: "ingress",
            attached: Some("tcx"),
            place: None,
            order: "last".to_owned(),
            in_order: None,
            pending: None,
            note: None,
            unseen: BTreeMap::new(),
        }],
        not_mirrored: Vec::new(),
        filters: vec![Filter {
            name: "web".to_owned(),
            active: true,
            state: "active",
            packets: 1,
            bytes: 1,
            rate: None,
        }],
        endpoints: vec![Endpoint {
            name: "ids".to_owned(),
            state: READY,
            since: None,
            is_sent: true,
            address: None,
            port: None,
            interface: None,
            next_hop: None,
            mtu: Some(1500),
            errors: BTreeMap::new(),
            packets: 1,
            bytes: 1,
            truncated: 0,
            fragmented: 0,
            drops: BTreeMap::new(),
            rate: None,
        }],
        outputs: vec![Output {
            interface: "eth1".to_owned(),
            carrier: true,
            queue: None,
            queue_drops: 0,
            device_drops: 0,
            hears_errors: true,
        }],
    }
}

/// Type and labels of each metric.
fn families(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut families: BTreeMap<_, _> = types.map(|(name, kind)| (name, (kind, BTreeSet::new()))).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else { continue };
        let names = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next());
        let labels = labels.contains('=').then_some(names).into_iter().flatten().filter(|name| !name.contains('}'));
        families.get_mut(name).expect("a type").1.extend(labels);
    }
    families
}

const METRICS: &str = "docs/metrics.md";
const PREFIX: &str = "traffic_mirror_";

/// What of a metric its row does not say; nothing if it says all.
fn undescribed(page: &str, name: &str, kind: &str, labels: &BTreeSet<&str>) -> Option<String> {
    let start = format!("| `{name}` |");
    let Some(row) = page.lines().find(|line| line.starts_with(&start)) else { return Some(format!("{name}: no row")) };
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let said: BTreeSet<&str> = cells[3].split('`').skip(1).step_by(2).collect();
    (cells[2] != kind || said != *labels)
        .then(|| format!("{name}: is a {kind} with labels {labels:?}, and the row says {} and {said:?}", cells[2]))
}

#[test]
fn each_metric_is_described_and_no_other_is_named() {
    let text = render(Some(&everything()), &Process::default());
    let families = families(&text);
    let page = read(METRICS);
    let wrong: Vec<_> =
        families.iter().filter_map(|(name, (kind, labels))| undescribed(&page, name, kind, labels)).collect();
    assert!(wrong.is_empty(), "{METRICS}: {wrong:#?}");
    // the status above has all that there may be
    let sources = module("metrics");
    let literals = sources.iter().flat_map(|(_, source)| literals(source));
    let coded: BTreeSet<&str> = literals.filter(|text| text.starts_with(PREFIX)).collect();
    assert_eq!(coded, families.keys().copied().collect());
    for (path, page) in pages() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = page.split(|c: char| !is_part(c)).filter(|word| word.starts_with(PREFIX) && *word != PREFIX);
        // names of crates and files
        let words = words.filter(|word| !["traffic_mirror_ebpf", "traffic_mirror_tests"].contains(word));
        let unknown: Vec<_> = words.filter(|word| !families.contains_key(word)).collect();
        assert!(unknown.is_empty(), "{path:?} names metrics that nobody publishes: {unknown:?}");
    }
}

#[test]
fn a_metric_without_a_row_or_with_other_labels_is_noticed() {
    let text = "# HELP a x\n# TYPE a counter\na{one=\"1\",two=\"x=y\"} 1\n# TYPE b gauge\nb 2\n";
    let found = families(text);
    assert_eq!(found["a"], ("counter", ["one", "two"].into()));
    assert_eq!(found["b"], ("gauge", BTreeSet::new()));
    let page = "| `a` | counter | `one`, `two` | | |\n| `b` | counter | | |\n";
    let check = |name: &str| undescribed(page, name, found[name].0, &found[name].1);
    assert_eq!(check("a"), None);
    assert!(check("b").is_some_and(|text| text.starts_with("b: is a gauge")));
    assert!(undescribed("", "a", "counter", &BTreeSet::new()).is_some());
}

// --- links ---------------------------------------------------------------------------------------------------------

/// The lines of a page that are text, not code between fences.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}

/// The anchor of a heading, as forges make it.
fn slug(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page: each heading's, with a number where several are the same.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let headings =
        prose(page).filter_map(|line| Some(line.trim_start_matches('#')).filter(|rest| rest.len() < line.len()));
    let titles = headings.filter_map(|rest| rest.strip_prefix(' '));
    titles
        .map(|title| {
            let slug = slug(title);
            let times = count.entry(slug.clone()).or_default();
            *times += 1;
            if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
        })
        .collect()
}

/// Where the links and pictures of a page lead.
fn links(page: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for line in prose(page) {
        // what is in backticks is no link
        for text in line.split('`').step_by(2) {
            links.extend(text.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        }
        // the text of a link may be code
        for rest in line.split("`](").skip(1) {
            links.extend(rest.split(')').next());
        }
    }
    links.sort_unstable();
    links.dedup();
    links
}

/// Why a link of a page leads nowhere; `content` answers the text of a page, or `None` if there is no such file.
fn dead(from: &Path, page: &str, link: &str, content: impl Fn(&Path) -> Option<String>) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() { Some(page.to_owned()) } else { content(&from.parent()?.join(path)) };
    let Some(target) = target else { return Some(format!("{}: {link}: no such file", from.display())) };
    let has = |anchor: &str| anchors(&target).contains(anchor);
    anchor.filter(|anchor| !has(anchor)).map(|_| format!("{}: {link}: no such heading", from.display()))
}

#[test]
fn each_link_leads_somewhere() {
    let content = |path: &Path| {
        let path = workspace().join(path);
        path.exists().then(|| fs::read_to_string(path).unwrap_or_default())
    };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, page) in pages() {
        for link in links(&page) {
            wrong.extend(dead(&path, &page, link, content));
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 30, "only {count} links were found");
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let page = "# One & two\n[a](b.md) ![p](p.svg) `[no](x.md)` [`c`](#one--two)\n```\n[no](y.md)\n# No\n```\n    [no](z.md)\n# Same\n# Same\n[d](https://example.com)\n";
    assert_eq!(links(page), ["#one--two", "b.md", "https://example.com", "p.svg"]);
    assert_eq!(anchors(page), ["one--two", "same", "same-1"].map(str::to_owned).into());
    let content = |path: &Path| (path == Path::new("docs/b.md")).then(|| "# Title".to_owned());
    let dead = |link: &str| dead(Path::new("docs/a.md"), page, link, content).is_some();
    assert!(!dead("b.md") && !dead("b.md#title") && !dead("#same-1") && !dead("https://example.com"));
    assert!(dead("c.md") && dead("b.md#other") && dead("#same-2"));
}

// --- files that pages name ---------------------------------------------------------------------------------------

/// Files of code that a page names, be it by the end of their path.
fn named_files(page: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = page.split(|c: char| !is_part(c)).map(|word| word.trim_end_matches('.'));
    let words = words.map(|word| word.trim_start_matches("../")).filter(|word| word.ends_with(".rs"));
    words.filter(|word| *word != ".rs").collect()
}

/// Those that are not there.
fn lost_files<'n>(named: &BTreeSet<&'n str>, there: &[PathBuf]) -> Vec<&'n str> {
    named.iter().filter(|name| !there.iter().any(|path| path.ends_with(name))).copied().collect()
}

#[test]
fn the_files_that_pages_name_are_there() {
    let there = files(Path::new(""), "rs");
    let mut count = 0;
    for (path, page) in pages() {
        let named = named_files(&page);
        let lost = lost_files(&named, &there);
        assert!(lost.is_empty(), "{path:?} names files that are not there: {lost:#?}");
        count += named.len();
    }
    assert!(count > 30, "only {count} files are named");
}

#[test]
fn a_file_that_is_gone_is_noticed() {
    let page = "In `a/b.rs` and (c.rs), see ../d/e.rs::f and g.rs. No .rs";
    let named = named_files(page);
    assert_eq!(named, ["a/b.rs", "c.rs", "d/e.rs", "g.rs"].into());
    let there = ["x/a/b.rs", "x/ac.rs", "d/e.rs", "y/g.rs"].map(PathBuf::from);
    assert_eq!(lost_files(&named, &there), ["c.rs"]);
}

// --- files that pages show -----------------------------------------------------------------------------------------

/// The blocks of a language in a page.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    page.split(&*fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_files_that_pages_show_are_right() {
    let mut count = 0;
    for (path, page) in pages() {
        for text in blocks(&page, "toml").into_iter().filter(|text| text.contains("[[interface]]")) {
            let loaded = traffic_mirror::desired::load_bytes(text.as_bytes());
            let render =
                |problems: &[_]| traffic_mirror::diagnostic::render(problems, &path.display().to_string(), text, false);
            let (_, warnings) = loaded.unwrap_or_else(|errors| panic!("{}", render(&errors)));
            assert!(warnings.is_empty(), "{}", render(&warnings));
            count += 1;
        }
    }
    assert!(count > 0, "no page shows a file");
}
