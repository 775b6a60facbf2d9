//! Input: the parts of a status. Output: why it is degraded, a sentence for each reason. A part has
//! a function of its own.

use super::filter::NO_ADDRESS;
use super::listed;
use super::{EndpointStatus, FilterStatus, InterfaceStatus, Output, State, Status};

/// Why something that is wanted does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A sentence.
    pub text: String,
    /// Since when, seconds since 1970; absent if unknown.
    pub since: Option<u64>,
}

impl Reason {
    /// A reason without a known beginning.
    pub fn new(text: String) -> Self {
        Self { text, since: None }
    }
}

impl Status {
    /// Finds the reasons in all parts: what makes `degraded`.
    pub(super) fn judge(mut self) -> Self {
        let file = self.file.as_ref().and_then(super::File::reason);
        let refusal = self
            .last_rejected
            .filter(|_| file.is_none())
            .map(|at| Reason {
                text: "the daemon or the kernel rejected the file; mirroring continues with the last valid \
                       version; the log has the reason"
                    .to_owned(),
                since: Some(at),
            });
        let mut reasons: Vec<Reason> = self
            .daemon
            .reason()
            .into_iter()
            .chain(file)
            .chain(refusal)
            .collect();
        reasons.extend(self.interfaces.iter().filter_map(interface));
        reasons.extend(
            listed::reasons(&self.not_mirrored)
                .into_iter()
                .map(Reason::new),
        );
        reasons.extend(self.filters.iter().filter_map(filter));
        reasons.extend(self.endpoints.iter().filter_map(endpoint));
        reasons.extend(self.outputs.iter().filter_map(output));
        self.degraded = !reasons.is_empty();
        if self.degraded {
            self.state = State::Degraded;
        }
        self.since = reasons.iter().filter_map(|reason| reason.since).min();
        self.reasons = reasons.into_iter().map(|reason| reason.text).collect();
        self
    }

    /// Finds the reasons in the places among other programs.
    pub(super) fn judge_places(&mut self) {
        let reasons: Vec<Reason> = self.interfaces.iter().filter_map(place).collect();
        reasons.into_iter().for_each(|reason| self.worsen(reason));
    }

    /// Adds a reason.
    pub(super) fn worsen(&mut self, reason: Reason) {
        (self.degraded, self.state) = (true, State::Degraded);
        self.since = self.since.into_iter().chain(reason.since).min();
        self.reasons.push(reason.text);
    }
}

fn interface(interface: &InterfaceStatus) -> Option<Reason> {
    let InterfaceStatus {
        name,
        index,
        direction,
        attached,
        ..
    } = interface;
    let name = name
        .clone()
        .unwrap_or_else(|| format!("interface {index}, which is gone"));
    attached.is_none().then(|| {
        Reason::new(format!(
            "the program is not attached to the {direction} of {name}"
        ))
    })
}

/// An order that waits for a program is none: nothing is wrong until that one is there.
fn place(interface: &InterfaceStatus) -> Option<Reason> {
    let InterfaceStatus {
        name,
        direction,
        place,
        order,
        in_order,
        pending,
        ..
    } = interface;
    let (name, place) = (
        name.as_ref()?,
        place
            .as_ref()
            .filter(|_| *in_order == Some(false) && pending.is_none())?,
    );
    Some(Reason::new(format!(
        "the program on the {direction} of {name} does not run {order}, as the file asks: it is {}",
        place.to_string().trim_start_matches(", ")
    )))
}

fn filter(filter: &FilterStatus) -> Option<Reason> {
    let FilterStatus { name, state, .. } = filter;
    (*state == NO_ADDRESS).then(|| {
        let why = "none of the DNS names that it gives has an address";
        Reason::new(format!("filter {name} matches nothing: {why}"))
    })
}

fn endpoint(endpoint: &EndpointStatus) -> Option<Reason> {
    let EndpointStatus {
        name,
        state,
        since,
        is_sent,
        ..
    } = endpoint;
    let what = if *is_sent {
        "possibly gets no copies"
    } else {
        "gets no copies"
    };
    (!endpoint.is_ready()).then(|| Reason {
        text: format!("endpoint {name} {what}: {state}"),
        since: *since,
    })
}

fn output(output: &Output) -> Option<Reason> {
    let Output {
        interface,
        hears_errors,
        ..
    } = output;
    let what = "ICMP errors about copies are not counted on";
    let why = "icmp_errors is not attached to its ingress";
    (!hears_errors).then(|| Reason::new(format!("{what} {interface}: {why}")))
}
