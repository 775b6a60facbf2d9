//! Which build this is: the version of Cargo.toml, the revision of the source, the layout of the
//! tables.

use std::sync::LazyLock;

use traffic_mirror_ebpf::abi::LAYOUT;

/// The revision of the source, as git abbreviates it. The Makefile and the build of the packages set
/// the variable. Cargo compares it with that of the last build, so that a revision is never that of
/// an earlier build, and a new one compiles this program only, not the library.
pub(crate) const REVISION: &str = match option_env!("TRAFFIC_MIRROR_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};

/// What `--version` prints behind the name.
pub(crate) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\nrevision {REVISION}\ntable layout {LAYOUT}\n{}",
            env!("CARGO_PKG_VERSION"),
            env!("TRAFFIC_MIRROR_RUSTC"),
        )
    });
    &LONG
}
