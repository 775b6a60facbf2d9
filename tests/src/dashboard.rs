//! The panels of a Grafana dashboard, for tests that give its expressions to Prometheus.

use serde_json::Value;

/// An expression of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// What Prometheus is asked, with the values of the dashboard's variables for all hosts.
    pub expression: String,
}

/// The expressions of all panels.
pub fn panels(dashboard: &Value) -> Vec<Panel> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_one = |panel: &Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let expressions = list(&panel["targets"]).into_iter();
        let expressions =
            expressions.filter_map(|target| Some(target["expr"].as_str()?.to_owned()));
        expressions
            .map(|expression| Panel {
                title: title.clone(),
                expression: expression
                    .replace("$__rate_interval", "1m")
                    .replace("$instance", ".*"),
            })
            .collect::<Vec<_>>()
    };
    list(&dashboard["panels"]).iter().flat_map(of_one).collect()
}
