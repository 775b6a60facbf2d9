//! docs/metrics.md has each metric, with its type and labels, and no page names another.

use std::collections::{BTreeMap, BTreeSet};

use traffic_mirror::desired::Published;
use traffic_mirror::dns::Figures;
use traffic_mirror::metrics::{Process, render};

use crate::status::everything;
use crate::{literals, module, pages, read};

/// Type and labels of each metric.
fn families(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut families: BTreeMap<_, _> = types
        .map(|(name, kind)| (name, (kind, BTreeSet::new())))
        .collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else {
            continue;
        };
        let names = labels
            .split("=\"")
            .filter_map(|part| part.rsplit(['"', ',', '{']).next());
        let labels = labels
            .contains('=')
            .then_some(names)
            .into_iter()
            .flatten()
            .filter(|name| !name.contains('}'));
        families.get_mut(name).expect("a type").1.extend(labels);
    }
    families
}

/// A daemon whose file has DNS names.
fn process() -> Process {
    let mut process = Process::default();
    process.dns = Some(Figures::default());
    process
}

/// The names of all metrics.
pub(crate) fn published() -> BTreeSet<String> {
    let text = render(Some(&everything()), &process(), &Published::All);
    families(&text).into_keys().map(str::to_owned).collect()
}

const METRICS: &str = "docs/metrics.md";
const PREFIX: &str = "traffic_mirror_";

/// What of a metric its row does not say; nothing if it says all.
fn undescribed(page: &str, name: &str, kind: &str, labels: &BTreeSet<&str>) -> Option<String> {
    let start = format!("| `{name}` |");
    let Some(row) = page.lines().find(|line| line.starts_with(&start)) else {
        return Some(format!("{name}: no row"));
    };
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let said: BTreeSet<&str> = cells[3].split('`').skip(1).step_by(2).collect();
    (cells[2] != kind || said != *labels).then(|| {
        format!(
            "{name}: is a {kind} with labels {labels:?}, and the row says {} and {said:?}",
            cells[2]
        )
    })
}

#[test]
fn each_metric_is_described_and_no_other_is_named() {
    let text = render(Some(&everything()), &process(), &Published::All);
    let families = families(&text);
    let page = read(METRICS);
    let wrong: Vec<_> = families
        .iter()
        .filter_map(|(name, (kind, labels))| undescribed(&page, name, kind, labels))
        .collect();
    assert!(wrong.is_empty(), "{METRICS}: {wrong:#?}");
    // the status above has all that there may be
    let sources = module("metrics");
    let literals = sources.iter().flat_map(|(_, source)| literals(source));
    let coded: BTreeSet<&str> = literals.filter(|text| text.starts_with(PREFIX)).collect();
    assert_eq!(coded, families.keys().copied().collect());
    let role = read("packaging/ansible/traffic_mirror/defaults/main.yml");
    for (path, page) in pages() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = page
            .split(|c: char| !is_part(c))
            .filter(|word| word.starts_with(PREFIX) && *word != PREFIX);
        // names of crates and files, and variables of the Ansible role
        let words =
            words.filter(|word| !["traffic_mirror_ebpf", "traffic_mirror_tests"].contains(word));
        let words = words.filter(|word| !role.contains(&format!("{word}:")));
        let unknown: Vec<_> = words.filter(|word| !families.contains_key(word)).collect();
        assert!(
            unknown.is_empty(),
            "{path:?} names metrics that nobody publishes: {unknown:?}"
        );
    }
}

#[test]
fn the_page_says_how_many_series_each_object_has() {
    let text = render(Some(&everything()), &process(), &Published::All);
    let count = |label: &str| text.lines().filter(|line| line.contains(label)).count();
    let page = read(METRICS);
    let told = |object: &str| -> usize {
        let start = format!("| {object} | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&*start));
        let number = row.and_then(|row| row.strip_suffix(" |"));
        number
            .unwrap_or_else(|| panic!("no {object}"))
            .parse()
            .expect("a number")
    };
    assert_eq!(told("filter"), count("{filter=\"web\""));
    assert_eq!(told("endpoint"), count("{endpoint=\"ids\""));
    assert_eq!(told("output interface"), count("{interface=\"eth1\""));
    assert_eq!(
        told("mirrored interface, both directions"),
        2 * count("{interface=\"eth0\",direction=\"ingress\"")
    );
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
