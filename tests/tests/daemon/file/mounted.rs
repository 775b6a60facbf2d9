//! A file that is mounted by itself, as containers have it, and a host without a free inotify
//! instance.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::{Launch, binary};
use traffic_mirror_tests::lab::{TempDir, deadline};

use crate::site::{Site, config, install, status_of, status_until};

/// Far less than the slow timer.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_file_that_is_mounted_by_itself_is_watched() -> Result<()> {
    let mut site = Site::new()?;
    let (outside, place) = (TempDir::new()?, TempDir::new()?);
    let file = outside.path().join("mirror.toml");
    fs::write(&file, config(&[53]))?;
    // the same name, in a directory that nobody else sees
    let (script, keep) = (place.path().join("container"), place.path().join("keep"));
    fs::write(&keep, "")?;
    let [file_, keep, directory] =
        [&file, &keep, &outside.path().to_owned()].map(|path| path.display().to_string());
    let mounts =
        format!("mount --bind {file_} {keep} && mount -t tmpfs none {directory} && touch {file_}");
    let inside = format!("{mounts} && mount --bind {keep} {file_} && exec \"$@\"");
    install(
        &script,
        &format!(
            "#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh {} \"$@\"\n",
            binary()?.display()
        ),
    )?;
    let launch = Launch {
        binary: Some(script),
        config: Some(file.clone()),
        ..Launch::default()
    };
    let mut daemon = site.launch(&[53], launch)?;
    site.expect(53, 1)?;
    for port in [54, 55] {
        let begin = Instant::now();
        fs::write(&file, config(&[port]))?;
        daemon.reload_done(deadline())?;
        ensure!(begin.elapsed() < SOON, "live after {:?}", begin.elapsed());
        site.expect(port, 1)?;
    }
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["file"]["state"]),
        (0, &"live".into()),
        "{status:#}"
    );

    // outside, another takes its place, which cannot be seen inside
    let begin = Instant::now();
    daemon.write_config(&config(&[56]))?;
    let line = daemon.wait_line(
        |line| line.contains("was replaced or deleted outside of this mount"),
        deadline(),
    )?;
    ensure!(
        line.contains("WARN") && begin.elapsed() < SOON,
        "{line} after {:?}",
        begin.elapsed()
    );
    let (code, status) = status_of(&daemon)?;
    assert_eq!(
        (code, &status["file"]["state"]),
        (1, &"orphan".into()),
        "{status:#}"
    );
    // and mirroring goes on as before
    site.expect(55, 1)?;
    let told = daemon
        .output()
        .iter()
        .filter(|line| line.contains("outside of this mount"))
        .count();
    assert_eq!(told, 1);
    Ok(())
}

#[test]
fn without_an_inotify_instance_the_file_is_looked_at() -> Result<()> {
    let mut site = Site::new()?;
    let directory = TempDir::new()?;
    let script = directory.path().join("without");
    // as with fs.inotify.max_user_instances used up by others, some of which end later
    let inject = "inject=inotify_init1:error=EMFILE:when=1..6";
    let strace =
        format!("strace -D -f -q -o /dev/null -e trace=inotify_init1 -e signal=none -e {inject}");
    install(
        &script,
        &format!("#!/bin/sh\nexec {strace} {} \"$@\"\n", binary()?.display()),
    )?;
    let mut daemon = site.launch(
        &[53],
        Launch {
            binary: Some(script),
            ..Launch::default()
        },
    )?;
    let is_it = |line: &&String| line.contains("fs.inotify.max_user_instances");
    let output = daemon.output();
    let line = output
        .iter()
        .find(is_it)
        .context("the sysctl is not named")?;
    assert!(line.contains("WARN cannot watch "), "{line}");
    daemon.write_config(&config(&[54]))?;
    let begin = Instant::now();
    daemon.reload_done(deadline())?;
    ensure!(begin.elapsed() < SOON, "live after {:?}", begin.elapsed());
    site.expect(54, 1)?;
    daemon.wait_line(
        |line| line.contains("INFO the daemon receives events of "),
        deadline(),
    )?;
    assert_eq!(
        daemon.output().iter().filter(is_it).count(),
        1,
        "it is said once"
    );
    daemon.write_config(&config(&[55]))?;
    daemon.reload_done(deadline())?;
    site.expect(55, 1)?;
    status_until(&daemon, |code, _| code == 0)?;
    Ok(())
}
