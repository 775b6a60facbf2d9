//! `make demo`: the real daemon between real hosts made of network namespaces. Its file is edited
//! while traffic flows, and each copy that a collector unwraps is compared with its original. Exit
//! code 0 if all is as it should be, else 1.

mod round;
mod screen;
mod stage;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};
use traffic_mirror_tests::lab::daemon::is_of_network;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::objects::{Objects, tc_filters, tcx_programs};
use traffic_mirror_tests::lab::socket::PacketType;

use round::{Rule, Totals};
use screen::Screen;
use stage::Stage;

const FILE: &str = r#"[[interface]]
name = "eth0"

[endpoint.ids]
address = "192.0.2.10"

[[filter]]
name = "web"
protocol = ["tcp"]
destination_port = [443]
bidirectional = true
to = ["ids"]

[[filter]]
name = "dns"
protocol = ["udp"]
destination_port = [53]
bidirectional = true
to = ["ids"]
"#;

const NTP: &str = r#"
[endpoint.archive]
address = "2001:db8:cc::20"

[[filter]]
name = "ntp"
protocol = ["udp"]
destination_port = [123]
bidirectional = true
to = ["archive"]
"#;

const WEB: Rule = Rule {
    filter: "web",
    protocol: 6,
    port: 443,
    endpoint: "ids",
};
const DNS: Rule = Rule {
    filter: "dns",
    protocol: 17,
    port: 53,
    endpoint: "ids",
};
const NTP_RULE: Rule = Rule {
    filter: "ntp",
    protocol: 17,
    port: 123,
    endpoint: "archive",
};

/// One change of the file and what must come of it.
struct Edit {
    title: &'static str,
    /// Replaced in the file; nothing for an addition at its end.
    find: &'static str,
    replace: &'static str,
    /// What the daemon must report; nothing if it must reject the file.
    report: &'static [&'static str],
    /// The filters in force afterwards.
    rules: &'static [Rule],
    /// Where endpoint "ids" is afterwards.
    ids: &'static str,
}

const EDITS: [Edit; 4] = [
    Edit {
        title: "A filter and a second endpoint, reached over IPv6, are added",
        find: "",
        replace: NTP,
        report: &["+ endpoint archive", "+ filter ntp"],
        rules: &[DNS, NTP_RULE, WEB],
        ids: stage::COLLECTOR_A,
    },
    Edit {
        title: "A filter is disabled",
        find: "name = \"web\"\n",
        replace: "name = \"web\"\nenabled = false\n",
        report: &["~ filter web"],
        rules: &[DNS, NTP_RULE],
        ids: stage::COLLECTOR_A,
    },
    Edit {
        title: "An invalid file: the daemon reports the error, and mirroring continues",
        find: "name = \"dns\"\nprotocol = [\"udp\"]\n",
        replace: "name = \"dns\"\nprotocol = [\"upd\"]\n",
        report: &[],
        rules: &[DNS, NTP_RULE],
        ids: stage::COLLECTOR_A,
    },
    Edit {
        title: "The error is corrected, and endpoint ids moves to collector B",
        find: "address = \"192.0.2.10\"",
        replace: "address = \"203.0.113.20\"",
        report: &["~ endpoint ids"],
        rules: &[DNS, NTP_RULE],
        ids: stage::COLLECTOR_B,
    },
];

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let screen = Screen::new();
    if !nix::unistd::geteuid().is_root() {
        screen.failed("the demo makes network namespaces and loads BPF programs: run it as root");
        return ExitCode::FAILURE;
    }
    let begin = Instant::now();
    match watch_interrupts().and_then(|()| play(&screen)) {
        Ok(totals) => {
            screen.passed(&format!("{totals}; {:.1} s", begin.elapsed().as_secs_f64()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            // whoever was interrupted too has failed in its own words
            let reason = if is_interrupted() {
                "interrupted".to_owned()
            } else {
                format!("{error:#}")
            };
            screen.failed(&format!(
                "{reason}; everything that was made has been removed"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C ends the demo at its next step, so that everything that was made is removed.
fn watch_interrupts() -> Result<()> {
    extern "C" fn interrupt(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and nothing else.
        unsafe { signal(number, SigHandler::Handler(interrupt)) }
            .with_context(|| format!("catch {number}"))?;
    }
    Ok(())
}

fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn step() -> Result<()> {
    ensure!(!is_interrupted(), "interrupted");
    Ok(())
}

fn play(screen: &Screen) -> Result<Totals> {
    screen.opening();
    let mut stage = Stage::new(FILE)?;
    let mut totals = Totals::default();

    screen.heading("The file, and what the daemon makes of it");
    screen.text(FILE);
    screen.daemon(&stage.report(|line| line.contains(" changes, "))?);
    round::play(
        screen,
        &mut stage,
        &mut totals,
        &[DNS, WEB],
        stage::COLLECTOR_A,
    )?;

    let mut file = FILE.to_owned();
    for edit in &EDITS {
        step()?;
        screen.heading(edit.title);
        let text = apply(&file, edit)?;
        screen.edit(edit.find, edit.replace);
        stage.daemon.write_config(&text)?;
        take(screen, &mut stage, edit)?;
        if !edit.report.is_empty() {
            file = text;
        }
        round::play(screen, &mut stage, &mut totals, edit.rules, edit.ids)?;
    }
    step()?;
    screen.heading("traffic-mirror status");
    screen.text(&stage.status()?);
    stop(screen, &mut stage)?;
    Ok(totals)
}

fn apply(file: &str, edit: &Edit) -> Result<String> {
    if edit.find.is_empty() {
        return Ok(format!("{file}{}", edit.replace));
    }
    ensure!(
        file.matches(edit.find).count() == 1,
        "the file has {:?} not once",
        edit.find
    );
    Ok(file.replace(edit.find, edit.replace))
}

/// Waits until the daemon has taken or refused the file, and checks what it says about it.
fn take(screen: &Screen, stage: &mut Stage, edit: &Edit) -> Result<()> {
    if edit.report.is_empty() {
        let lines = stage.report(|line| line.contains("rejected the file: "))?;
        screen.daemon(&lines);
        return Ok(());
    }
    // a neighbour that was found meanwhile is no change of the file
    let lines = stage.report(|line| line.contains("loaded the file: "))?;
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|line| !is_of_network(line))
        .collect();
    screen.daemon(&lines);
    let (_, changes) = lines.split_last().context("no report")?;
    if changes != edit.report {
        bail!(
            "the daemon reports {changes:?} instead of {:?}",
            edit.report
        );
    }
    Ok(())
}

/// SIGTERM, and the proof that nothing is left.
fn stop(screen: &Screen, stage: &mut Stage) -> Result<()> {
    screen.heading("SIGTERM: nothing is left in the kernel");
    let objects = Objects::below(stage.daemon.pin_path())?;
    ensure!(
        !objects.programs.is_empty() && !objects.maps.is_empty(),
        "there is nothing to remove: {objects}"
    );
    stage.daemon.signal(Signal::SIGTERM)?;
    let code = stage.daemon.wait_exit(deadline())?;
    screen.daemon(&stage.rest());
    ensure!(code == 0, "the daemon exits with {code}");
    screen.fact("the daemon exits with", "0");

    for interface in stage::EDGE {
        let programs = [PacketType::Incoming, PacketType::Outgoing]
            .into_iter()
            .map(|direction| tcx_programs(&stage.edge, interface, direction))
            .collect::<Result<Vec<_>>>()?
            .concat();
        let filters = tc_filters(&stage.edge, interface)?;
        ensure!(
            programs.is_empty() && filters.is_empty(),
            "left on {interface}: {programs:?} {filters}"
        );
    }
    screen.fact("tcx links and tc filters on eth0, eth1, eth2, eth3", "none");
    objects.wait_gone(deadline() + Duration::from_secs(10))?;
    screen.fact(&format!("its {objects} in the kernel"), "all gone");
    ensure!(
        !stage.daemon.pin_path().exists(),
        "{} is left",
        stage.daemon.pin_path().display()
    );
    screen.fact(&format!("{}", stage.daemon.pin_path().display()), "gone");
    stage.silent()
}
