//! `traffic-mirror-resolver`: keeps the addresses of the DNS names that the daemon's file has, so
//! that the daemon needs no network socket.

mod ask;
mod cache;
mod gather;
mod journal;
mod random;
mod schedule;
mod service;
mod store;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::Parser;
use traffic_mirror_resolver::{NAMES, WANTED};

use ask::Sources;
use journal::{Priority, say};
use service::Options;

/// What `--version` prints: the revision is that of the source, which the Makefile and the build of
/// the packages set.
fn long_version() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let revision = option_env!("TRAFFIC_MIRROR_REVISION").filter(|text| !text.is_empty());
        let revision = revision.unwrap_or("unknown");
        format!("{}\nrevision {revision}", env!("CARGO_PKG_VERSION"))
    });
    &LONG
}

/// Keep the addresses of DNS names for traffic-mirror
///
/// Resolves the names that the daemon wants and writes their addresses to a file, which the daemon
/// loads. SIGHUP resolves all names at once. Ends with SIGTERM, or when the list of names is removed.
///
/// Exit code: 0 stopped, 1 no list of names, or the file cannot be written.
#[derive(Debug, Parser)]
#[command(version, long_version = long_version(), max_term_width = 100)]
struct Arguments {
    /// List of names, one a line
    #[arg(long, value_name = "FILE", default_value = WANTED)]
    wanted: PathBuf,
    /// File for their addresses
    #[arg(long, value_name = "FILE", default_value = NAMES)]
    names: PathBuf,
    /// Socket of systemd-resolved, which is asked if it exists
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "/run/systemd/resolve/io.systemd.Resolve"
    )]
    resolved: PathBuf,
    /// Names of this host, without systemd-resolved
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts")]
    hosts: PathBuf,
    /// DNS servers, without systemd-resolved
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Port of the DNS servers; for tests, since resolv.conf has none
    #[arg(long, value_name = "PORT", default_value_t = 53, hide = true)]
    port: u16,
}

/// Exit code of wrong usage, as in sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // nothing can be done if it cannot be printed
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let options = Options {
        wanted: arguments.wanted,
        names: arguments.names,
        sources: Sources {
            resolved: arguments.resolved,
            resolv_conf: arguments.resolv_conf,
            hosts: arguments.hosts,
            port: arguments.port,
        },
    };
    match service::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(Priority::Error, &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
