//! `traffic-mirror`: arguments and exit codes.

use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use traffic_mirror::daemon::{self, Options, Outcome};
use traffic_mirror::kernel::{Kernel, Mechanism};
use traffic_mirror::{desired, diagnostic, status};

/// Mirrors chosen traffic into GUE tunnels, driven by one file
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/mirror.toml")]
    config: PathBuf,
    /// Directory in a bpf file system for maps and links
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/traffic-mirror")]
    pin_path: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror until SIGTERM; SIGHUP or saving the file makes changes take effect
    Run {
        /// How programs are attached; the kernel's best if not given
        #[arg(long, value_enum, value_name = "HOW")]
        attach: Option<Attach>,
    },
    /// Check a file, without touching anything
    Check {
        /// The file, or - for standard input; --config if not given
        file: Option<PathBuf>,
    },
    /// Show what is mirrored, from the kernel
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
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

/// Exit codes, sysexits.h where it has one.
const FAILURE: u8 = 1;
const NOT_RUNNING: u8 = 3;
const USAGE: u8 = 64;
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // nothing can be done if it cannot be printed
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match &arguments.command {
        Command::Run { attach } => run(&arguments, *attach),
        Command::Check { file } => check(file.as_deref().unwrap_or(&arguments.config)),
        Command::Status { json } => show(&arguments.pin_path, *json),
        Command::Detach => detach(&arguments.pin_path),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        FAILURE.into()
    })
}

fn run(arguments: &Arguments, attach: Option<Attach>) -> anyhow::Result<ExitCode> {
    // the journal adds the time itself
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    if is_journal(std::io::stderr()) {
        log.without_time().init();
    } else {
        log.init();
    }
    let mechanism = attach.map(|attach| match attach {
        Attach::Tcx => Mechanism::Tcx,
        Attach::Clsact => Mechanism::Clsact,
    });
    let options = Options { config: arguments.config.clone(), pin_path: arguments.pin_path.clone(), mechanism };
    Ok(match daemon::run(&options)? {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::BadConfig => CONFIG.into(),
    })
}

/// Whether a stream is the journal's, as systemd.exec(5) tells: children that write elsewhere inherit the variable too.
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(stat) = nix::sys::stat::fstat(stream) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|journal| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        ("<stdin>".to_owned(), bytes)
    } else {
        (path.display().to_string(), fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)
    };
    let text = String::from_utf8_lossy(&bytes);
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let print = |diagnostics: &[diagnostic::Diagnostic]| {
        eprint!("{}", diagnostic::render(diagnostics, &name, &text, color));
    };
    match desired::load_bytes(&bytes) {
        Ok((desired, warnings)) => {
            print(&warnings);
            println!("{name}: ok, {}", status::summary(&desired));
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            print(&errors);
            let count = errors.len();
            eprintln!("{name}: {count} error{}", if count == 1 { "" } else { "s" });
            Ok(FAILURE.into())
        }
    }
}

fn show(pin_path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(status) = status::read(pin_path)? else {
        eprintln!("nothing is mirrored below {}", pin_path.display());
        return Ok(NOT_RUNNING.into());
    };
    let text = if json { serde_json::to_string_pretty(&status)? + "\n" } else { status.to_string() };
    // a closed pipe is the reader's choice
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if status.degraded { FAILURE.into() } else { ExitCode::SUCCESS })
}

fn detach(pin_path: &Path) -> anyhow::Result<ExitCode> {
    if pin_path.exists() {
        Kernel::claim(pin_path, None)?.remove()?;
    }
    Ok(ExitCode::SUCCESS)
}
