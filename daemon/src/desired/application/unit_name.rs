//! How systemd names units (systemd.unit(5)).

use crate::desired::name::is_glob;

/// The kinds of units whose processes have a cgroup.
pub(super) const KINDS: [&str; 6] = ["service", "scope", "slice", "socket", "mount", "swap"];

/// Those that start or group other units.
pub(super) const IDLE_KINDS: [&str; 5] = ["timer", "path", "automount", "target", "device"];

/// What systemd allows in the name of a unit (`VALID_CHARS_WITH_AT`), and globs.
pub(super) fn may_be_in_unit(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
        || matches!(c, '*' | '?' | '[' | ']' | '!')
}

/// The slice that systemd puts a slice into; none for one without a dash, or for a glob.
pub(super) fn parent_slice(name: &str) -> Option<String> {
    let (above, _) = name.strip_suffix(".slice")?.rsplit_once('-')?;
    (!above.is_empty() && !is_glob(name)).then(|| format!("{above}.slice"))
}
