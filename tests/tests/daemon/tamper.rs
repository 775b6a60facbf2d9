//! Somebody else writes into the maps.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use traffic_mirror::kernel::Generation;
use traffic_mirror::tables::Table;
use traffic_mirror_ebpf::abi::{Action, Bank, Control, Endpoint};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};

use crate::site::{Site, attach, config, mechanisms, shell, status_of, status_until};

/// Something of every table is in use.
fn file() -> String {
    let nets = (1..=9)
        .map(|n| format!("\"10.{n}.0.0/16\", \"10.{n}.7.0/24\", \"10.{n}.7.9\""))
        .collect::<Vec<_>>();
    let nets = nets.join(", ");
    config(&[53])
        + &format!(
            "\n[endpoint.log]\naddress = \"192.0.2.10\"\nport = 6081\n\
             \n[[filter]]\nname = \"nets\"\nsource = [{nets}, \"2001:db8::/32\", \"2001:db8:7::9\", \"fd00::1\"]\nto = [\"log\"]\n\
             \n[[filter]]\nname = \"not\"\naction = \"exclude\"\nprotocol = [\"tcp\"]\ndestination_port = [\"1-1023\"]\n"
        )
}

/// A part of a table: bytes of each element. Of what exists twice each copy is a part.
const PARTS: [(Table, usize, usize); 19] = {
    const ENDPOINT: usize = size_of::<Endpoint>();
    const ACTION: usize = size_of::<Action>();
    const BANK: usize = size_of::<Bank>();
    const BANKS: usize = offset_of!(Control, banks);
    const fn whole(table: Table) -> (Table, usize, usize) {
        (table, 0, table.element_bytes())
    }
    [
        whole(Table::Blocks),
        whole(Table::Classes),
        whole(Table::Nodes),
        whole(Table::Skips),
        whole(Table::Rows),
        whole(Table::Filters),
        whole(Table::EndpointNames),
        whole(Table::Hooks),
        whole(Table::Listed),
        whole(Table::Values),
        (Table::Slots, 0, ACTION),
        (Table::Slots, ACTION, 2 * ACTION),
        (Table::Slots, 2 * ACTION, 2 * ACTION + 8),
        (Table::Endpoints, 0, ENDPOINT),
        (Table::Endpoints, ENDPOINT, 2 * ENDPOINT),
        (Table::Control, BANKS, BANKS + BANK),
        (Table::Control, BANKS + BANK, BANKS + 2 * BANK),
        (Table::Control, offset_of!(Control, generation), BANKS),
        whole(Table::Control),
    ]
};

/// What somebody does to the bytes of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// As `bpftool map update` with zeros: elements of arrays cannot be deleted.
    Clear,
    /// Each bit of what is in use becomes another.
    Turn,
}

type Content = BTreeMap<Table, Vec<u8>>;

fn live(daemon: &Daemon) -> Result<Generation> {
    let number = Generation::list(daemon.pin_path())?
        .pop()
        .context("no maps")?;
    Ok(Generation::open(daemon.pin_path(), number))
}

fn content(daemon: &Daemon) -> Result<Content> {
    let live = live(daemon)?;
    Table::ALL
        .into_iter()
        .map(|table| Ok((table, live.read(table)?)))
        .collect()
}

/// Writes into a part of a live table; how many elements have changed.
pub(crate) fn tamper(
    daemon: &Daemon,
    (table, from, to): (Table, usize, usize),
    deed: Deed,
) -> Result<usize> {
    let live = live(daemon)?;
    let before = live.read(table)?;
    let mut after = before.clone();
    for element in after.chunks_exact_mut(table.element_bytes()) {
        let part = &mut element[from..to];
        match deed {
            Deed::Clear => part.fill(0),
            Deed::Turn if part.iter().any(|byte| *byte != 0) => {
                part.iter_mut().for_each(|byte| *byte ^= 0xff)
            }
            Deed::Turn => {}
        }
    }
    live.write(table, [(0, &after[..])])?;
    let elements = before
        .chunks_exact(table.element_bytes())
        .zip(after.chunks_exact(table.element_bytes()));
    Ok(elements.filter(|(before, after)| before != after).count())
}

/// Has the daemon look at everything again, as after anything that happens to an interface.
fn nudge(site: &Site, serial: usize) -> Result<()> {
    site.edge
        .run(&format!("ip link set dev lo alias nudge-{serial}"))
        .map(drop)
}

/// What the daemon has said about maps that were written by others.
fn said(daemon: &Daemon) -> Vec<String> {
    daemon
        .output()
        .into_iter()
        .filter(|line| line.contains("modified the eBPF maps"))
        .collect()
}

/// Waits until the maps hold what they held before. What tells one time that `encap` was put on
/// from another may be another number by then.
fn restored(daemon: &Daemon, before: &Content) -> Result<()> {
    let same = |mut content: Content| {
        content
            .get_mut(&Table::Control)
            .into_iter()
            .for_each(|control| control[..4].fill(0));
        let endpoints = content.get_mut(&Table::Endpoints).into_iter();
        for endpoint in
            endpoints.flat_map(|bytes| bytes.as_chunks_mut::<{ size_of::<Endpoint>() }>().0)
        {
            endpoint[offset_of!(Endpoint, breaker)..][..4].fill(0);
        }
        content
    };
    let (before, deadline) = (same(before.clone()), deadline());
    loop {
        let now = same(content(daemon)?);
        let differ: Vec<Table> = Table::ALL
            .into_iter()
            .filter(|table| now[table] != before[table])
            .collect();
        if differ.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{differ:?} still differ");
    }
}

#[test]
fn what_was_written_into_any_table_is_undone_said_and_counted_once() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53])?;
    daemon.write_config(&file())?;
    daemon.reload_done(deadline())?;
    status_until(&daemon, |code, status| {
        code == 0 && status["endpoints"][1]["next_hop"].is_string()
    })?;
    site.expect(53, 1)?;
    let before = content(&daemon)?;
    let mut repairs = 0;
    for part in PARTS {
        for deed in [Deed::Clear, Deed::Turn] {
            let what = || format!("{deed:?} {part:?}");
            // stopped, so that it cannot see the half of it
            daemon.signal(Signal::SIGSTOP)?;
            let elements = tamper(&daemon, part, deed)?;
            ensure!(elements > 0, "{}: nothing there", what());
            for _ in 0..4 {
                site.send_by("eth0", "eth0", 53).with_context(what)?;
            }
            daemon.signal(Signal::SIGCONT)?;
            repairs += 1;
            nudge(&site, repairs)?;
            let line = daemon
                .wait_line(|line| line.contains("modified the eBPF maps"), deadline())
                .with_context(what)?;
            let count = if elements == 1 {
                "1 element".to_owned()
            } else {
                format!("{elements} elements")
            };
            let wanted = format!(" WARN another process modified the eBPF maps: restored {count}");
            // ports are told apart by ranges
            ensure!(
                line.ends_with(&wanted) || part.0 == Table::Values,
                "{}: {line}",
                what()
            );
            restored(&daemon, &before).with_context(what)?;
            status_until(&daemon, |code, status| {
                code == 0 && status["repairs"] == repairs
            })
            .with_context(what)?;
            site.drain()?;
            // several, so that each CPU has had to do with it
            for _ in 0..4 {
                site.expect(53, 1).with_context(what)?;
            }
        }
    }
    // nothing more is said, however often it looks
    daemon.signal(Signal::SIGHUP)?;
    daemon.reload_done(deadline())?;
    assert_eq!(said(&daemon).len(), repairs);
    assert_eq!(status_of(&daemon)?.1["repairs"], json!(repairs));
    Ok(())
}

#[test]
fn whatever_stands_in_the_maps_the_next_daemon_mirrors_again() -> Result<()> {
    let mut site = Site::new()?;
    for mechanism in mechanisms()? {
        let mut daemon = site.launch(&[53], attach(mechanism))?;
        daemon.changed_by_others();
        daemon.write_config(&file())?;
        daemon.reload_done(deadline())?;
        for part in PARTS {
            for deed in [Deed::Clear, Deed::Turn] {
                let what = || format!("{deed:?} {part:?}");
                daemon.signal(Signal::SIGKILL)?;
                daemon.wait_exit(deadline())?;
                ensure!(
                    tamper(&daemon, part, deed)? > 0,
                    "{}: nothing there",
                    what()
                );
                site.send_by("eth0", "eth0", 53).with_context(what)?;
                daemon.restart()?;
                daemon.ready(deadline()).with_context(what)?;
                status_until(&daemon, |code, _| code == 0).with_context(what)?;
                site.drain()?;
                for _ in 0..4 {
                    site.expect(53, 1).with_context(what)?;
                }
                site.expect(54, 0).with_context(what)?;
            }
        }
        site.stops(&mut daemon)?;
    }
    Ok(())
}

#[test]
fn a_copy_that_was_redirected_by_hand_does_not_stop_the_endpoint() -> Result<()> {
    let mut site = Site::new()?;
    let daemon = site.daemon(&[53])?;
    let index = site.edge.index("eth0")?;
    daemon.signal(Signal::SIGSTOP)?;
    let maps = live(&daemon)?;
    for copy in 0..2 {
        let at = copy * size_of::<Endpoint>() + offset_of!(Endpoint, interface);
        maps.write(Table::Endpoints, [(at, &index.to_ne_bytes()[..])])?;
    }
    // no `encap` there: circuit breakers trip
    for _ in 0..4 {
        site.send_by("eth0", "eth0", 53)?;
    }
    status_until(&daemon, |code, _| code == 1)?;
    daemon.signal(Signal::SIGCONT)?;
    nudge(&site, 0)?;
    daemon.wait_line(
        |line| line.ends_with("another process modified the eBPF maps: restored 1 element"),
        deadline(),
    )?;
    status_until(&daemon, |code, _| code == 0)?;
    for _ in 0..4 {
        site.expect(53, 1)?;
    }
    Ok(())
}

#[test]
fn an_element_written_with_bpftool_is_restored_by_a_reload_that_changes_other_things() -> Result<()>
{
    let mut site = Site::new()?;
    let mut daemon = site.daemon(&[53, 54])?;
    let map = crate::site::maps_of(&daemon, 1)?.join("SLOTS");
    let zeros = "0 ".repeat(Table::Slots.element_bytes());
    daemon.signal(Signal::SIGSTOP)?;
    shell(&format!(
        "bpftool map update pinned {} key 0 0 0 0 value {zeros}",
        map.display()
    ))?;
    daemon.write_config(&config(&[53, 54, 55]))?;
    daemon.signal(Signal::SIGCONT)?;
    daemon.wait_line(|line| line.ends_with("INFO + filter port-55"), deadline())?;
    daemon.wait_line(
        |line| line.ends_with("another process modified the eBPF maps: restored 1 element"),
        deadline(),
    )?;
    daemon.reload_done(deadline())?;
    assert_eq!(
        (said(&daemon).len(), &status_of(&daemon)?.1["repairs"]),
        (1, &json!(1))
    );
    [53, 54, 55]
        .into_iter()
        .try_for_each(|port| site.expect(port, 1))
}

#[test]
fn what_leaves_by_the_output_passes_as_it_is_even_if_the_maps_are_cleared() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        let daemon = site.launch(&[53], attach(mechanism))?;
        let frame = eth_between(site.edge.mac("eth1")?, site.host.mac("eth0")?)
            .ip("192.0.2.1", "192.0.2.10");
        let frame = frame.udp(9, 999).payload("production").build();
        let mut arrived =
            Collector::start_filtered(&site.host, "eth0", |frame| frame.ends_with(b"production"))?;
        daemon.signal(Signal::SIGSTOP)?;
        for table in [Table::Control, Table::Endpoints] {
            tamper(&daemon, (table, 0, table.element_bytes()), Deed::Clear)?;
            PacketSocket::open(&site.edge, "eth1", Capture::Nothing)?.send(&frame)?;
            let frames = arrived
                .wait_for(1, deadline())
                .with_context(|| format!("{mechanism} {table:?}"))?;
            ensure!(
                frames == [frame.clone()],
                "{mechanism} {table:?}: {frames:02x?}"
            );
        }
        daemon.signal(Signal::SIGCONT)?;
    }
    Ok(())
}

#[test]
fn maps_whose_pins_were_removed_are_made_again() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = Daemon::start(&site.edge, &file())?;
    let names: Vec<_> = crate::site::maps_of(&daemon, 1)?
        .read_dir()?
        .collect::<Result<_, _>>()?;
    let names: Vec<_> = names.into_iter().map(|entry| entry.file_name()).collect();
    // one of them, by turns below a running and a dead daemon, and at last all of them with their
    // directory
    for (turn, name) in (1..).zip(names.iter().map(Some).chain([None, None])) {
        let maps = crate::site::maps_of(&daemon, turn)?;
        let is_dead = turn % 2 == 0;
        if is_dead {
            daemon.signal(Signal::SIGKILL)?;
            daemon.wait_exit(deadline())?;
        }
        match name {
            Some(name) => std::fs::remove_file(maps.join(name))?,
            None => std::fs::remove_dir_all(&maps)?,
        }
        site.expect(53, 1)
            .with_context(|| format!("without {name:?}"))?;
        if is_dead {
            daemon.restart()?;
            daemon.ready(deadline())?;
        } else {
            nudge(&site, turn as usize)?;
            daemon.wait_line(
                |line| {
                    line.ends_with("WARN another process removed the eBPF maps: loaded new ones")
                },
                deadline(),
            )?;
        }
        status_until(&daemon, |code, _| code == 0).with_context(|| format!("without {name:?}"))?;
        site.expect(53, 1)?;
    }
    site.stops(&mut daemon)
}
