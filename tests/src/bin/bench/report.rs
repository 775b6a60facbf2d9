//! What was measured, and on what: the one thing that text, JSON, plots and tables are made of.

use serde::{Deserialize, Serialize};

use crate::sample::{Samples, Spread};

/// A run of the benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) lines: Vec<Line>,
    /// References that this machine cannot run.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) hypervisor: bool,
    /// The commit of the repository, with a `+` if files differ from it.
    pub(crate) commit: String,
    /// Processes that wanted a CPU in the minute before.
    pub(crate) load: f64,
}

/// A reference that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// Lines that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    Unmatched,
    Matched,
    Copied,
    Received,
    /// Beside server names; the number of filters is that of names.
    Named,
    Stream,
    Flood,
    /// What is left beside filters that want something else.
    Beside,
    Stage,
    Start,
    Edit,
    Restart,
    DaemonPeak,
    DaemonRest,
    Maps,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// For one packet, over the empty program.
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Of payload.
    #[serde(rename = "Gbit/s")]
    Gigabits,
    /// In thousands.
    #[serde(rename = "kpacket/s")]
    Packets,
}

impl Unit {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::Gigabits => "Gbit/s",
            Self::Packets => "kpacket/s",
        }
    }
}

/// One thing, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) group: Group,
    pub(crate) what: String,
    pub(crate) filters: usize,
    pub(crate) unit: Unit,
    pub(crate) rounds: usize,
    pub(crate) value: Spread,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) against: Vec<Against>,
    /// Most that the median may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<f64>,
}

/// What it was measured against, in the same rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Against {
    pub(crate) what: String,
    pub(crate) value: Spread,
    /// Of the thing to this.
    pub(crate) ratio: Spread,
}

impl Line {
    /// Panics without a round.
    pub(crate) fn new(
        group: Group,
        what: &str,
        filters: usize,
        unit: Unit,
        samples: &Samples,
    ) -> Self {
        Self {
            group,
            what: what.to_owned(),
            filters,
            unit,
            rounds: samples.0.len(),
            value: samples.spread(),
            against: Vec::new(),
            limit: None,
        }
    }

    /// Compares it with what was measured in the same rounds.
    pub(crate) fn against(mut self, what: &str, samples: &Samples, reference: &Samples) -> Self {
        let (value, ratio) = (reference.spread(), samples.ratio(reference).spread());
        self.against.push(Against {
            what: what.to_owned(),
            value,
            ratio,
        });
        self
    }

    pub(crate) fn limit(mut self, limit: Option<f64>) -> Self {
        self.limit = limit;
        self
    }

    /// Of the thing to a reference, if that was measured.
    pub(crate) fn ratio(&self, to: &str) -> Option<Spread> {
        self.against
            .iter()
            .find(|against| against.what == to)
            .map(|against| against.ratio)
    }
}

impl Report {
    /// Those of a group in the order in which they were measured.
    pub(crate) fn group(&self, group: Group) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.group == group)
    }
}
