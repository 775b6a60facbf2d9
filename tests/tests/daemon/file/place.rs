//! Where it is: symbolic links and directories, and others in their place.

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use traffic_mirror_tests::lab::daemon::Launch;
use traffic_mirror_tests::lab::{TempDir, deadline};

use super::{Desk, Save};
use crate::site::{Site, config};

/// A daemon whose file is at that path.
fn desk_at(file: PathBuf) -> Result<Desk> {
    fs::create_dir_all(file.parent().context("no directory")?)?;
    Desk::launch(Launch {
        config: Some(file),
        ..Launch::default()
    })
}

/// Makes a symbolic link, or replaces the one that is there.
fn link(target: impl AsRef<Path>, link: &Path) -> Result<()> {
    let beside = link.with_file_name(".link");
    symlink(target, &beside)?;
    Ok(fs::rename(&beside, link)?)
}

fn write(save: &Save) -> Result<()> {
    Ok(fs::write(&save.file, save.text()?)?)
}

#[test]
fn the_data_directory_of_kubernetes_is_swapped() -> Result<()> {
    let place = TempDir::new()?;
    let volume = place.path().join("volume");
    let mut desk = desk_at(volume.join("mirror.toml"))?;
    // the volume as the kubelet makes it
    fs::create_dir(volume.join("..v0"))?;
    fs::rename(desk.daemon.config_path(), volume.join("..v0/mirror.toml"))?;
    symlink("..v0", volume.join("..data"))?;
    symlink("..data/mirror.toml", volume.join("mirror.toml"))?;
    for version in 1..=3 {
        desk.save("..data", |save| {
            let name = format!("..v{version}");
            fs::create_dir(volume.join(&name))?;
            fs::write(volume.join(&name).join("mirror.toml"), save.text()?)?;
            symlink(&name, volume.join("..data_tmp"))?;
            fs::rename(volume.join("..data_tmp"), volume.join("..data"))?;
            Ok(fs::remove_dir_all(
                volume.join(format!("..v{}", version - 1)),
            )?)
        })?;
    }
    desk.end()
}

#[test]
fn symbolic_links_are_followed_over_several_directories() -> Result<()> {
    let place = TempDir::new()?;
    let at = |path: &str| place.path().join(path);
    let mut desk = desk_at(at("etc/mirror.toml"))?;
    // etc/mirror.toml -> a/link -> b/link -> c/real/mirror.toml, where c/real -> one
    for directory in ["a", "b", "c/one", "c/two"] {
        fs::create_dir_all(at(directory))?;
    }
    fs::copy(desk.daemon.config_path(), at("c/one/mirror.toml"))?;
    link("one", &at("c/real"))?;
    link(at("c/real/mirror.toml"), &at("b/link"))?;
    link("../b/link", &at("a/link"))?;
    link("../a/link", &at("etc/mirror.toml"))?;

    desk.save("written through the links", write)?;
    desk.save("the target is replaced", |save| {
        Ok(fs::rename(&save.new, at("c/one/mirror.toml"))?)
    })?;
    desk.save("the target is deleted and made again", |save| {
        fs::remove_file(at("c/one/mirror.toml"))?;
        write(save)
    })?;
    desk.save("a link to a directory on the way", |save| {
        fs::rename(&save.new, at("c/two/mirror.toml"))?;
        link("two", &at("c/real"))
    })?;
    desk.save("the target behind it", |save| {
        Ok(fs::rename(&save.new, at("c/two/mirror.toml"))?)
    })?;
    desk.save("a link in the middle", |save| {
        fs::rename(&save.new, at("c/other.toml"))?;
        link("../c/other.toml", &at("b/link"))
    })?;
    desk.save("what is no longer on the way is of no interest", |save| {
        fs::write(at("c/two/mirror.toml"), "nonsense")?;
        write(save)
    })?;
    desk.save("a directory that links pass through", |save| {
        fs::create_dir(at("new"))?;
        fs::rename(&save.new, at("new/other.toml"))?;
        link("other.toml", &at("new/link"))?;
        fs::rename(at("b"), at("old"))?;
        Ok(fs::rename(at("new"), at("b"))?)
    })?;
    desk.save("written there", write)?;
    desk.save("a link deleted and made again", |save| {
        fs::remove_file(at("a/link"))?;
        fs::rename(&save.new, at("a/real.toml"))?;
        Ok(symlink("real.toml", at("a/link"))?)
    })?;
    desk.save("a file in place of the first link", |save| {
        Ok(fs::rename(&save.new, &save.file)?)
    })?;
    desk.end()
}

#[test]
fn directories_on_the_way_are_replaced() -> Result<()> {
    let place = TempDir::new()?;
    let at = |path: &str| place.path().join(path);
    let mut desk = desk_at(at("x/y/z/mirror.toml"))?;
    /// Makes the directory again that the file is in, below another.
    fn again(save: &Save, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        Ok(fs::rename(&save.new, directory.join("mirror.toml"))?)
    }
    for depth in ["x/y/z", "x/y", "x"] {
        let below = "x/y/z"
            .strip_prefix(depth)
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned();
        desk.save(
            &format!("{depth}: moved away, and another in its place"),
            |save| {
                again(save, &at("new").join(&below))?;
                fs::rename(at(depth), at("old"))?;
                Ok(fs::rename(at("new"), at(depth))?)
            },
        )?;
        fs::remove_dir_all(at("old"))?;
        desk.save(&format!("{depth}: exchanged"), |save| {
            again(save, &at("new").join(&below))?;
            Ok(renameat2(
                AT_FDCWD,
                &at("new"),
                AT_FDCWD,
                &at(depth),
                RenameFlags::RENAME_EXCHANGE,
            )?)
        })?;
        fs::remove_dir_all(at("new"))?;
        desk.save(&format!("{depth}: deleted and made again"), |save| {
            fs::remove_dir_all(at(depth))?;
            again(save, &at("x/y/z"))
        })?;
        desk.save(&format!("{depth}: written there"), write)?;
        desk.save(&format!("{depth}: a symbolic link in its place"), |save| {
            again(save, &at("real").join(&below))?;
            fs::remove_dir_all(at(depth))?;
            Ok(symlink(at("real"), at(depth))?)
        })?;
        desk.save(&format!("{depth}: written behind the link"), write)?;
        desk.save(&format!("{depth}: a directory again"), |save| {
            fs::remove_file(at(depth))?;
            again(save, &at("x/y/z"))
        })?;
        fs::remove_dir_all(at("real"))?;
    }
    desk.end()
}

#[test]
fn a_directory_that_is_missing_is_waited_for() -> Result<()> {
    let mut site = Site::new()?;
    let place = TempDir::new()?;
    let directory = place.path().join("x/y");
    fs::create_dir_all(&directory)?;
    let launch = Launch {
        config: Some(directory.join("mirror.toml")),
        ..Launch::default()
    };
    let daemon = site.launch(&[53], launch)?;
    for (gone, port) in [(directory.clone(), 54), (place.path().join("x"), 55)] {
        fs::remove_dir_all(&gone)?;
        daemon.wait_line(
            |line| line.contains("mirroring continues with the last valid version"),
            deadline(),
        )?;
        site.expect(port - 1, 1)?;
        // each on its own, so that the daemon may have looked in between
        fs::create_dir_all(gone.parent().context("no parent")?)?;
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("mirror.toml"), config(&[port]))?;
        daemon.wait_line(
            |line| line.ends_with(&format!("INFO + filter port-{port}")),
            deadline(),
        )?;
        daemon.wait_line(
            |line| line.contains("INFO loaded the file: 2 changes, "),
            deadline(),
        )?;
        site.expect(port, 1)?;
    }
    ensure!(daemon.pid().is_some(), "it ended");
    Ok(())
}
