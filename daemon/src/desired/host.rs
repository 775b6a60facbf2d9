//! A file beside the host that it is checked on.

use super::name;
use crate::config::Config;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Quoted, did_you_mean};

/// Warns of each exact name of an interface in the file that the host does not have. The file may
/// be for another host.
pub fn absent(text: &str, host: &[&str]) -> Vec<Diagnostic> {
    let config = Config::parse(text);
    let listed = config
        .interfaces
        .iter()
        .flatten()
        .map(|raw| (raw.label.clone(), &raw.name));
    let outputs = config
        .endpoints
        .iter()
        .flatten()
        .map(|raw| (format!("the interface of {}", raw.label), &raw.interface));
    let mut diagnostics = Diagnostics::default();
    for (label, name) in listed.chain(outputs) {
        let Some(Ok(name)) = name else { continue };
        let text = name.get_ref().as_str();
        if name::is_glob(text) || host.contains(&text) {
            continue;
        }
        let what = if label.contains(text) {
            label
        } else {
            format!("{label}, {},", Quoted(text))
        };
        let message = format!("{what} does not exist on this host");
        let help = did_you_mean(text, host.iter().copied()).unwrap_or_else(|| {
            "write a name that \"ip link\" shows; for a file that is for another host, add --any-host".to_owned()
        });
        diagnostics.report(Diagnostic::new(Code::AbsentInterface, name.span(), message).help(help));
    }
    diagnostics.into_sorted()
}
