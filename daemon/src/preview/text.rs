//! A preview for people.

use std::fmt;

use super::{FieldDifference, ObjectDifference, Preview};
use crate::report;
use crate::report::{SHOWN, Sign, list};

impl Preview {
    /// Whether the file is live.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.map_writes == 0
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes
            .iter()
            .try_for_each(|change| write!(f, "{change}"))?;
        self.obstacles
            .iter()
            .try_for_each(|line| writeln!(f, "! {line}"))?;
        if self.is_empty() {
            return writeln!(f, "no changes: the file is live");
        }
        let count = |sign: Sign| {
            self.changes
                .iter()
                .filter(|change| change.change == sign)
                .count()
        };
        let (added, changed, removed) = (
            count(Sign::Added),
            count(Sign::Changed),
            count(Sign::Removed),
        );
        let writes = report::plural(self.map_writes, "map write");
        let into = if self.new_maps { " into new maps" } else { "" };
        writeln!(
            f,
            "{added} to add, {changed} to change, {removed} to remove; {writes}{into}"
        )
    }
}

impl fmt::Display for ObjectDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() {
            String::new()
        } else {
            format!(" {}", self.name)
        };
        writeln!(f, "{} {}{name}", self.change, self.object)?;
        for FieldDifference { field, live, want } in &self.fields {
            match (live, want) {
                (Some(live), Some(want)) if live.len().max(want.len()) > SHOWN => {
                    let only = |these: &[String], those: &[String]| -> Vec<String> {
                        these
                            .iter()
                            .filter(|one| !those.contains(one))
                            .cloned()
                            .collect()
                    };
                    for (sign, values) in [('-', only(live, want)), ('+', only(want, live))] {
                        if !values.is_empty() {
                            writeln!(f, "    {field}: {sign} {}", list(&values))?;
                        }
                    }
                }
                (Some(live), Some(want)) => {
                    writeln!(f, "    {field}: {} -> {}", list(live), list(want))?
                }
                (live, want) => writeln!(
                    f,
                    "    {field}: {}",
                    list(want.as_ref().or(live.as_ref()).unwrap_or(&Vec::new()))
                )?,
            }
        }
        Ok(())
    }
}
