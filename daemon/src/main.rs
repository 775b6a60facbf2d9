//! `traffic-mirror`: arguments and exit codes.

mod commands;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use commands::Question;
use tracing::Level;
use traffic_mirror::daemon::{self, Options, Outcome};
use traffic_mirror::journal;
use traffic_mirror::kernel::{self, Kernel, Mechanism, reason};

/// Mirrors chosen traffic into GUE tunnels, driven by one file
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The configuration file; if not given, the one that the daemon follows, else /etc/mirror.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory in a bpf file system for maps and links
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/traffic-mirror"
    )]
    pin_path: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror until SIGTERM; SIGHUP or saving the file makes changes take effect
    ///
    /// SIGUSR2 ends the daemon, too, but leaves mirroring on, until the next one takes over.
    Run {
        /// How programs are attached; the kernel's best if not given
        #[arg(long, value_enum, value_name = "HOW")]
        attach: Option<Attach>,
        /// Where metrics go; by default traffic-mirror.prom in the directory of node_exporter's
        /// textfile collector, or if there is none, /run/traffic-mirror/metrics.prom
        #[arg(long, value_name = "FILE")]
        metrics: Option<PathBuf>,
    },
    /// Check a file, without touching anything
    ///
    /// Warns of interfaces that this host does not have. Exits with 0 if the file is right, with 1
    /// if it is not.
    Check {
        /// The file, or - for standard input; if not given, as with --config
        file: Option<PathBuf>,
        /// The file is for another host: do not compare it with the interfaces of this one
        #[arg(long)]
        any_host: bool,
    },
    /// Show what taking the file would change in the kernel, without touching anything
    ///
    /// Exits with 0 if nothing would change, 2 if something would, 1 on an error.
    Plan {
        /// The file, or - for standard input; if not given, as with --config
        file: Option<PathBuf>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Wait until the file is the live one
    ///
    /// Exits with 0 once it is; with 1 at the end of the time, or at once if the file is wrong, the
    /// daemon has rejected it, or no daemon is there to take it.
    Wait {
        /// How long to wait; without end if not given
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
    },
    /// Say what happens to a packet and why, asking the kernel's tables; nothing is sent, nothing
    /// is counted
    ///
    /// Exits with 0 if there is an answer, 3 if nothing is mirrored, 1 on an error.
    Explain(Question),
    /// Show what is mirrored, from the kernel
    ///
    /// Exits with 0, 1 if something that is wanted does not work, 3 if nothing is mirrored.
    Status {
        /// Packets and bits per second too, which takes a second
        #[arg(long)]
        rates: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show rates, live, what moves most on top; one picture if the output is no terminal
    ///
    /// Exits as status does.
    Top {
        /// One picture
        #[arg(long)]
        once: bool,
    },
    /// Remove everything from the kernel, after a daemon that could not
    Detach,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Attach {
    /// TCX links (kernel 6.6 and newer)
    Tcx,
    /// Filters of a clsact qdisc
    Clsact,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "write a number of seconds such as 30 or 0.5".to_owned())
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
        Command::Run { attach, metrics } => run(&arguments, *attach, metrics.clone()),
        Command::Check { file, any_host } => commands::check(
            &followed(&arguments, file.as_ref()),
            file.is_none(),
            *any_host,
        ),
        Command::Plan { file, json } => commands::plan(
            &followed(&arguments, file.as_ref()),
            file.is_none(),
            &arguments.pin_path,
            *json,
        ),
        Command::Wait { timeout } => {
            commands::wait(&followed(&arguments, None), &arguments.pin_path, *timeout)
        }
        Command::Explain(question) => commands::explain(question, &arguments.pin_path),
        Command::Status { rates, json } => commands::status(&arguments.pin_path, *rates, *json),
        Command::Top { once } => commands::top(&arguments.pin_path, *once),
        Command::Detach => detach(&arguments.pin_path),
    };
    result.unwrap_or_else(|error| {
        journal::say(
            Level::ERROR,
            &format!("error: {}\n", reason(error.as_ref())),
        );
        FAILURE.into()
    })
}

/// The file to look at: the one that is given, else the one that the daemon follows. Who may not
/// ask for that, as `check` without privileges, looks at the usual one.
fn followed(arguments: &Arguments, file: Option<&PathBuf>) -> PathBuf {
    let given = file.or(arguments.config.as_ref()).cloned();
    let told = || kernel::record(&arguments.pin_path).map(|record| record.path);
    given.or_else(told).unwrap_or_else(|| USUAL.into())
}

fn run(
    arguments: &Arguments,
    attach: Option<Attach>,
    metrics: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    // the journal adds the time itself
    let log = tracing_subscriber::fmt()
        .with_writer(journal::Log)
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(false);
    if journal::is_ours() {
        log.without_time().init();
    } else {
        log.init();
    }
    let mechanism = attach.map(|attach| match attach {
        Attach::Tcx => Mechanism::Tcx,
        Attach::Clsact => Mechanism::Clsact,
    });
    let Arguments {
        config, pin_path, ..
    } = arguments;
    let config = config.clone().unwrap_or_else(|| USUAL.into());
    let options = Options {
        config,
        pin_path: pin_path.clone(),
        mechanism,
        metrics,
    };
    Ok(match daemon::run(&options)? {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::BadConfig => CONFIG.into(),
    })
}

fn detach(pin_path: &Path) -> anyhow::Result<ExitCode> {
    // whoever may not look there would find nothing to remove
    kernel::require_capabilities()?;
    if pin_path
        .try_exists()
        .with_context(|| format!("cannot look for {}", pin_path.display()))?
    {
        Kernel::claim(pin_path, None)?.remove()?;
    } else {
        // whoever has removed the pins has not removed this
        Kernel::remove_segmenter_of(pin_path)?;
    }
    Ok(ExitCode::SUCCESS)
}
