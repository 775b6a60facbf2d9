//! The real daemon as a child process, with a configuration, a pin directory and a notification
//! socket of its own. What it says and notifies is recorded; waiting for it never sleeps.

mod accounting;
mod log;
#[cfg(test)]
mod tests;

use super::netns::{Netns, command_in, ensure_bpffs, enter};
use super::{TempDir, deadline, process, schema, unique};
use accounting::Page;
use anyhow::{Context as _, Result, bail, ensure};
use log::{Log, listen, read_lines};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Whether a line of the log is about an update that the network caused: such lines may come at any
/// time, as when a neighbour is found.
pub fn is_of_network(line: &str) -> bool {
    line.contains(" map write") && !line.contains("loaded the file: ")
}

/// How a daemon is started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The binary; by default [`binary`].
    pub binary: Option<PathBuf>,
    /// Where the configuration file is; by default in a directory of its own.
    pub config: Option<PathBuf>,
    /// Where metrics go; by default in a directory of its own.
    pub metrics: Option<PathBuf>,
    /// Arguments of `run` beside these and `--pin-path`.
    pub args: Vec<OsString>,
    /// Environment beside the inherited one.
    pub env: Vec<(OsString, OsString)>,
}

/// A daemon in a namespace, which it keeps alive. On drop it is stopped and whatever it pinned is
/// detached.
///
/// Without being asked, each test that starts one asserts that its counters add up: before
/// [`Self::write_config`] and SIGTERM, and on drop, which panics if they do not, as nobody is left
/// to return an error to.
#[derive(Debug)]
pub struct Daemon {
    netns: OwnedFd,
    launch: Launch,
    binary: PathBuf,
    directory: TempDir,
    pin_path: PathBuf,
    notifications: UnixDatagram,
    log: Arc<Log>,
    child: Option<Child>,
    page: Option<Page>,
    has_accounts: bool,
    /// How many notifications there were when it was last started.
    said_before: usize,
    readers: Vec<JoinHandle<()>>,
    listener: Option<JoinHandle<()>>,
}

/// The binary under test: `$TRAFFIC_MIRROR_BIN`, or what the workspace's release or debug build
/// made.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRAFFIC_MIRROR_BIN") {
        return Ok(path.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let candidates = ["release", "debug"].map(|profile| {
        workspace
            .join("target")
            .join(profile)
            .join("traffic-mirror")
    });
    let found = candidates.into_iter().find(|path| path.exists());
    found.context("traffic-mirror is not built: run `cargo build --release`, or set TRAFFIC_MIRROR_BIN to its path")
}

impl Daemon {
    /// Starts the daemon with a configuration, and waits until it is ready.
    pub fn start(netns: &Netns, config: &str) -> Result<Self> {
        let mut daemon = Self::spawn(netns, config, Launch::default())?;
        daemon.ready(deadline())?;
        Ok(daemon)
    }

    /// Starts the daemon with a configuration, and does not wait.
    pub fn spawn(netns: &Netns, config: &str, launch: Launch) -> Result<Self> {
        ensure_bpffs()?;
        let binary = launch.binary.clone().map_or_else(binary, Ok)?;
        let directory = TempDir::new()?;
        let path = directory.path().join("notify");
        let notifications =
            UnixDatagram::bind(&path).with_context(|| format!("bind {}", path.display()))?;
        let log = Arc::new(Log::default());
        let (socket, recorded) = (notifications.try_clone()?, Arc::clone(&log));
        let mut daemon = Self {
            netns: netns.as_fd().try_clone_to_owned()?,
            launch,
            binary,
            directory,
            pin_path: Path::new("/sys/fs/bpf").join(unique("traffic-mirror-test")),
            notifications,
            log,
            child: None,
            page: None,
            has_accounts: true,
            said_before: 0,
            readers: Vec::new(),
            listener: Some(std::thread::spawn(move || listen(&socket, &recorded))),
        };
        daemon.write_config(config)?;
        daemon.restart()?;
        Ok(daemon)
    }

    /// Starts it again with the same files and pins, after [`Self::wait_exit`]. The record goes on.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the daemon still runs");
        self.page_of_a_start();
        let mut command = Command::new(&self.binary);
        command.args(self.arguments("run"));
        command.arg("--metrics").arg(self.metrics_path());
        command.arg("--wanted-names").arg(self.wanted_names_path());
        command
            .args(&self.launch.args)
            .envs(self.launch.env.iter().cloned());
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.enter(|| {
            command
                .spawn()
                .with_context(|| format!("start {}", self.binary.display()))
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        self.child = Some(child);
        self.log.lock().open_streams = 2;
        self.readers
            .extend(stdout.map(|stream| read_lines(stream, &self.log)));
        self.readers
            .extend(stderr.map(|stream| read_lines(stream, &self.log)));
        Ok(())
    }

    /// The same, with other arguments.
    pub fn restart_with(&mut self, launch: Launch) -> Result<()> {
        self.launch.args = launch.args;
        self.restart()
    }

    /// A command line of the same binary in the same namespace, with `--config` and `--pin-path` of
    /// this daemon.
    pub fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = command_in(&self.netns, &self.binary)?;
        command.args(self.arguments(subcommand));
        Ok(command)
    }

    fn arguments(&self, subcommand: &str) -> Vec<OsString> {
        let paths = [self.config_path(), self.pin_path.clone(), self.names_path()];
        let [config, pin_path, names] = paths.map(OsString::from);
        vec![
            subcommand.into(),
            "--config".into(),
            config,
            "--pin-path".into(),
            pin_path,
            "--dns-names".into(),
            names,
        ]
    }

    /// Runs a subcommand such as `["status", "--json"]` to its end, whatever its exit status. JSON
    /// that it prints must be as the published schema says.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let (subcommand, rest) = args.split_first().context("no subcommand")?;
        let mut command = Command::new(&self.binary);
        let output = self.enter(|| {
            process::output(
                command.args(self.arguments(subcommand)).args(rest),
                deadline(),
            )
        })?;
        if rest.contains(&"--json") && !output.stdout.is_empty() {
            schema::check(subcommand, &output.stdout)?;
        }
        Ok(output)
    }

    /// Runs `work` on a thread inside its namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(&self.netns, work)
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.launch
            .config
            .clone()
            .unwrap_or_else(|| self.directory.path().join("mirror.toml"))
    }

    /// The file with its metrics.
    pub fn metrics_path(&self) -> PathBuf {
        self.launch
            .metrics
            .clone()
            .unwrap_or_else(|| self.directory.path().join("metrics.prom"))
    }

    /// The file with the addresses of DNS names, which nobody writes but the test.
    pub fn names_path(&self) -> PathBuf {
        self.directory.path().join("names/names.toml")
    }

    /// The list of DNS names that it writes.
    pub fn wanted_names_path(&self) -> PathBuf {
        self.directory.path().join("wanted-names")
    }

    /// The directory of its pins.
    pub fn pin_path(&self) -> &Path {
        &self.pin_path
    }

    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Replaces the configuration by rename, as editors and configuration management do.
    pub fn write_config(&self, text: &str) -> Result<()> {
        self.adds_up(Instant::now())?;
        let beside = self.config_path().with_file_name(".mirror.toml.new");
        fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
        fs::rename(&beside, self.config_path())
            .with_context(|| format!("replace {}", self.config_path().display()))
    }

    /// Waits for `READY=1`. That the daemon exits instead is an error at once.
    pub fn ready(&mut self, deadline: Instant) -> Result<()> {
        self.notified("READY=1", deadline)?;
        if self.page.is_none() {
            self.open_page();
        }
        Ok(())
    }

    /// Waits for `RELOADING=1`, sent after what was last waited for.
    pub fn reloading(&mut self, deadline: Instant) -> Result<()> {
        self.notified("RELOADING=1", deadline).map(drop)
    }

    /// Waits for `RELOADING=1` and the `READY=1` after it, both sent after what was last waited
    /// for. Returns when the latter came.
    pub fn reload_done(&mut self, deadline: Instant) -> Result<Instant> {
        self.reloading(deadline)?;
        let time = self.notified("READY=1", deadline)?;
        self.open_page();
        Ok(time)
    }

    fn notified(&self, wanted: &str, deadline: Instant) -> Result<Instant> {
        let (time, _) = self.log.wait(
            |record| &mut record.notifications,
            wanted,
            |line| line == wanted,
            deadline,
        )?;
        Ok(time)
    }

    /// Waits for a line of output for which `wanted` holds, after the line that was last waited
    /// for. Lines of standard output and standard error are in one record, in the order they were
    /// read.
    pub fn wait_line(&self, wanted: impl Fn(&str) -> bool, deadline: Instant) -> Result<String> {
        self.log
            .wait(|record| &mut record.output, "the line", wanted, deadline)
            .map(|(_, line)| line)
    }

    /// All it has notified so far, since the first start.
    pub fn notifications(&self) -> Vec<String> {
        self.log.lock().notifications.lines.clone()
    }

    /// All it has said so far, since the first start.
    pub fn output(&self) -> Vec<String> {
        self.log.lock().output.lines.clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the daemon does not run")?;
        if signal == Signal::SIGTERM {
            self.adds_up(Instant::now())?;
        }
        kill(Pid::from_raw(pid as i32), signal)
            .with_context(|| format!("send {signal} to process {pid}"))
    }

    /// Waits until it has exited, and returns its exit code, or 128 and the number of the signal
    /// that killed it.
    pub fn wait_exit(&mut self, deadline: Instant) -> Result<i32> {
        let child = self.child.as_mut().context("the daemon does not run")?;
        let Some(status) = process::wait(child, deadline)? else {
            bail!(
                "process {} did not exit in time{}",
                child.id(),
                self.log.lock().said()
            );
        };
        self.child = None;
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader does not panic");
        }
        Ok(process::code(status))
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(pid) = self.pid() {
            kill(Pid::from_raw(pid as i32), Signal::SIGTERM)?;
            if self.wait_exit(deadline()).is_err() {
                eprintln!("traffic-mirror does not stop on SIGTERM");
                self.signal(Signal::SIGKILL)?;
                self.wait_exit(deadline())?;
            }
        }
        let mut command = Command::new(&self.binary);
        self.enter(|| process::succeed(command.args(self.arguments("detach")), deadline()))?;
        ensure!(
            !self.pin_path.exists(),
            "`detach` left {}",
            self.pin_path.display()
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let accounting = if std::thread::panicking() {
            Ok(())
        } else {
            self.adds_up(deadline())
        };
        if let Err(error) = self.stop() {
            eprintln!("{error:#}{}", self.log.lock().said());
            // nothing may stay behind, not even after a daemon that fails at it
            if self.pin_path.exists()
                && let Err(error) = fs::remove_dir_all(&self.pin_path)
            {
                eprintln!("remove {}: {error}", self.pin_path.display());
            }
        }
        // ends `listen`
        if let Err(error) = self.notifications.shutdown(Shutdown::Both) {
            eprintln!("shut the notification socket: {error}");
        }
        if let Some(Err(panic)) = self.listener.take().map(JoinHandle::join) {
            eprintln!("the listener panicked: {panic:?}");
        }
        assert!(
            accounting.is_ok(),
            "{:#}{}",
            accounting.unwrap_err(),
            self.log.lock().said()
        );
    }
}
