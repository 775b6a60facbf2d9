//! A run as it goes: what is wanted of it, what it has found, and the lines that it prints
//! meanwhile.

use anyhow::Result;

use crate::report::{LeftOut, Line, Machine, Report};
use crate::sample::Samples;
use crate::text;

/// The run.
pub(crate) struct Session {
    pub(crate) report: Report,
    /// Whether lines are printed.
    text: bool,
    /// Lines without this text are not wanted.
    only: String,
    /// Printed before the next line.
    heading: Option<String>,
}

impl Session {
    pub(crate) fn new(machine: Machine, text: bool, only: String) -> Self {
        Self {
            report: Report {
                machine,
                lines: Vec::new(),
                left_out: Vec::new(),
            },
            text,
            only,
            heading: None,
        }
    }

    /// What the next lines are about.
    pub(crate) fn heading(&mut self, text: &str) {
        self.heading = Some(text.to_owned());
    }

    fn print(&mut self, line: &str) {
        if self.text {
            if let Some(heading) = self.heading.take() {
                println!("\n{heading}");
            }
            println!("  {line}");
        }
    }

    pub(crate) fn add(&mut self, line: Line) {
        self.print(&text::line(&line));
        self.report.lines.push(line);
    }

    /// What cannot be measured here is said, and has no number.
    pub(crate) fn leave_out(&mut self, what: &str, why: &anyhow::Error) {
        // of what a tool says the end, and none of the names of this run
        let why = why.root_cause().to_string();
        let why = why.lines().last().unwrap_or_default().to_owned();
        let left_out = LeftOut {
            what: what.to_owned(),
            why,
        };
        self.print(&format!("left out: {what}: {}", left_out.why));
        self.report.left_out.push(left_out);
    }

    pub(crate) fn wants(&self, what: &str) -> bool {
        what.contains(&self.only)
    }

    /// Whether any line of these is wanted.
    pub(crate) fn wants_any(&self, what: &[&str]) -> bool {
        what.iter().any(|what| self.wants(what))
    }
}

/// Something that takes a value.
pub(crate) type Runner<'a, T = f64> = Box<dyn FnMut() -> Result<T> + 'a>;

/// Lets each of them take a value in each round. Each round begins with another one, so that none
/// is always the one behind a certain other.
pub(crate) fn turns<T>(count: usize, runners: &mut [Runner<'_, T>]) -> Result<Vec<Vec<T>>> {
    let mut taken: Vec<Vec<T>> = runners.iter().map(|_| Vec::new()).collect();
    for round in 0..count {
        for turn in 0..runners.len() {
            let index = (round + turn) % runners.len();
            taken[index].push(runners[index]()?);
        }
    }
    Ok(taken)
}

/// [`turns`] of numbers.
pub(crate) fn rounds(count: usize, runners: &mut [Runner<'_>]) -> Result<Vec<Samples>> {
    Ok(turns(count, runners)?.into_iter().map(Samples).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_has_its_turn_in_each_round() -> Result<()> {
        let order = RefCell::new(Vec::new());
        let mut runners: Vec<Runner<'_>> = Vec::new();
        for name in [1.0, 2.0, 3.0] {
            let order = &order;
            runners.push(Box::new(move || {
                order.borrow_mut().push(name as u32);
                Ok(name)
            }));
        }
        let samples = rounds(2, &mut runners)?;
        assert_eq!(samples, [1.0, 2.0, 3.0].map(|name| Samples(vec![name; 2])));
        assert_eq!(*order.borrow(), [1, 2, 3, 2, 3, 1]);
        Ok(())
    }
}
