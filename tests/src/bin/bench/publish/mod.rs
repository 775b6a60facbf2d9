//! What is in the repository of a run: `docs/bench.json`, and all that is made of it.

mod charts;
mod plot;
mod tables;

use anyhow::{Context as _, Result};
use std::fs::{create_dir_all, read_to_string, write};
use std::path::{Path, PathBuf};

use crate::report::Report;

const JSON: &str = "docs/bench.json";
const PLOTS: &str = "docs/bench";
/// Files with places for tables.
const TEXTS: [&str; 2] = ["README.md", "docs/performance.md"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Writes a run, and all that is made of it.
pub(crate) fn publish(report: &Report) -> Result<()> {
    write(path(JSON), json(report)?).with_context(|| format!("write {JSON}"))?;
    made()
}

/// A row for each line, so that two runs can be compared.
pub(crate) fn json(report: &Report) -> Result<String> {
    let rows = |values: Vec<serde_json::Result<String>>| -> Result<String> {
        Ok(values
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .join(",\n"))
    };
    let machine = serde_json::to_string(&report.machine)?;
    let lines = rows(report.lines.iter().map(serde_json::to_string).collect())?;
    let left_out = rows(report.left_out.iter().map(serde_json::to_string).collect())?;
    Ok(format!(
        "{{\"machine\": {machine},\n\"lines\": [\n{lines}\n],\n\"left_out\": [\n{left_out}\n]}}\n"
    ))
}

/// Makes all that is made of the run in the repository anew.
pub(crate) fn made() -> Result<()> {
    create_dir_all(path(PLOTS)).with_context(|| format!("create {PLOTS}"))?;
    for (name, text) in files(&read()?)? {
        write(path(&name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn read() -> Result<Report> {
    let text = read_to_string(path(JSON)).with_context(|| format!("read {JSON}"))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{JSON} is of another version: run `make bench`"))
}

/// Each file with its content.
fn files(report: &Report) -> Result<Vec<(String, String)>> {
    let pictures = charts::pictures(report)
        .into_iter()
        .map(|(name, text)| Ok((format!("{PLOTS}/{name}"), text)));
    let texts = TEXTS.iter().map(|name| {
        let text = read_to_string(path(name)).with_context(|| format!("read {name}"))?;
        Ok(((*name).to_owned(), tables::replace(&text, report)?))
    });
    pictures.chain(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let report = read()?;
        assert_eq!(serde_json::from_str::<Report>(&json(&report)?)?, report);
        Ok(())
    }

    /// No number in the repository that the published run has not.
    #[test]
    fn tables_and_plots_are_those_of_the_published_run() -> Result<()> {
        for (name, text) in files(&read()?)? {
            assert!(
                read_to_string(path(&name))? == text,
                "{name} is not what {JSON} says: `bench --tables` writes it"
            );
        }
        Ok(())
    }
}
