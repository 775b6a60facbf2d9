//! Writers that take their time, or never stop.

use anyhow::{Context as _, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::signal::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::daemon::Launch;
use traffic_mirror_tests::lab::{TempDir, deadline};

use super::ways::{has_no_leases, without_leases};
use super::{Desk, LIVE_WITHIN, OTHERS};
use crate::site::shell;

/// Longer than the daemon's slow timer.
const SLOWER_THAN_TIMER: Duration = Duration::from_secs(32);

/// A file that has been truncated and half written; what is missing. The half is a right file.
fn half_written(desk: &Desk) -> Result<(File, String)> {
    let save = desk.next()?;
    let (text, mut file) = (save.text()?, File::create(&save.file)?);
    let half = text.len() / 2;
    let half = half + text[half..].find("\n[[filter]]").context("no filter")?;
    file.write_all(&text.as_bytes()[..half])?;
    file.sync_all()?;
    Ok((file, text[half..].to_owned()))
}

/// Reasons to look at the file, none of which makes it complete.
fn provoke(desk: &Desk) -> Result<()> {
    let path = desk.daemon.config_path();
    fs::write(path.with_file_name("another.toml"), "nonsense")?;
    fs::rename(
        path.with_file_name("another.toml"),
        path.with_file_name("third.toml"),
    )?;
    fs::read(&path)?;
    shell(&format!("chmod 640 {}", path.display()))?;
    desk.site
        .edge
        .run("ip link add other type veth peer peer")?;
    desk.site.edge.run("ip link del other").map(drop)
}

fn pause_half_way(
    mut desk: Desk,
    pause: Duration,
    provoke: impl FnOnce(&Desk) -> Result<()>,
) -> Result<()> {
    let (mut file, rest) = half_written(&desk)?;
    provoke(&desk)?;
    desk.nothing(pause)?;
    file.write_all(rest.as_bytes())?;
    drop(file);
    desk.saved(desk.stopwatch(), "a pause half-way")?;
    desk.end()
}

#[test]
fn half_a_file_is_not_live_whatever_happens_meanwhile() -> Result<()> {
    pause_half_way(Desk::new()?, 2 * LIVE_WITHIN, |desk| {
        provoke(desk)?;
        // opened for writing and closed by another process
        shell(&format!("touch {}", desk.daemon.config_path().display())).map(drop)
    })
}

#[test]
fn half_a_file_of_another_user_is_not_live() -> Result<()> {
    let directory = TempDir::new()?;
    let desk = Desk::launch(without_leases(&directory)?)?;
    has_no_leases(&desk.daemon)?;
    pause_half_way(desk, 2 * LIVE_WITHIN, provoke)
}

#[test]
fn the_slow_timer_does_not_take_half_a_file() -> Result<()> {
    pause_half_way(Desk::new()?, SLOWER_THAN_TIMER, provoke)
}

#[test]
fn the_slow_timer_does_not_take_half_a_file_of_another_user() -> Result<()> {
    let directory = TempDir::new()?;
    let desk = Desk::launch(without_leases(&directory)?)?;
    has_no_leases(&desk.daemon)?;
    pause_half_way(desk, SLOWER_THAN_TIMER, provoke)
}

#[test]
fn a_writer_in_a_directory_that_is_moved_into_place_is_waited_for() -> Result<()> {
    let place = TempDir::new()?;
    let live = place.path().join("live");
    fs::create_dir(&live)?;
    let mut desk = Desk::launch(Launch {
        config: Some(live.join("mirror.toml")),
        ..Launch::default()
    })?;
    let (save, new) = (desk.next()?, place.path().join("new"));
    fs::create_dir(&new)?;
    let (text, mut file) = (save.text()?, File::create(new.join("mirror.toml"))?);
    let half = text
        .find("\n[[filter]]\nname = \"port-20500\"")
        .context("no such filter")?;
    file.write_all(&text.as_bytes()[..half])?;
    fs::rename(&live, place.path().join("old"))?;
    fs::rename(&new, &live)?;
    desk.nothing(LIVE_WITHIN)?;
    file.write_all(&text.as_bytes()[half..])?;
    drop(file);
    desk.saved(desk.stopwatch(), "a directory with a writer")?;
    desk.end()
}

#[test]
fn a_file_that_is_mapped_for_writing_is_taken_when_it_is_unmapped() -> Result<()> {
    let mut desk = Desk::new()?;
    let save = desk.next()?;
    let (text, file) = (
        save.text()?,
        OpenOptions::new().read(true).write(true).open(&save.file)?,
    );
    let length = text.len().try_into()?;
    let (protection, flags) = (
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_SHARED,
    );
    // SAFETY: a new mapping, of a file whose length stays.
    let address = unsafe { mmap(None, length, protection, flags, &file, 0) }?;
    drop(file);
    // SAFETY: the mapping is that long, and nothing else refers to it.
    let mapped =
        unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>().as_ptr(), text.len()) };
    let half = text.len() / 2;
    // the port is written, its name is not
    mapped[..half].copy_from_slice(
        &Desk::text(save.port)
            .replacen("[1000]", "[1001]", 1)
            .as_bytes()[..half],
    );
    shell(&format!("touch {}", save.file.display()))?;
    desk.nothing(LIVE_WITHIN)?;
    mapped.copy_from_slice(text.as_bytes());
    // SAFETY: it is mapped, and not used any more.
    unsafe { munmap(address, text.len()) }?;
    desk.saved(desk.stopwatch(), "a mapping")?;
    desk.end()
}

#[test]
fn a_file_that_is_cut_without_being_opened_is_taken() -> Result<()> {
    let desk = Desk::new()?;
    let text = Desk::text(desk.port);
    let last = text.rfind("\n[[filter]]").context("no filter")?;
    nix::unistd::truncate(&desk.daemon.config_path(), last.try_into()?)?;
    let then = desk.stopwatch();
    desk.daemon.wait_line(
        |line| line.ends_with(&format!("INFO - filter port-{}", OTHERS.end - 1)),
        deadline(),
    )?;
    desk.daemon.wait_line(
        |line| line.contains("INFO loaded the file: 1 change, "),
        deadline(),
    )?;
    ensure!(then.elapsed() <= LIVE_WITHIN, "{:?}", then.elapsed());
    Ok(())
}

#[test]
fn a_writer_that_began_before_the_daemon_is_waited_for_but_not_for_ever() -> Result<()> {
    let mut desk = Desk::new()?;
    for finishes in [true, false] {
        desk.daemon.signal(Signal::SIGTERM)?;
        assert_eq!(desk.daemon.wait_exit(deadline())?, 0);
        desk.daemon
            .wait_line(|line| line.contains("INFO stopped"), deadline())?;
        desk.read = desk.daemon.output().len();
        let (mut file, rest) = half_written(&desk)?;
        desk.daemon.restart()?;
        if finishes {
            // it may have begun to look
            desk.nothing(Duration::from_millis(500))?;
            file.write_all(rest.as_bytes())?;
            drop(file);
            desk.daemon.ready(deadline())?;
        } else {
            desk.daemon.wait_line(
                |line| line.contains("is open for writing: loaded as it is"),
                deadline(),
            )?;
            desk.daemon.ready(deadline())?;
        }
        // an interface, an endpoint and the filters
        let all = format!("INFO loaded the file: {} changes, ", 3 + OTHERS.len());
        let report = desk.daemon.wait_line(
            |line| line.contains("INFO ") && line.contains(" changes, "),
            deadline(),
        )?;
        let output = desk.daemon.output();
        assert_eq!(report.contains(&all), finishes, "{report}");
        assert_eq!(
            output[desk.read..]
                .iter()
                .any(|line| line.contains("loaded as it is")),
            !finishes
        );
    }
    Ok(())
}

/// Saves once in 20 ms: what is live in the end, how long that took, and what was live in between.
fn stream(saves: u16, save: fn(&super::Save) -> Result<()>) -> Result<Vec<u16>> {
    const PERIOD: Duration = Duration::from_millis(20);
    let mut desk = Desk::new()?;
    let (begin, first) = (Instant::now(), desk.port);
    for number in 0..saves {
        let next = super::Save {
            port: first + number,
            ..desk.next()?
        };
        fs::write(&next.new, Desk::text(next.port + 1))?;
        save(&next)?;
        let wrong = |line: &str| line.contains("ERROR") || line.contains("error");
        let said = desk
            .daemon
            .wait_line(wrong, begin + PERIOD * u32::from(number + 1));
        ensure!(said.is_err(), "{said:?}");
    }
    let (then, last) = (desk.stopwatch(), first + saves);
    // lines that were waited for are not found again
    let said = format!("INFO + filter port-{last}");
    while !desk
        .daemon
        .output()
        .iter()
        .any(|line| line.ends_with(&said))
    {
        let took = PERIOD + then.elapsed();
        ensure!(
            took <= LIVE_WITHIN,
            "the last save is not live after {took:?}"
        );
        std::thread::yield_now();
    }
    let took = PERIOD + then.elapsed();
    let lived = desk.lived_until(last)?;
    println!(
        "{saves} saves in {:?}: {} were live, the last after {took:?}",
        begin.elapsed(),
        lived.len()
    );
    ensure!(took <= LIVE_WITHIN, "live after {took:?}");
    ensure!(
        lived.is_sorted_by(|a, b| a < b) && lived.last() == Some(&last),
        "{lived:?}"
    );
    desk.site.expect(last, 1)?;
    desk.site.expect(last - 1, 0)?;
    desk.end()?;
    Ok(lived)
}

#[test]
fn of_fifty_saves_in_a_second_the_last_is_live_in_time() -> Result<()> {
    stream(50, |save| Ok(fs::rename(&save.new, &save.file)?))?;
    stream(50, |save| Ok(fs::write(&save.file, save.text()?)?))?;
    Ok(())
}

#[test]
fn saves_without_end_are_not_put_off_for_ever() -> Result<()> {
    // 4 s: more than once a save was taken before the last one
    let lived = stream(200, |save| Ok(fs::write(&save.file, save.text()?)?))?;
    ensure!(lived.len() > 2, "{lived:?}");
    Ok(())
}

#[test]
fn whole_files_are_taken_from_a_writer_that_never_rests() -> Result<()> {
    let mut desk = Desk::new()?;
    let (path, first) = (desk.daemon.config_path(), desk.port);
    let texts = [first + 1, first + 2].map(Desk::text);
    let (begin, mut saves) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(4) {
        fs::write(&path, &texts[saves % 2])?;
        saves += 1;
    }
    fs::write(&path, Desk::text(first + 3))?;
    let then = desk.stopwatch();
    let said = format!("INFO + filter port-{}", first + 3);
    desk.daemon
        .wait_line(|line| line.ends_with(&said), deadline())?;
    let took = then.elapsed();
    let lived = desk.lived_until(first + 3)?;
    println!(
        "{saves} saves, {} were live, the last after {took:?}",
        lived.len()
    );
    ensure!(took <= LIVE_WITHIN, "live after {took:?}");
    desk.end()
}
