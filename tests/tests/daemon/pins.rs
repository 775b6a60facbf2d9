//! Somebody else has pinned something in the place of what is ours.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use traffic_mirror::kernel::Generation;
use traffic_mirror::tables::Table;
use traffic_mirror_ebpf::abi::{self, FilterStats};
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::foreign::{Foreign, Verdict};
use traffic_mirror_tests::lab::pins::{Kind, make_map, open, pin};

use crate::site::{Site, maps_of, mechanisms, status_until};

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PER_CPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;
const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// What is pinned in place of a pin below the directory of the maps.
fn map(path: &Path, kind: Kind) -> Result<()> {
    fs::remove_file(path)?;
    pin(&make_map(kind)?, path)
}

const fn array(value: usize, elements: u32, flags: u32) -> Kind {
    Kind {
        kind: ARRAY,
        key: 4,
        value: value as u32,
        elements,
        flags,
    }
}

/// A deed, and what the log says of it.
type Deed = (&'static str, fn(&Path) -> Result<()>, &'static str);

/// Each with a path of the maps' directory.
const DEEDS: [Deed; 13] = [
    (
        "a table of other elements",
        |maps| map(&maps.join("CLASSES"), array(4, 8, MMAPABLE)),
        "map CLASSES: another process pinned a different one",
    ),
    (
        "two elements where one is read",
        |maps| {
            map(
                &maps.join("CONTROL"),
                array(Table::Control.element_bytes(), 2, MMAPABLE),
            )
        },
        "map CONTROL: another process pinned a different one",
    ),
    (
        "too few endpoints",
        |maps| {
            map(
                &maps.join("ENDPOINTS"),
                array(Table::Endpoints.element_bytes(), 1, MMAPABLE),
            )
        },
        "map ENDPOINTS: another process pinned a different one",
    ),
    (
        "a table of another kind",
        |maps| {
            map(
                &maps.join("CONTROL"),
                Kind {
                    kind: HASH,
                    key: 4,
                    value: Table::Control.element_bytes() as u32,
                    elements: 1,
                    flags: 0,
                },
            )
        },
        "map CONTROL: another process pinned a different one",
    ),
    (
        "a table that cannot be mapped",
        |maps| {
            map(
                &maps.join("SLOTS"),
                array(Table::Slots.element_bytes(), 4096, 0),
            )
        },
        "map SLOTS: another process pinned a different one",
    ),
    (
        "a map as ours, that no program uses",
        |maps| {
            map(
                &maps.join("CONTROL"),
                array(Table::Control.element_bytes(), 1, MMAPABLE),
            )
        },
        "map CONTROL: no program of the daemon uses the map that is pinned there",
    ),
    (
        "fewer counters than filters",
        |maps| {
            let value = size_of::<FilterStats>() as u32;
            map(
                &maps.join("FILTER_STATS"),
                Kind {
                    kind: PER_CPU_ARRAY,
                    key: 4,
                    value,
                    elements: 1,
                    flags: 0,
                },
            )
        },
        "map FILTER_STATS: its size differs from that of FILTERS",
    ),
    (
        "a record of another size",
        |maps| {
            map(
                &maps.join("DAEMON"),
                array(size_of::<abi::Daemon>() - 8, 1, 0),
            )
        },
        "map DAEMON: another process pinned a different one",
    ),
    (
        "a program in place of a map",
        |maps| {
            fs::remove_file(maps.join("HEALTH"))?;
            pin(
                &Foreign::load("health", Verdict::Pass)?,
                &maps.join("HEALTH"),
            )
        },
        "map HEALTH",
    ),
    (
        "a directory in place of a map",
        |maps| {
            fs::remove_file(maps.join("ROWS"))?;
            fs::create_dir(maps.join("ROWS")).map_err(Into::into)
        },
        "map ROWS",
    ),
    (
        "another program",
        |maps| {
            fs::remove_file(maps.join("encap"))?;
            pin(&Foreign::load("encap", Verdict::Pass)?, &maps.join("encap"))
        },
        "map encap: another process pinned a different one",
    ),
    (
        "one program of ours in place of another",
        |maps| {
            fs::remove_file(maps.join("mirror_egress"))?;
            pin(
                &open(&maps.join("mirror_ingress"))?,
                &maps.join("mirror_egress"),
            )
        },
        "map mirror_egress: another process pinned a different one",
    ),
    (
        "a map in place of a program",
        |maps| map(&maps.join("mirror_ingress"), array(8, 1, 0)),
        "map mirror_ingress: another process pinned a different one",
    ),
];

fn live(daemon: &Daemon) -> Result<u32> {
    Generation::list(daemon.pin_path())?
        .pop()
        .context("no maps")
}

/// Kills the daemon, has somebody do something, and starts the next one. Answers what that has
/// said.
fn succeed(daemon: &mut Daemon, deed: impl FnOnce(&Daemon) -> Result<()>) -> Result<Vec<String>> {
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    deed(daemon)?;
    let said = daemon.output().len();
    daemon.restart()?;
    daemon.ready(deadline())?;
    status_until(daemon, |code, status| {
        code == 0 && status["endpoints"][0]["next_hop"].is_string()
    })?;
    Ok(daemon.output().split_off(said))
}

#[test]
fn whatever_is_pinned_in_place_of_ours_a_successor_mirrors_and_says_it_once() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    daemon.changed_by_others();
    for (what, deed, told) in DEEDS {
        let number = live(&daemon)?;
        let said = succeed(&mut daemon, |daemon| deed(&maps_of(daemon, number)?)).context(what)?;
        let lines: Vec<_> = said
            .iter()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .collect();
        ensure!(
            lines.len() == 1 && lines[0].contains(told),
            "{what}: {said:?}"
        );
        ensure!(live(&daemon)? == number + 1, "{what}: no new maps");
        site.expect(53, 1).context(what)?;
    }
    Ok(())
}

#[test]
fn a_running_daemon_makes_maps_anew_for_any_that_somebody_else_has_pinned() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    daemon.changed_by_others();
    let number = live(&daemon)?;
    map(
        &maps_of(&daemon, number)?.join("CLASSES"),
        array(4, 8, MMAPABLE),
    )?;
    site.edge.run("ip link set dev lo alias nudge")?;
    daemon.wait_line(
        |line| line.contains("map CLASSES: another process pinned a different one"),
        deadline(),
    )?;
    status_until(&daemon, |code, _| code == 0)?;
    ensure!(live(&daemon)? == number + 1, "no new maps");
    site.expect(53, 1)
}

/// With the pin path.
type Change<'c> = Box<dyn Fn(&Path) -> Result<()> + 'c>;

#[test]
fn what_is_in_the_place_of_links_and_directories_is_removed() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    if !mechanisms()?.contains(&"tcx") {
        println!("skipped: links take TCX, kernel 6.6");
        return Ok(());
    }
    let index = site.edge.index("eth0")?;
    let link = format!("links/mirror-{index}-ingress");
    // those whose description begins as that of a link would
    let trie = Kind {
        kind: LPM_TRIE,
        key: 8,
        value: 8,
        elements: 8,
        flags: NO_PREALLOC,
    };
    let deeds: [(&str, Change<'_>); 3] = [
        (
            "a map in place of a link",
            Box::new(|pins| map(&pins.join(&link), trie)),
        ),
        (
            "a directory in place of a link",
            Box::new(|pins| {
                fs::remove_file(pins.join(&link))?;
                fs::create_dir_all(pins.join(&link).join("deep")).map_err(Into::into)
            }),
        ),
        (
            "links in place of directories",
            Box::new(|pins| {
                symlink("nowhere", pins.join("filters"))?;
                symlink("nowhere", pins.join("maps-99-10-00000000"))?;
                symlink("nowhere", pins.join("unfinished")).map_err(Into::into)
            }),
        ),
    ];
    for (what, deed) in deeds {
        let said = succeed(&mut daemon, |daemon| deed(daemon.pin_path())).context(what)?;
        ensure!(
            said.iter().any(|line| line.contains(" WARN ")),
            "{what}: {said:?}"
        );
        ensure!(
            !said.iter().any(|line| line.contains(" ERROR ")),
            "{what}: {said:?}"
        );
        site.expect(53, 1).context(what)?;
    }
    Ok(())
}
