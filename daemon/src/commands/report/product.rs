//! The file, what the daemon makes of it, and what is live.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use traffic_mirror::desired::Desired;
use traffic_mirror::diagnostic::{self, Diagnostic};
use traffic_mirror::kernel::Observer;
use traffic_mirror::source::reader::Reader;
use traffic_mirror::source::trust::distrust;
use traffic_mirror::status::{self, View, local};

use super::super::File;
use super::super::dns::{of_daemon, resolved};
use super::super::plan::Seen;
use super::super::reading::without_maps;
use super::Part;
use super::host::output;

/// Features of interfaces that change what packets look like.
const FEATURES: [&str; 7] = [
    "checksum",
    "segment",
    "gso",
    "gro",
    "scatter",
    "vlan",
    "timestamp",
];

/// The file and the pin path of a daemon.
pub(super) struct Product {
    path: PathBuf,
    pin_path: PathBuf,
    names: PathBuf,
    /// The content, or why it cannot be read.
    text: Result<String, String>,
    /// What the file means, if it is valid.
    desired: Option<Desired>,
    diagnostics: Vec<Diagnostic>,
}

impl Product {
    pub(super) fn find(path: &Path, pin_path: &Path, names: &Path) -> Self {
        let mut found = Self {
            path: path.to_owned(),
            pin_path: pin_path.to_owned(),
            names: names.to_owned(),
            text: Ok(String::new()),
            desired: None,
            diagnostics: Vec::new(),
        };
        match File::read(path) {
            Err(error) => found.text = Err(format!("{error:#}")),
            Ok(file) => {
                found.text = Ok(String::from_utf8_lossy(&file.bytes).into_owned());
                match Reader::default().load(&file.bytes) {
                    Ok((desired, warnings)) => {
                        (found.desired, found.diagnostics) = (Some(desired), warnings);
                    }
                    Err(errors) => found.diagnostics = errors,
                }
            }
        }
        found
    }

    /// The text of the file; nothing if it cannot be read.
    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    fn readable(&self) -> anyhow::Result<&str> {
        self.text.as_deref().map_err(|error| anyhow!("{error}"))
    }

    /// Rights and content, without secrets.
    pub(super) fn file(&self) -> Part {
        let found = fs::metadata(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let changed = u64::try_from(found.mtime()).map(local).unwrap_or_default();
        let rights = format!(
            "{}, mode {:04o}, owner {}, group {}, {} bytes, changed {changed}",
            self.path.display(),
            found.mode() & 0o7777,
            found.uid(),
            found.gid(),
            found.len()
        );
        Ok(format!(
            "{rights}\n{}",
            diagnostic::hidden(self.readable()?)
        ))
    }

    /// As `check` prints it.
    pub(super) fn check(&self) -> Part {
        let (text, name) = (self.readable()?, self.path.display().to_string());
        let mut said = diagnostic::render(&self.diagnostics, &name, text, false);
        said.extend(distrust(&self.path));
        let verdict = match &self.desired {
            Some(desired) => format!("{name}: ok, {}", status::summary(desired)),
            None => format!("{name}: invalid"),
        };
        Ok(format!("{said}\n{verdict}").trim_start().to_owned())
    }

    fn desired(&self) -> anyhow::Result<&Desired> {
        self.desired.as_ref().context("there is no valid file")
    }

    /// With the addresses of DNS names.
    fn resolved(&self, observer: &mut Observer) -> anyhow::Result<Desired> {
        resolved(self.desired()?.clone(), &self.names, observer)
    }

    /// As `plan` prints it.
    pub(super) fn plan(&self) -> Part {
        let mut observer = Observer::open(&self.pin_path)?;
        let desired = self.resolved(&mut observer)?;
        let seen = Seen::look(&mut observer, &desired)?;
        Ok(seen.preview(&desired)?.to_string())
    }

    /// As `status` prints it.
    pub(super) fn status(&self) -> Part {
        let status = status::read(&self.pin_path)?;
        let mut status = status.map_or_else(|| without_maps(&self.pin_path), Ok)?;
        let lacks_address = status.lacks_address();
        if let Some((desired, names)) = of_daemon(&self.pin_path, &self.names, lacks_address) {
            status.add_dns_names(&desired, &names);
        }
        let (color, is_chosen) = (false, false);
        Ok(status.text(View { color, is_chosen }))
    }

    /// Which way the kernel sends what goes to each endpoint.
    pub(super) fn routes(&self) -> Part {
        let mut lines = output("ip", &["rule"])? + &output("ip", &["-6", "rule"])?;
        let desired = self.resolved(&mut Observer::open(&self.pin_path)?)?;
        for endpoint in &desired.endpoints {
            let name = &endpoint.name;
            let Some(address) = endpoint.address else {
                lines.push_str(&format!("endpoint {name}: no address\n"));
                continue;
            };
            let route = output("ip", &["route", "get", &address.to_string()])?;
            lines.push_str(&format!("endpoint {name}: {route}"));
        }
        Ok(lines)
    }

    /// What `ethtool` says of the interfaces that the daemon uses.
    pub(super) fn features(&self) -> Part {
        let status = status::read(&self.pin_path)?.context("nothing is mirrored")?;
        let sources = status.interfaces.iter().filter_map(|one| one.name.clone());
        let outputs = status.outputs.iter().map(|one| one.interface.clone());
        let names: BTreeSet<String> = sources.chain(outputs).collect();
        let mut lines = String::new();
        for name in names {
            let said = output("ethtool", &["--show-features", &name])?;
            let on = said.lines().filter(|line| {
                let is_of_interest = FEATURES.iter().any(|word| line.contains(word));
                is_of_interest && line.contains(": on")
            });
            let on: Vec<&str> = on
                .filter_map(|line| line.trim().split(':').next())
                .collect();
            lines.push_str(&format!("{name}: {}\n", on.join(" ")));
        }
        Ok(lines)
    }

    /// The names below the pin path.
    pub(super) fn pins(&self) -> Part {
        let mut names = Vec::new();
        below(&self.pin_path, &mut names)?;
        names.sort();
        Ok(names.iter().map(|name| format!("{name}\n")).collect())
    }
}

fn below(directory: &Path, names: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        names.push(entry.path().display().to_string());
        if entry.file_type()?.is_dir() {
            below(&entry.path(), names)?;
        }
    }
    Ok(())
}
