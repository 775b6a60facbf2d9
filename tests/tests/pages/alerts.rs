//! The alert rules and the dashboard of the package: Prometheus' own tool accepts them, they name
//! only metrics that are published, and docs/metrics.md has each alert.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use traffic_mirror_tests::dashboard::{Panel, panels};

use crate::metrics::published;
use crate::{read, workspace};

const RULES: &str = "packaging/prometheus/alerts.yml";
const TESTS: &str = "packaging/prometheus/alerts_test.yml";
const DASHBOARD: &str = "packaging/grafana/traffic-mirror.json";

/// What promtool says, if it is content.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(workspace().join("packaging/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing; run `make setup`");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// The rules, by their alert: name and severity.
fn alerts(rules: &str) -> BTreeMap<&str, &str> {
    let severity = |rule: &'_ str| -> Option<usize> { rule.find("severity: ") };
    let rules = rules.split("- alert: ").skip(1);
    rules
        .map(|rule| {
            let name = rule.lines().next().unwrap_or_default();
            let at = severity(rule).unwrap_or_else(|| panic!("{name} has no severity"));
            let word = rule[at + "severity: ".len()..].split('}').next();
            (name, word.unwrap_or_default())
        })
        .collect()
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_and_resolves_in_its_test() {
    promtool(&["check", "rules", "alerts.yml"], "");
    let said = promtool(&["test", "rules", "alerts_test.yml"], "");
    assert!(said.contains("SUCCESS"), "{said}");
    let (rules, tests) = (read(RULES), read(TESTS));
    for alert in alerts(&rules).keys() {
        // the end of a test follows its name
        let outcomes: Vec<&str> = tests
            .split(&format!("alertname: {alert}"))
            .skip(1)
            .filter_map(|rest| rest.split_once("exp_alerts: ["))
            .map(|(_, rest)| &rest[..1])
            .collect();
        let (fires, is_quiet) = (outcomes.contains(&"{"), outcomes.contains(&"]"));
        assert!(
            fires && is_quiet,
            "{TESTS} lacks a test of {alert}: {outcomes:?}"
        );
    }
}

#[test]
fn the_manual_has_each_alert_with_its_severity_and_no_other() {
    let (rules, page) = (read(RULES), read("docs/metrics.md"));
    let expected = alerts(&rules);
    assert!(expected.len() > 10, "{expected:?}");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `Mirror"));
    let rows: BTreeMap<String, &str> = rows
        .filter_map(|row| row.split_once("` | "))
        .map(|(name, rest)| (format!("Mirror{name}"), rest))
        .collect();
    let told: BTreeMap<&str, &str> = rows
        .iter()
        .map(|(name, rest)| (&**name, rest.split(" |").next().unwrap_or_default()))
        .collect();
    assert_eq!(told, expected);
    let named = page.split('`').skip(1).step_by(2);
    for name in named.filter(|word| word.starts_with("Mirror")) {
        assert!(expected.contains_key(name), "docs/metrics.md names {name}");
    }
}

/// Names of metrics in an expression that nobody publishes.
fn unknown<'e>(expression: &'e str, published: &BTreeSet<String>) -> Vec<&'e str> {
    const OF_OTHERS: [&str; 2] = ["node_exporter", "node_textfile_mtime_seconds"];
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c: char| !is_part(c));
    words
        .filter(|word| word.starts_with("traffic_mirror_") || word.starts_with("node_"))
        .filter(|word| !OF_OTHERS.contains(word) && !published.contains(*word))
        .collect()
}

#[test]
fn rules_and_panels_name_only_metrics_that_are_published() {
    let published = published();
    assert_eq!(unknown(&read(RULES), &published), [""; 0]);
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut named = BTreeSet::new();
    for Panel { title, expression } in panels(&dashboard) {
        assert_eq!(unknown(&expression, &published), [""; 0], "{title}");
        named.extend(
            published
                .iter()
                .filter(|name| expression.contains(&***name))
                .cloned(),
        );
    }
    let missing: Vec<_> = published.difference(&named).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
    assert_eq!(
        unknown(
            "rate(traffic_mirror_nothing[5m]) + node_nothing",
            &published
        ),
        ["traffic_mirror_nothing", "node_nothing"]
    );
}

#[test]
fn promtool_accepts_each_expression_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let expressions: BTreeSet<String> = panels(&dashboard)
        .into_iter()
        .map(|panel| panel.expression)
        .collect();
    assert!(
        expressions.len() > 30,
        "only {} were found",
        expressions.len()
    );
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(nth, expression)| json!({ "record": format!("panel:{nth}"), "expr": expression }))
        .collect();
    let check = |rules: &[Value]| {
        // JSON is YAML
        let file = json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string();
        promtool(&["check", "rules", "/dev/stdin"], &file)
    };
    let said = check(&rules);
    assert!(
        said.contains(&format!("{} rules found", rules.len())),
        "{said}"
    );
    let wrong = json!({ "record": "panel:wrong", "expr": "sum(rate(a[5m])" });
    assert!(
        std::panic::catch_unwind(|| check(&[wrong])).is_err(),
        "a wrong one is noticed"
    );
}

#[test]
fn the_dashboard_can_be_imported_everywhere() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    // Grafana replaces a dashboard of the same uid, and a number belongs to one Grafana
    assert_eq!(
        (&dashboard["uid"], &dashboard["id"]),
        (&json!("traffic-mirror"), &Value::Null)
    );
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    assert_eq!(
        (&variables[0]["name"], &variables[0]["type"]),
        (&json!("datasource"), &json!("datasource"))
    );
    let all = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = all
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), all.len(), "numbers of panels are unique");
    let titles: BTreeSet<&str> = all
        .iter()
        .filter_map(|panel| panel["title"].as_str())
        .collect();
    assert_eq!(titles.len(), all.len(), "and so are titles");
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let mut places = BTreeSet::new();
    for panel in all {
        let title = &panel["title"];
        let place = &panel["gridPos"];
        let [x, y, w] = ["x", "y", "w"].map(|key| place[key].as_u64().expect("a place"));
        assert!(
            x + w <= 24 && places.insert((x, y)),
            "{title} has no place of its own"
        );
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"], source, "{title}");
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{title}"
        );
        for target in panel["targets"].as_array().expect("expressions") {
            assert_eq!(target["datasource"], source, "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            assert!(
                expression.contains("instance=~\"$instance\""),
                "{title}: {expression}"
            );
        }
    }
}
