//! What shells complete, as the package has it.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use traffic_mirror_tests::lab::daemon::binary;
use traffic_mirror_tests::lab::{TempDir, deadline, process};

/// The scripts of packaging/completions/build.sh, and where shells look for them.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "bash/traffic-mirror",
        "usr/share/bash-completion/completions",
    ),
    ("zsh/_traffic-mirror", "usr/share/zsh/vendor-completions"),
    (
        "fish/traffic-mirror.fish",
        "usr/share/fish/vendor_completions.d",
    ),
];

/// Builds the scripts as the package does.
fn built() -> Result<TempDir> {
    let directory = TempDir::new()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/completions/build.sh");
    let mut build = Command::new(script);
    process::succeed(build.arg(directory.path()).arg(binary()?), deadline())?;
    Ok(directory)
}

#[test]
fn the_package_has_what_three_shells_complete() -> Result<()> {
    let directory = built()?;
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb");
    let install = fs::read_to_string(packaging.join("traffic-mirror.install"))?;
    for (script, place) in SCRIPTS {
        let text = fs::read_to_string(directory.path().join(script))?;
        for word in ["explain", "--pin-path", "--log-format"] {
            let bare = word.trim_start_matches('-');
            ensure!(text.contains(bare), "{script} does not complete {word}");
        }
        let line = format!("staged/completions/{script} {place}");
        ensure!(
            install.lines().any(|it| it == line),
            "not installed: {line}"
        );
    }
    Ok(())
}

#[test]
fn bash_loads_its_script_and_completes() -> Result<()> {
    let directory = built()?;
    let script = directory.path().join(SCRIPTS[0].0);
    let completed = |words: &str| -> Result<Vec<String>> {
        let commands = format!(
            "set -eu; . {}; [[ $(complete -p traffic-mirror) =~ -F\\ ([^ ]+) ]]; \
             COMP_WORDS=(traffic-mirror {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); set +eu; \
             ${{BASH_REMATCH[1]}} traffic-mirror \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &commands]);
        let output = process::output(&mut bash, deadline())?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success() && said.is_empty(), "{said}");
        let words = String::from_utf8(output.stdout).context("not text")?;
        Ok(words.lines().map(str::to_owned).collect())
    };
    assert_eq!(completed("stat")?, ["status"]);
    assert_eq!(completed("c")?, ["check"]);
    assert_eq!(completed("run --log-l")?, ["--log-level"]);
    assert_eq!(completed("run --log-level w")?, ["warn"]);
    Ok(())
}
