//! `check`: are files valid?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::geteuid;
use serde::Serialize;
use tracing::Level;
use traffic_mirror::cgroup;
use traffic_mirror::desired::{Desired, absent, absent_applications, unresolved};
use traffic_mirror::diagnostic::{Diagnostic, Edit, Located, Note, Severity, locate, render};
use traffic_mirror::journal;
use traffic_mirror::kernel::netlink::Netlink;
use traffic_mirror::report::plural;
use traffic_mirror::source::reader::Reader;
use traffic_mirror::status;

use super::dns::known;
use super::{File, distrust_of, has_color, print, print_json};
use crate::FAILURE;

/// Version of the structure of `--json`; packaging/schema/check.schema.json describes it.
const SCHEMA: u32 = 1;

/// How to check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// The file is that of a daemon: no other user may write it.
    pub(crate) is_followed: bool,
    /// The interfaces of this host do not matter.
    pub(crate) any_host: bool,
    /// Print JSON.
    pub(crate) json: bool,
}

/// Checks the files one by one.
pub(crate) fn check(files: &[PathBuf], how: How, names: &Path) -> anyhow::Result<ExitCode> {
    let mut checked = Vec::new();
    for path in files {
        let one = Checked::new(path, how, names);
        if !how.json {
            one.print();
        }
        checked.push(one);
    }
    if how.json {
        print_json(&Answer::new(&checked))?;
    }
    Ok(if checked.iter().all(Checked::is_valid) {
        ExitCode::SUCCESS
    } else {
        FAILURE.into()
    })
}

/// A file, and what is wrong with it.
struct Checked {
    /// As messages call it.
    name: String,
    text: String,
    /// What is wrong with the whole of it.
    whole: Vec<Whole>,
    /// What is wrong with its text.
    found: Vec<Diagnostic>,
    /// What it means.
    desired: Option<Desired>,
}

/// A problem without a place in the text.
struct Whole {
    severity: Severity,
    /// A stable name, beside those of [`Code`](traffic_mirror::diagnostic::Code).
    code: &'static str,
    message: String,
}

impl Checked {
    fn new(path: &Path, how: How, names: &Path) -> Self {
        let mut checked = Self {
            name: path.display().to_string(),
            text: String::new(),
            whole: Vec::new(),
            found: Vec::new(),
            desired: None,
        };
        let file = match File::read(path) {
            Ok(file) => file,
            Err(error) => {
                checked.whole.push(Whole {
                    severity: Severity::Error,
                    code: "unreadable",
                    message: format!("{error:#}"),
                });
                return checked;
            }
        };
        if let Some(message) = distrust_of(path, how.is_followed) {
            // another user than the daemon's sees other rights
            let is_root = geteuid().is_root();
            let severity = if is_root {
                Severity::Error
            } else {
                Severity::Warning
            };
            checked.whole.push(Whole {
                severity,
                code: "untrusted",
                message,
            });
        }
        checked.name = file.name;
        checked.text = String::from_utf8_lossy(&file.bytes).into_owned();
        if checked.is_rejected() {
            return checked;
        }
        match Reader::default().load(&file.bytes) {
            Ok((desired, warnings)) => {
                checked.found = warnings;
                if !how.any_host {
                    checked.found.extend(absent_here(&checked.text));
                    checked
                        .found
                        .extend(not_running_here(&desired, &checked.text));
                    if desired.has_dns_names() {
                        checked.resolve(names);
                    }
                }
                checked.desired = Some(desired);
            }
            Err(errors) => checked.found = errors,
        }
        checked
    }

    /// Warns of the DNS names without an address, or that nothing is known of any.
    fn resolve(&mut self, names: &Path) {
        match known(names) {
            Ok(known) => self.found.extend(unresolved(&self.text, &known)),
            Err(message) => self.whole.push(Whole {
                severity: Severity::Warning,
                code: "unresolved-names",
                message,
            }),
        }
    }

    /// Whether the file is rejected whatever its text is.
    fn is_rejected(&self) -> bool {
        self.whole
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    fn is_valid(&self) -> bool {
        self.desired.is_some()
    }

    /// What is wrong goes to standard error.
    fn print(&self) {
        for Whole {
            severity, message, ..
        } in &self.whole
        {
            let level = match severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARN,
            };
            journal::say(level, &format!("{}: {message}\n", severity.as_str()));
        }
        let color = has_color(&std::io::stderr());
        eprint!("{}", render(&self.found, &self.name, &self.text, color));
        match &self.desired {
            Some(desired) => print(&format!(
                "{}: ok, {}\n",
                self.name,
                status::summary(desired)
            )),
            None if !self.is_rejected() => {
                eprintln!("{}: {}", self.name, plural(self.found.len(), "error"));
            }
            None => {}
        }
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let whole = self.whole.iter().map(Placed::whole);
        let found = locate(&self.found, &self.text);
        let all = whole.chain(found.into_iter().map(Placed::from));
        all.map(|placed| Entry {
            file: &self.name,
            placed,
        })
        .collect()
    }
}

/// Warnings of interfaces that this host does not have. None if the kernel does not list its
/// interfaces.
fn absent_here(text: &str) -> Vec<Diagnostic> {
    let Ok(links) = Netlink::open().and_then(|mut netlink| netlink.links()) else {
        return Vec::new();
    };
    let names: Vec<&str> = links.values().flat_map(|link| link.names()).collect();
    absent(text, &names)
}

/// Warnings of applications that this host does not run. None if its cgroups cannot be read.
fn not_running_here(desired: &Desired, text: &str) -> Vec<Diagnostic> {
    let mut filters = desired.filters.iter();
    if !filters.any(|filter| !filter.application.is_empty()) {
        return Vec::new();
    }
    cgroup::find().map_or_else(
        |_| Vec::new(),
        |root| absent_applications(text, &cgroup::read_all(&root)),
    )
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    /// All files are.
    valid: bool,
    files: Vec<Outcome<'a>>,
    diagnostics: Vec<Entry<'a>>,
}

/// What became of a file. The numbers are those of its objects, if it is valid.
#[derive(Serialize)]
struct Outcome<'a> {
    file: &'a str,
    valid: bool,
    interfaces: Option<usize>,
    filters: Option<usize>,
    endpoints: Option<usize>,
}

/// One problem of one file.
#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    #[serde(flatten)]
    placed: Placed<'a>,
}

/// As [`Located`], whose place may be missing.
#[derive(Serialize)]
struct Placed<'a> {
    severity: &'static str,
    code: &'static str,
    line: Option<usize>,
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    message: &'a str,
    help: Option<&'a str>,
    fix: Option<Edit<'a>>,
    note: Option<&'a str>,
    related: Vec<Note<'a>>,
}

impl<'a> Answer<'a> {
    fn new(checked: &'a [Checked]) -> Self {
        let outcome = |one: &'a Checked| {
            let count = |of: fn(&Desired) -> usize| one.desired.as_ref().map(of);
            Outcome {
                file: &one.name,
                valid: one.is_valid(),
                interfaces: count(|desired| desired.interfaces.len()),
                filters: count(|desired| desired.filters.len()),
                endpoints: count(|desired| desired.endpoints.len()),
            }
        };
        Self {
            schema: SCHEMA,
            valid: checked.iter().all(Checked::is_valid),
            files: checked.iter().map(outcome).collect(),
            diagnostics: checked.iter().flat_map(Checked::entries).collect(),
        }
    }
}

impl<'a> Placed<'a> {
    fn whole(problem: &'a Whole) -> Self {
        Self {
            severity: problem.severity.as_str(),
            code: problem.code,
            line: None,
            column: None,
            end_line: None,
            end_column: None,
            message: &problem.message,
            help: None,
            fix: None,
            note: None,
            related: Vec::new(),
        }
    }
}

impl<'a> From<Located<'a>> for Placed<'a> {
    fn from(located: Located<'a>) -> Self {
        Self {
            severity: located.severity,
            code: located.code,
            line: Some(located.line),
            column: Some(located.column),
            end_line: Some(located.end_line),
            end_column: Some(located.end_column),
            message: located.message,
            help: located.help,
            fix: located.fix,
            note: located.note,
            related: located.related,
        }
    }
}
