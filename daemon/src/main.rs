//! `traffic-mirror`: arguments and exit codes.

mod commands;
mod version;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use commands::{How, Question, Scope, Shown, Until, Wanted};
use tracing::Level;
use traffic_mirror::daemon::{self, Options, Outcome};
use traffic_mirror::kernel::{self, Kernel, Mechanism, reason};
use traffic_mirror::log;
use traffic_mirror_resolver::{NAMES, WANTED};

/// Mirror selected packets to collectors through GUE tunnels, configured by one file
#[derive(Debug, Parser)]
#[command(version, long_version = version::long(), max_term_width = 100)]
struct Arguments {
    /// Configuration file [default: the file of the running daemon, else /etc/mirror.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of pinned maps and links, in a bpf file system
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/traffic-mirror"
    )]
    pin_path: PathBuf,
    /// Addresses of the file's DNS names, which traffic-mirror-resolver writes
    #[arg(long, global = true, value_name = "FILE", default_value = NAMES)]
    dns_names: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground until SIGTERM
    ///
    /// The daemon loads the file whenever it is saved, and on SIGHUP. SIGTERM removes everything
    /// from the kernel. SIGUSR2 ends the daemon and leaves mirroring on until the next daemon takes
    /// over.
    ///
    /// Exit code: 0 stopped, 1 the kernel rejected something, 78 the file is invalid and nothing
    /// was mirrored before.
    Run {
        /// How to attach programs [default: tcx if the kernel has it, else clsact]
        #[arg(long, value_enum, value_name = "HOW")]
        attach: Option<Attach>,
        /// File for metrics [default: traffic-mirror.prom in the directory of node_exporter's
        /// textfile collector if that exists, else /run/traffic-mirror/metrics.prom]
        #[arg(long, value_name = "FILE")]
        metrics: Option<PathBuf>,
        /// Where the daemon writes the file's DNS names for traffic-mirror-resolver
        #[arg(long, value_name = "FILE", default_value = WANTED)]
        wanted_names: PathBuf,
        /// Log lines of this level and above
        #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
        log_level: LogLevel,
        /// How the lines of the log look; systemd's journal gets text with fields
        #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
        log_format: LogFormat,
    },
    /// Check whether files are valid; changes nothing
    ///
    /// Also warns of interfaces that this host does not have, and of DNS names without an address.
    ///
    /// Exit code: 0 all are valid, 1 one is invalid.
    Check {
        /// Files to check, or - for standard input [default: as for --config]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not compare the file with the interfaces of this host and the addresses that it knows of
        /// DNS names; for files of other hosts
        #[arg(long)]
        any_host: bool,
        /// Print JSON, each error with its place and the edit that corrects it
        #[arg(long)]
        json: bool,
    },
    /// Show what loading a file would change in the kernel; changes nothing
    ///
    /// Exit code: 0 no changes, 2 changes, 1 error.
    Plan {
        /// File to compare, or - for standard input [default: as for --config]
        file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait until the daemon has loaded the file
    ///
    /// Exit code: 0 as soon as the file is live (with --healthy: and the status is ok); 1 after the
    /// timeout, or at once if the file is invalid, the daemon has rejected it, or the daemon is not
    /// running. Standard error has the reason.
    Wait(Until),
    /// Show which filters match a packet, and where its copies go
    ///
    /// The programs in the kernel evaluate the packet with the live tables. They neither send nor
    /// count it.
    ///
    /// Exit code: 0 answered, 3 nothing is mirrored, 1 error.
    Explain(Question),
    /// Show what is mirrored, and what does not work
    ///
    /// The first line has the state, the first reason, the daemon and its file.
    ///
    /// Exit code: 0 ok, 1 degraded, 3 nothing is mirrored.
    Status(Wanted),
    /// Show rates live, the highest first
    ///
    /// Prints one screen and exits if the output is not a terminal.
    ///
    /// Exit code: as for status.
    Top(Shown),
    /// Print all that a bug report needs, as text; changes nothing
    ///
    /// Versions, the file without its secrets, check, plan, status, the programs on the interfaces,
    /// settings of the kernel and the end of the log. It works without a daemon, too: a part that
    /// cannot be read is replaced by the error. Look through it before you send it.
    ///
    /// Exit code: 0.
    Report(Scope),
    /// Remove programs, maps and links from the kernel; needed only after a crash
    Detach,
    /// Print the completions of a shell, for packages
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Attach {
    /// TCX links (kernel 6.6 and newer)
    Tcx,
    /// Filters of a clsact qdisc
    Clsact,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    /// What keeps the daemon from mirroring
    Error,
    /// Losses, and what may become one
    Warn,
    /// Changes, too
    Info,
    /// What wakes the daemon, too
    Debug,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The file, if no other is given.
const USUAL: &str = "/etc/mirror.toml";

/// Exit codes, sysexits.h where it has one.
const FAILURE: u8 = 1;
const CHANGES: u8 = 2;
const NOT_RUNNING: u8 = 3;
const USAGE: u8 = 64;
const CONFIG: u8 = 78;

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
    let result = match &arguments.command {
        Command::Run {
            attach,
            metrics,
            wanted_names,
            log_level,
            log_format,
        } => {
            begin_log(*log_level, *log_format);
            run(&arguments, *attach, metrics.clone(), wanted_names)
        }
        Command::Check {
            files,
            any_host,
            json,
        } => {
            let is_followed = files.is_empty();
            let mut files = files.clone();
            files.extend(is_followed.then(|| followed(&arguments, None)));
            let how = How {
                is_followed,
                any_host: *any_host,
                json: *json,
            };
            commands::check(&files, how, &arguments.dns_names)
        }
        Command::Plan { file, json } => commands::plan(
            &followed(&arguments, file.as_ref()),
            file.is_none(),
            &arguments.pin_path,
            &arguments.dns_names,
            *json,
        ),
        Command::Wait(until) => {
            commands::wait(until, &followed(&arguments, None), &arguments.pin_path)
        }
        Command::Explain(question) => {
            commands::explain(question, &arguments.pin_path, &arguments.dns_names)
        }
        Command::Status(wanted) => {
            commands::status(wanted, &arguments.pin_path, &arguments.dns_names)
        }
        Command::Top(shown) => commands::top(shown, &arguments.pin_path),
        Command::Report(scope) => {
            let version = Arguments::command().render_long_version();
            let path = followed(&arguments, None);
            commands::report(
                scope,
                &version,
                &path,
                (&arguments.pin_path, &arguments.dns_names),
            )
        }
        Command::Detach => detach(&arguments.pin_path),
        Command::Completions { shell } => {
            commands::completions(*shell, &Arguments::command());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        log::failed(&reason(error.as_ref()));
        FAILURE.into()
    })
}

/// The file that a command uses: the given one, else the one that the daemon follows. A user who
/// may not read the daemon's record, as in `check` without privileges, gets the default path.
fn followed(arguments: &Arguments, file: Option<&PathBuf>) -> PathBuf {
    let given = file.or(arguments.config.as_ref()).cloned();
    let told = || kernel::record(&arguments.pin_path).map(|record| record.path);
    given.or_else(told).unwrap_or_else(|| USUAL.into())
}

fn begin_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let format = match format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::begin(level, format);
}

fn run(
    arguments: &Arguments,
    attach: Option<Attach>,
    metrics: Option<PathBuf>,
    wanted_names: &Path,
) -> anyhow::Result<ExitCode> {
    let mechanism = attach.map(|attach| match attach {
        Attach::Tcx => Mechanism::Tcx,
        Attach::Clsact => Mechanism::Clsact,
    });
    let Arguments {
        config,
        pin_path,
        dns_names,
        ..
    } = arguments;
    let config = config.clone().unwrap_or_else(|| USUAL.into());
    let options = Options {
        config,
        pin_path: pin_path.clone(),
        mechanism,
        names: dns_names.clone(),
        wanted_names: wanted_names.to_owned(),
        metrics,
        revision: version::REVISION,
    };
    Ok(match daemon::run(&options)? {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::BadConfig => CONFIG.into(),
    })
}

fn detach(pin_path: &Path) -> anyhow::Result<ExitCode> {
    // a user who may not read the pin path would find nothing to remove
    kernel::require_capabilities()?;
    if pin_path
        .try_exists()
        .with_context(|| format!("cannot access {}", pin_path.display()))?
    {
        Kernel::claim(pin_path, None)?.remove()?;
    } else {
        // the segmenter has no pin: it stays when another process removes the pins
        Kernel::remove_segmenter_of(pin_path)?;
    }
    Ok(ExitCode::SUCCESS)
}
