//! `check` with several files, and as JSON for editors and CI.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use traffic_mirror_tests::lab::{TempDir, process, schema};

use crate::site::{command, config};

/// Wrong in three places, each with an edit as remedy.
const BAD: &str = "[[interface]]\nname = \"eth0\"\n\n[endpoint.ids]\naddress = \"192.0.2.10\"\n\
                   limit = 500M\nchecksum = yes\n\n[[filter]]\nname = \"wéb\"\ndport = \"https\"\n\
                   to = [\"ids\"]\n";

/// Exit code, standard output, standard error of a command with this input.
fn run(command: &mut Command, input: &str) -> Result<(i32, String, String)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    Ok((
        process::code(output.status),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

/// What `check --json` answers, as the schema has it.
fn answer(files: &[&str], input: &str) -> Result<(i32, Value)> {
    let args = [&["check", "--any-host", "--json"], files].concat();
    let (code, stdout, stderr) = run(&mut command(&args)?, input)?;
    ensure!(stderr.is_empty(), "{stderr}");
    schema::check("check", stdout.as_bytes())?;
    Ok((code, serde_json::from_str(&stdout)?))
}

#[test]
fn several_files_are_checked_one_by_one() -> Result<()> {
    let directory = TempDir::new()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (good, bad, missing) = (path("good.toml"), path("bad.toml"), path("missing.toml"));
    fs::write(&good, config(&[53]))?;
    fs::write(&bad, BAD)?;
    let ok = |name: &str| format!("{name}: ok, 1 interface, 1 filter, 1 endpoint\n");
    let check = |files: &[&str], input: &str| {
        let args = [&["check", "--any-host"], files].concat();
        run(&mut command(&args)?, input)
    };

    let (code, stdout, stderr) = check(&[&good, "-", &good], &config(&[54]))?;
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(stdout, [ok(&good), ok("<stdin>"), ok(&good)].concat());

    // one that is invalid or missing does not hide what is wrong with the next
    let (code, stdout, stderr) = check(&[&missing, &bad, &good], "")?;
    assert_eq!((code, stdout), (1, ok(&good)));
    assert!(
        stderr.starts_with(&format!("error: cannot read {missing}: "))
            && stderr.contains(&format!("--> {bad}:6:9\n"))
            && stderr.ends_with(&format!("{bad}: 2 errors\n")),
        "{stderr}"
    );

    let (code, all) = answer(&[&missing, &bad, &good, "-"], &config(&[54, 55]))?;
    assert_eq!(
        (code, &all["schema"], &all["valid"]),
        (1, &json!(1), &json!(false))
    );
    let of = |file: &str, valid: bool, counts: [Option<u32>; 3]| {
        let [interfaces, filters, endpoints] = counts;
        json!({ "file": file, "valid": valid, "interfaces": interfaces, "filters": filters,
                "endpoints": endpoints })
    };
    assert_eq!(
        all["files"],
        json!([
            of(&missing, false, [None; 3]),
            of(&bad, false, [None; 3]),
            of(&good, true, [Some(1); 3]),
            of("<stdin>", true, [Some(1), Some(2), Some(1)]),
        ])
    );
    let found = all["diagnostics"].as_array().context("no list")?;
    let found: Vec<_> = found
        .iter()
        .map(|found| (found["file"].as_str(), found["code"].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (Some(&*missing), Some("unreadable")),
            (Some(&*bad), Some("syntax")),
            (Some(&*bad), Some("syntax"))
        ]
    );
    let (code, all) = answer(&[&good], "")?;
    assert_eq!((code, &all["valid"]), (0, &json!(true)));
    Ok(())
}

/// Where a line and column are in a text, both from 1, in characters.
fn offset(text: &str, line: &Value, column: &Value) -> Option<usize> {
    let lines = text.split_inclusive('\n');
    let line = usize::try_from(line.as_u64()?).ok()?;
    let before: usize = lines.clone().take(line - 1).map(str::len).sum();
    let column = usize::try_from(column.as_u64()?).ok()?;
    let characters = lines.clone().nth(line - 1)?.chars().take(column - 1);
    Some(before + characters.map(char::len_utf8).sum::<usize>())
}

/// A program that knows nothing of the file but the edits makes a valid file of it.
#[test]
fn an_editor_can_apply_what_it_is_told() -> Result<()> {
    let mut text = BAD.to_owned();
    for round in 0.. {
        let (code, all) = answer(&["-"], &text)?;
        if code == 0 {
            break;
        }
        ensure!(round < 2, "{all:#}");
        let found = all["diagnostics"].as_array().context("no list")?;
        // from the last to the first, so that places stay
        for fix in found.iter().rev().map(|found| &found["fix"]) {
            let start = offset(&text, &fix["line"], &fix["column"]);
            let end = offset(&text, &fix["end_line"], &fix["end_column"]);
            let (start, end) = start
                .zip(end)
                .with_context(|| format!("no edit: {all:#}"))?;
            text.replace_range(start..end, fix["text"].as_str().context("no text")?);
        }
    }
    for line in [
        "limit = \"500Mbit\"",
        "checksum = true",
        "name = \"w-b\"",
        "destination_port = [443]",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in {text}");
    }
    Ok(())
}

/// A seed is a secret wherever it stands.
#[test]
fn no_answer_has_a_secret() -> Result<()> {
    for line in [
        "seed = hunter2",
        "sed = \"hunter2\"",
        "seed = [\"hunter2\"]",
        "seed = \"hunter2",
    ] {
        let (code, all) = answer(&["-"], &format!("{line}\n"))?;
        let (_, _, text) = run(&mut command(&["check", "-"])?, &format!("{line}\n"))?;
        assert_eq!(code, 1, "{line}");
        assert!(!all.to_string().contains("hunter"), "{all}");
        assert!(!text.contains("hunter"), "{text}");
    }
    Ok(())
}
