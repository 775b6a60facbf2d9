//! A run as it goes: what is wanted of it, what it has found, and the lines that it prints meanwhile.

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
}

impl Session {
    pub(crate) fn new(machine: Machine, text: bool, only: String) -> Self {
        Self { report: Report { machine, lines: Vec::new(), left_out: Vec::new() }, text, only }
    }

    pub(crate) fn heading(&self, text: &str) {
        if self.text {
            println!("\n{text}");
        }
    }

    pub(crate) fn add(&mut self, line: Line) {
        if self.text {
            println!("  {}", text::line(&line));
        }
        self.report.lines.push(line);
    }

    /// What cannot be measured here is said, and has no number.
    pub(crate) fn leave_out(&mut self, what: &str, why: &anyhow::Error) {
        let left_out = LeftOut { what: what.to_owned(), why: format!("{why:#}") };
        if self.text {
            println!("  left out: {what}: {}", left_out.why);
        }
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

/// Something that takes one value.
pub(crate) type Runner<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Lets each of them take a value in each round. Each round begins with another one, so that none is always the one behind a
/// certain other.
pub(crate) fn rounds(count: usize, runners: &mut [Runner<'_>]) -> Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); runners.len()];
    for round in 0..count {
        for turn in 0..runners.len() {
            let index = (round + turn) % runners.len();
            let value = runners[index]()?;
            samples[index].0.push(value);
        }
    }
    Ok(samples)
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
