//! `--version`: one number, and which build it is.

use anyhow::{Context as _, Result};
use traffic_mirror_ebpf::abi::LAYOUT;
use traffic_mirror_tests::lab::{deadline, process};

use crate::site::command;

/// What the program prints about itself.
fn said(flag: &str) -> Result<String> {
    let output = process::output(&mut command(&[flag])?, deadline())?;
    assert_eq!(process::code(output.status), 0);
    Ok(String::from_utf8(output.stdout)?)
}

/// The revision that the program was built from.
pub(crate) fn revision() -> Result<String> {
    let text = said("--version")?;
    let revision = text
        .lines()
        .find_map(|line| line.strip_prefix("revision "))
        .with_context(|| format!("no revision: {text}"))?;
    Ok(revision.to_owned())
}

#[test]
fn the_version_is_short_or_names_the_build() -> Result<()> {
    let short = concat!("traffic-mirror ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(said("-V")?, short);
    let (long, revision) = (said("--version")?, revision()?);
    let expected = format!("{short}revision {revision}\ntable layout {LAYOUT}\nrustc ");
    assert!(long.starts_with(&expected), "{long}");
    // as git describes it, or built without make
    let digits = revision.trim_end_matches("-dirty");
    assert!(
        revision == "unknown"
            || digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{revision}"
    );
    Ok(())
}
