//! `report`: one text for a bug report. Each part stands whatever becomes of the others.

mod conceal;
mod host;
mod network;
mod product;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use traffic_mirror::printable::printable_lines;
use traffic_mirror::status::{local, now};

use super::print;
use conceal::{addresses, secrets};

#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// Replace IP and hardware addresses, each by the same word wherever it stands
    #[arg(long)]
    redact: bool,
}

/// What a part has to say.
type Part = anyhow::Result<String>;

/// Lines of a part, at most. A file may have 10,000 filters.
const MOST_LINES: usize = 600;

pub(crate) fn report(
    scope: &Scope,
    version: &str,
    path: &Path,
    (pin_path, names): (&Path, &Path),
) -> anyhow::Result<ExitCode> {
    let product = product::Product::find(path, pin_path, names);
    let parts: [(&str, Part); 15] = [
        ("version", Ok(version.to_owned())),
        ("host", Ok(host::host())),
        ("file", product.file()),
        ("check", product.check()),
        ("plan", product.plan()),
        ("status", product.status()),
        ("programs on interfaces", network::programs()),
        ("interfaces", network::links()),
        ("routes to endpoints", product.routes()),
        ("features of interfaces", product.features()),
        ("settings of the kernel", Ok(host::settings())),
        ("bpf file systems", host::mounts()),
        ("pins", product.pins()),
        ("unit", host::unit()),
        ("log", host::log()),
    ];
    let now = local(now());
    let mut text = format!("traffic-mirror report of {now}\n");
    for (name, part) in parts {
        let part = part.unwrap_or_else(|error| format!("cannot be read: {error:#}"));
        // writing to a string never fails
        let _ = write!(text, "\n== {name}\n{}\n", bounded(part.trim_end()));
    }
    let text = printable_lines(&secrets(&text, product.text()));
    print(&if scope.redact { addresses(&text) } else { text });
    Ok(ExitCode::SUCCESS)
}

/// The first lines, and how many there are more.
fn bounded(text: &str) -> String {
    let count = text.lines().count();
    if count <= MOST_LINES {
        return text.to_owned();
    }
    let first: Vec<&str> = text.lines().take(MOST_LINES).collect();
    format!(
        "{}\n... {} more lines",
        first.join("\n"),
        count - MOST_LINES
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_part_is_bounded() {
        let long = "x\n".repeat(MOST_LINES + 2);
        assert!(bounded(long.trim_end()).ends_with("x\n... 2 more lines"));
        assert_eq!(bounded("x\ny"), "x\ny");
    }
}
