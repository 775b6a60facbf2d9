//! In what objects differ.

use std::collections::BTreeSet;

use super::objects::{
    ATTACHED, BACKLOG, CHECKSUM, ENABLED, FRAGMENT, Facts, KINDS, LAST, LEARN, NO, ORDER, OVERSIZE,
    Objects, SAMPLE, YES,
};
use super::{FieldDifference, ObjectDifference};
use crate::report::Sign;

pub(super) fn differences(live: &Objects, want: &Objects) -> Vec<ObjectDifference> {
    let keys: BTreeSet<_> = live.keys().chain(want.keys()).collect();
    let difference = |key: &&(usize, String)| {
        let (change, fields) = match (live.get(*key), want.get(*key)) {
            (None, Some(want)) => (
                Sign::Added,
                said(want)
                    .map(|(field, want)| field_of(field, None, Some(want)))
                    .collect(),
            ),
            (Some(_), None) => (Sign::Removed, Vec::new()),
            (Some(live), Some(want)) if live != want => (Sign::Changed, changed(live, want)),
            _ => return None,
        };
        Some(ObjectDifference {
            change,
            object: KINDS[key.0],
            name: key.1.clone(),
            fields,
        })
    };
    keys.iter().filter_map(difference).collect()
}

/// What is worth saying of a new object: what is not a matter of course.
fn said(facts: &Facts) -> impl Iterator<Item = &(&'static str, Vec<String>)> + '_ {
    let ordinary = |(field, values): &&(&'static str, Vec<String>)| match *field {
        ENABLED | ATTACHED => values[0] == YES,
        "bidirectional" | CHECKSUM | LEARN => values[0] == NO,
        "action" => values[0] == "mirror",
        ORDER => *values == [LAST],
        OVERSIZE => values[0] == FRAGMENT,
        SAMPLE => values[0] == "1/1",
        BACKLOG => values[0] == "64MiB",
        _ => values.is_empty(),
    };
    facts.iter().filter(move |fact| !ordinary(fact))
}

fn changed(live: &Facts, want: &Facts) -> Vec<FieldDifference> {
    let pairs = live.iter().filter_map(|(field, live)| {
        let (_, want) = want.iter().find(|(other, _)| other == field)?;
        (live != want).then(|| field_of(field, Some(live), Some(want)))
    });
    pairs.collect()
}

fn field_of(
    field: &'static str,
    live: Option<&Vec<String>>,
    want: Option<&Vec<String>>,
) -> FieldDifference {
    FieldDifference {
        field,
        live: live.cloned(),
        want: want.cloned(),
    }
}
