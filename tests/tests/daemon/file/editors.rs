//! The programs that people save it with.

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::{TempDir, process};

use super::{Desk, Save};

/// Ansible and Puppet take seconds on an idle machine.
fn run(command: &mut Command) -> Result<String> {
    process::succeed(command, Instant::now() + Duration::from_secs(90))
}

#[test]
fn vim() -> Result<()> {
    let mut desk = Desk::new()?;
    // the file is renamed and made anew, or written in place after a copy of it, or without one
    for setting in [
        "backupcopy=no",
        "backupcopy=yes",
        "backupcopy=auto",
        "nowritebackup",
        "backup",
    ] {
        desk.save(&format!("vim with {setting}"), |save| {
            let mut vim = Command::new("vim");
            vim.args([
                "-N",
                "-u",
                "NONE",
                "-i",
                "NONE",
                "-es",
                "-c",
                &format!("set {setting}"),
            ]);
            vim.args([
                "-c",
                &format!("%s/\\<{}\\>/{}/g", save.port, save.port + 1),
                "-c",
                "wq",
            ])
            .arg(&save.file);
            run(&mut vim).map(drop)
        })?;
    }
    desk.end()
}

/// nano in a terminal of its own.
fn nano(save: &Save, options: &str) -> Result<()> {
    const TERMINAL: [(&str, &str); 3] = [("TERM", "vt100"), ("LINES", "24"), ("COLUMNS", "80")];
    let line = format!("nano --ignorercfiles {options} {}", save.file.display());
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs(TERMINAL)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut keys = script.stdin.take().context("no standard input")?;
    let mut screen = script.stdout.take().context("no standard output")?;
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // what is typed before it has set up the terminal is lost
    while !String::from_utf8_lossy(&shown).contains("Exit") {
        let length = screen.read(&mut buffer)?;
        ensure!(
            length > 0,
            "nano ended: {}",
            String::from_utf8_lossy(&shown)
        );
        shown.extend(&buffer[..length]);
    }
    // replace all, save, exit
    write!(keys, "\x1c{}\r{}\rA\x13\x18", save.port, save.port + 1)?;
    screen.read_to_end(&mut shown)?;
    let status = process::wait(&mut script, traffic_mirror_tests::lab::deadline())?;
    ensure!(
        status.is_some_and(|status| status.success()),
        "nano: {}",
        String::from_utf8_lossy(&shown)
    );
    Ok(())
}

#[test]
fn nano_in_place_and_with_a_backup() -> Result<()> {
    let mut desk = Desk::new()?;
    for options in ["", "--backup"] {
        desk.save(&format!("nano {options}"), |save| nano(save, options))?;
    }
    desk.end()
}

#[test]
fn ansible_template_and_copy() -> Result<()> {
    let mut desk = Desk::new()?;
    for module in ["template", "copy"] {
        desk.save(&format!("ansible.builtin.{module}"), |save| {
            let home = TempDir::new()?;
            let arguments = format!(
                "src={} dest={} mode=0640",
                save.new.display(),
                save.file.display()
            );
            let mut ansible = Command::new("ansible");
            ansible.args([
                "localhost",
                "-c",
                "local",
                "-m",
                &format!("ansible.builtin.{module}"),
                "-a",
                &arguments,
            ]);
            run(ansible.env("HOME", home.path())).map(drop)
        })?;
    }
    desk.end()
}

#[test]
fn puppet_file() -> Result<()> {
    let mut desk = Desk::new()?;
    desk.save("puppet's file", |save| {
        let state = TempDir::new()?;
        let manifest = format!(
            "file {{ '{}': ensure => file, source => '{}', mode => '0640' }}",
            save.file.display(),
            save.new.display()
        );
        let mut puppet = Command::new("puppet");
        puppet
            .arg("apply")
            .arg("--confdir")
            .arg(state.path())
            .arg("--vardir")
            .arg(state.path());
        let said = run(puppet.args(["-e", &manifest]))?;
        ensure!(said.contains("content changed"), "{said}");
        Ok(())
    })?;
    desk.end()
}
