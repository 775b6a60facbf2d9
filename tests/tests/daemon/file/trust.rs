//! Who may write the file steers production's packets: one that others may write is not taken.

use anyhow::{Context as _, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};
use traffic_mirror_tests::lab::{TempDir, deadline, process};

use super::ways::read_only;
use crate::site::{Site, command, config, install, shell, status_until};

/// Far less than the slow timer.
const SOON: Duration = Duration::from_secs(10);
const SOMEBODY: u32 = 1234;

fn chmod(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| path.display().to_string())
}

/// The file is `place/conf/mirror.toml`, by the link `place/shared/link`; `shared` is sticky.
struct Place {
    directory: TempDir,
    file: PathBuf,
    link: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = TempDir::new()?;
        let (conf, shared) = (
            directory.path().join("conf"),
            directory.path().join("shared"),
        );
        fs::create_dir(&conf)?;
        fs::create_dir(&shared)?;
        chmod(&shared, 0o1777)?;
        let (file, link) = (conf.join("mirror.toml"), shared.join("link"));
        symlink(&conf, &link)?;
        Ok(Self {
            directory,
            file,
            link,
        })
    }

    fn launch(&self) -> Launch {
        Launch {
            config: Some(self.link.join("mirror.toml")),
            ..Launch::default()
        }
    }
}

/// What somebody does to the rights, and how the error begins.
type Deed = (&'static str, fn(&Place) -> Result<()>, fn(&Place) -> String);

const DEEDS: [Deed; 7] = [
    (
        "a file for all",
        |place| chmod(&place.file, 0o666),
        |place| others(&place.file, "0666"),
    ),
    (
        "a file for a group",
        |place| {
            chown(&place.file, None, Some(SOMEBODY))?;
            chmod(&place.file, 0o664)
        },
        |place| others(&place.file, "0664"),
    ),
    (
        "a file of somebody",
        |place| Ok(chown(&place.file, Some(SOMEBODY), None)?),
        |place| belongs(&place.file),
    ),
    (
        "a directory for all",
        |place| chmod(place.file.parent().context("no parent")?, 0o777),
        |place| others(&place.file.with_file_name(""), "0777"),
    ),
    (
        "a directory on the way",
        |place| chmod(place.directory.path(), 0o757),
        |place| others(place.directory.path(), "0757"),
    ),
    (
        "a shared directory without the sticky bit",
        |place| chmod(&place.link.with_file_name(""), 0o777),
        |place| others(&place.link.with_file_name(""), "0777"),
    ),
    (
        "a link that is somebody's",
        |place| Ok(lchown(&place.link, Some(SOMEBODY), None)?),
        |place| belongs(&place.link),
    ),
];

fn name(path: &Path) -> String {
    path.display().to_string().trim_end_matches('/').to_owned()
}

fn others(path: &Path, mode: &str) -> String {
    format!(
        "users other than root may write {} (mode {mode}, ",
        name(path)
    )
}

fn belongs(path: &Path) -> String {
    format!("{} belongs to user {SOMEBODY}", name(path))
}

/// What the error says to do.
fn remedy(line: &str) -> Result<&str> {
    line.rsplit_once("; ")
        .map(|(_, remedy)| remedy)
        .context("no remedy")
}

fn reasons(status: &serde_json::Value) -> String {
    status["reasons"].to_string()
}

#[test]
fn what_others_may_write_changes_nothing_until_its_rights_are_right() -> Result<()> {
    let mut site = Site::new()?;
    let place = Place::new()?;
    let daemon = site.launch(&[1000], place.launch())?;
    for (port, (what, deed, told)) in (1000..).zip(DEEDS) {
        let said = daemon.output().len();
        deed(&place).context(what)?;
        let told = told(&place);
        let line = daemon
            .wait_line(|line| line.contains(&told), deadline())
            .with_context(|| format!("{what}: {told}"))?;
        ensure!(line.contains(" ERROR "), "{what}: {line}");
        fs::write(&place.file, config(&[port + 1]))?;
        let reason = |status: &serde_json::Value| reasons(status).contains(&told);
        status_until(&daemon, |code, status| code == 1 && reason(status)).context(what)?;
        site.expect(port, 1).context(what)?;
        let errors = daemon.output()[said..]
            .iter()
            .filter(|line| line.contains(" ERROR "))
            .count();
        ensure!(errors == 1, "{what}: {:?}", &daemon.output()[said..]);

        let begin = Instant::now();
        shell(remedy(&line)?)?;
        daemon
            .wait_line(
                |line| line.ends_with(&format!("INFO + filter port-{}", port + 1)),
                deadline(),
            )
            .context(what)?;
        ensure!(
            begin.elapsed() < SOON,
            "{what}: live after {:?}",
            begin.elapsed()
        );
        status_until(&daemon, |code, _| code == 0).context(what)?;
        site.expect(port + 1, 1).context(what)?;
        // as before
        chmod(&place.link.with_file_name(""), 0o1777)?;
    }
    Ok(())
}

#[test]
fn with_a_file_that_others_may_write_nothing_begins() -> Result<()> {
    let site = Site::new()?;
    let place = Place::new()?;
    let launch = place.launch();
    let path = launch.config.clone().context("no file")?;
    let mut daemon = site.launch(&[53], launch)?;
    chmod(&place.file, 0o666)?;
    let told = others(&place.file, "0666");
    daemon.wait_line(|line| line.contains(&told), deadline())?;
    for (args, code) in [
        (&["check"][..], 1),
        (&["plan"], 1),
        (&["wait", "--timeout", "10"], 1),
    ] {
        let output = daemon.run(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            process::code(output.status) == code && said.contains(&told),
            "{args:?}: {said}"
        );
    }
    // of another file nobody says that a daemon follows it
    let path = path.display().to_string();
    let output = process::output(&mut command(&["check", &path, "--any-host"])?, deadline())?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    daemon.restart()?;
    assert_eq!(daemon.wait_exit(deadline())?, 78);
    daemon.wait_line(|line| line.contains(&told), deadline())?;
    site.bare(daemon.pin_path())
}

#[test]
fn on_a_read_only_mount_nobody_can_write() -> Result<()> {
    let mut site = Site::new()?;
    let place = TempDir::new()?;
    // as a configMap of Kubernetes
    let (script, files) = (place.path().join("container"), place.path().join("files"));
    fs::create_dir(&files)?;
    chmod(&files, 0o777)?;
    fs::create_dir(files.join("..1"))?;
    symlink("..1", files.join("..data"))?;
    symlink("..data/mirror.toml", files.join("mirror.toml"))?;
    install(&script, &read_only(&files, "exec")?)?;
    let launch = |env: &[(&str, &str)]| Launch {
        binary: Some(script.clone()),
        config: Some(files.join("..1/mirror.toml")),
        env: env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Launch::default()
    };
    let mut daemon = site.launch(&[53], launch(&[]))?;
    site.expect(53, 1)?;
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(daemon.wait_exit(deadline())?, 0);
    // systemd mounts over what everybody else can write (ProtectSystem=)
    let mut daemon = Daemon::spawn(
        &site.edge,
        &config(&[53]),
        launch(&[("INVOCATION_ID", "1")]),
    )?;
    assert_eq!(daemon.wait_exit(deadline())?, 78);
    daemon
        .wait_line(|line| line.contains(&others(&files, "0777")), deadline())
        .map(drop)
}
