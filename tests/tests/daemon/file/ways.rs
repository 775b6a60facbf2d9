//! Each way of saving it that a program or a shell has.

use anyhow::{Result, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use traffic_mirror_tests::lab::TempDir;
use traffic_mirror_tests::lab::daemon::{Daemon, Launch};

use super::{Desk, Save, lines_of};
use crate::site::{install, shell};

fn copy_by(command: &str, save: &Save) -> Result<()> {
    shell(&format!("{command} {}", lines_of(&[&save.new, &save.file]))).map(drop)
}

fn truncate_and_write(save: &Save) -> Result<()> {
    Ok(fs::write(&save.file, save.text()?)?)
}

/// The first halves are right files.
fn in_two_halves(save: &Save) -> Result<()> {
    let (text, mut file) = (save.text()?, File::create(&save.file)?);
    let half = text.len() / 2 + text[text.len() / 2..].find("\n[[filter]]").unwrap_or(0);
    file.write_all(&text.as_bytes()[..half])?;
    file.sync_all()?;
    Ok(file.write_all(&text.as_bytes()[half..])?)
}

type Way = (&'static str, fn(&Save) -> Result<()>);

/// These keep the owner.
const IN_PLACE: [Way; 6] = [
    ("truncate and write", truncate_and_write),
    ("two halves", in_two_halves),
    ("cp", |save| copy_by("cp", save)),
    ("dd", |save| {
        shell(&format!(
            "dd if={} of={} bs=512",
            save.new.display(),
            save.file.display()
        ))
        .map(drop)
    }),
    ("opened and closed again and again", |save| {
        File::create(&save.file)?;
        for part in save.text()?.as_bytes().chunks(1000) {
            OpenOptions::new()
                .append(true)
                .open(&save.file)?
                .write_all(part)?;
        }
        Ok(())
    }),
    ("overwritten by one who does not truncate", |save| {
        let file = OpenOptions::new().write(true).open(&save.file)?;
        Ok(file.write_all_at(save.text()?.as_bytes(), 0)?)
    }),
];

const OTHERWISE: [Way; 9] = [
    ("rename over", |save| Ok(fs::rename(&save.new, &save.file)?)),
    ("mv", |save| copy_by("mv", save)),
    ("install", |save| copy_by("install -m644", save)),
    ("sed -i", |save| {
        shell(&format!(
            "sed -i s/\\b{}\\b/{}/ {}",
            save.port,
            save.port + 1,
            save.file.display()
        ))
        .map(drop)
    }),
    ("cp --remove-destination", |save| {
        copy_by("cp --remove-destination", save)
    }),
    ("delete and create", |save| {
        fs::remove_file(&save.file)?;
        truncate_and_write(save)
    }),
    ("hard link into place", |save| {
        fs::remove_file(&save.file)?;
        fs::hard_link(&save.new, &save.file)?;
        Ok(fs::remove_file(&save.new)?)
    }),
    ("mv from another file system", |save| {
        let there = PathBuf::from("/dev/shm")
            .join(format!("traffic-mirror-test-{}.toml", std::process::id()));
        fs::copy(&save.new, &there)?;
        shell(&format!("mv {}", lines_of(&[&there, &save.file]))).map(drop)
    }),
    ("symbolic link in its place", |save| {
        let real = save.file.with_file_name("real.toml");
        fs::rename(&save.new, &real)?;
        fs::remove_file(&save.file)?;
        Ok(symlink(&real, &save.file)?)
    }),
];

#[test]
fn a_saved_file_is_live_in_time_however_it_is_saved() -> Result<()> {
    let mut desk = Desk::new()?;
    for (way, save) in OTHERWISE.into_iter().chain(IN_PLACE) {
        desk.save(way, save)?;
    }
    desk.end()
}

/// A shell script that starts the daemon as another user than the file's owner, with the rights
/// that it needs and none to a lease on the files of others.
pub(super) fn without_leases(directory: &TempDir) -> Result<Launch> {
    let script = directory.path().join("without-leases");
    let user = "--reuid=65534 --regid=65534 --clear-groups";
    let kept =
        "-all,+bpf,+net_admin,+net_raw,+perfmon,+sys_admin,+dac_override,+dac_read_search,+fowner";
    let rights = format!("--inh-caps={kept} --ambient-caps={kept} --bounding-set={kept}");
    let binary = traffic_mirror_tests::lab::daemon::binary()?;
    install(
        &script,
        &format!(
            "#!/bin/sh\nexec setpriv {user} {rights} {} \"$@\"\n",
            binary.display()
        ),
    )?;
    Ok(Launch {
        binary: Some(script),
        ..Launch::default()
    })
}

/// A shell script that starts the daemon, by some other command, where a directory can only be
/// read.
pub(super) fn read_only(directory: &Path, by: &str) -> Result<String> {
    let (binary, directory) = (
        traffic_mirror_tests::lab::daemon::binary()?,
        directory.display(),
    );
    let mount =
        format!("mount --bind {directory} {directory} && mount -o remount,bind,ro {directory}");
    let inside = format!("{mount} && {by} {} \"$@\"", binary.display());
    Ok(format!(
        "#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n"
    ))
}

/// Whether the daemon cannot have a lease on the file.
pub(super) fn has_no_leases(daemon: &Daemon) -> Result<()> {
    /// The bit of `CAP_LEASE`.
    const CAP_LEASE: u32 = 28;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap_or_default()))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap_or_default();
    ensure!(
        u64::from_str_radix(effective.trim(), 16)? >> CAP_LEASE & 1 == 0,
        "it has CAP_LEASE"
    );
    ensure!(
        status
            .lines()
            .any(|line| line.starts_with("Uid:\t65534\t65534")),
        "it is the owner of the file"
    );
    Ok(())
}

#[test]
fn the_file_of_another_user_is_live_in_time() -> Result<()> {
    let directory = TempDir::new()?;
    let mut desk = Desk::launch(without_leases(&directory)?)?;
    has_no_leases(&desk.daemon)?;
    for (way, save) in IN_PLACE.into_iter().chain(OTHERWISE) {
        desk.save(way, save)?;
    }
    desk.end()
}
