//! Input: what was wanted before and what is wanted by now. Output: what differs, object by object.

use super::{Change, Sign};
use crate::desired::{Desired, Endpoint, Filter, Unparsed};

/// The objects that differ between two versions of the file.
pub fn changes(live: &Desired, want: &Desired) -> Vec<Change> {
    let mut changes = Vec::new();
    if live.enabled != want.enabled {
        let name = if want.enabled { "enabled" } else { "disabled" };
        changes.push(Change {
            sign: Sign::Changed,
            object: "mirroring",
            name: name.to_owned(),
        });
    }
    if live.unparsed != want.unparsed {
        let name = match want.unparsed {
            Unparsed::Mirror => "mirrored",
            Unparsed::Skip => "skipped",
        };
        changes.push(Change {
            sign: Sign::Changed,
            object: "unparsed packets",
            name: name.to_owned(),
        });
    }
    if live.budget != want.budget {
        changes.push(Change {
            sign: Sign::Changed,
            object: "budget",
            name: format!("{:?}", want.budget.0),
        });
    }
    for (name, differs) in [
        ("peers", live.peers != want.peers),
        ("seed", live.seed != want.seed),
    ] {
        if differs {
            changes.push(Change {
                sign: Sign::Changed,
                object: "mirroring",
                name: name.to_owned(),
            });
        }
    }
    if live.published != want.published {
        changes.push(Change {
            sign: Sign::Changed,
            object: "metrics",
            name: "filters".to_owned(),
        });
    }
    compare(
        &mut changes,
        "interface",
        &live.interfaces,
        &want.interfaces,
        |i| i.name.as_str(),
    );
    compare(
        &mut changes,
        "endpoint",
        &live.endpoints,
        &want.endpoints,
        |e| &e.name,
    );
    // a filter names its endpoints by their place in the file's order, which shifts with every new
    // one
    compare(
        &mut changes,
        "filter",
        &by_name(live),
        &by_name(want),
        |filter| &filter.0.name,
    );
    changes
}

/// A filter, with the names of its endpoints.
#[derive(Clone, Copy)]
struct Resolved<'d>(&'d Filter, &'d [Endpoint]);

impl PartialEq for Resolved<'_> {
    fn eq(&self, other: &Self) -> bool {
        let names = |one: &Self| {
            one.0
                .to
                .iter()
                .map(|&index| one.1[index].name.clone())
                .collect::<Vec<_>>()
        };
        let rest = |filter: &Filter| Filter {
            to: Vec::new(),
            ..filter.clone()
        };
        names(self) == names(other) && (self.0 == other.0 || rest(self.0) == rest(other.0))
    }
}

fn by_name(desired: &Desired) -> Vec<Resolved<'_>> {
    desired
        .filters
        .iter()
        .map(|filter| Resolved(filter, &desired.endpoints))
        .collect()
}

/// Both lists are sorted by name.
fn compare<T: PartialEq>(
    changes: &mut Vec<Change>,
    object: &'static str,
    live: &[T],
    want: &[T],
    name: impl Fn(&T) -> &str,
) {
    let find = |list: &[T], wanted: &str| list.binary_search_by(|one| name(one).cmp(wanted)).ok();
    let mut push = |sign, one: &T| {
        changes.push(Change {
            sign,
            object,
            name: name(one).to_owned(),
        })
    };
    live.iter()
        .filter(|one| find(want, name(one)).is_none())
        .for_each(|one| push(Sign::Removed, one));
    for one in want {
        match find(live, name(one)) {
            None => push(Sign::Added, one),
            Some(index) if live[index] != *one => push(Sign::Changed, one),
            Some(_) => {}
        }
    }
}
