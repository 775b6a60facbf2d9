//! The segmenter, which cuts superpackets into packets: there when it is needed, kept as it must
//! be, and never there otherwise.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::collector::Collector;
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::daemon::Daemon;
use traffic_mirror_tests::lab::packet::eth_between;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::Status;
use traffic_mirror_tests::lab::traffic::Stream;
use traffic_mirror_tests::lab::vnet::VnetHeader;
use traffic_mirror_tests::lab::{deadline, ethtool, pause};

use crate::site::{Site, attach, config, mechanisms};

const PORT: u16 = 53;
/// Time for copies to come.
const SOON: Duration = Duration::from_secs(2);
/// Datagrams of a superpacket.
const DATAGRAMS: usize = 8;

/// Names of the segmenter's interfaces in the edge, with their indices.
fn segmenter(site: &Site) -> Result<Vec<String>> {
    let links = site.edge.run("ip -oneline link show")?;
    let names = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1).map(|name| (line, name)));
    let ours = names.filter(|(_, name)| name.starts_with("tm"));
    Ok(ours
        .filter_map(|(line, name)| {
            Some(format!(
                "{} {}",
                line.split(':').next()?,
                name.split('@').next()?
            ))
        })
        .collect())
}

/// Waits until there is a segmenter, or none.
fn wait(site: &Site, is_there: bool) -> Result<Vec<String>> {
    let until = deadline();
    loop {
        let found = segmenter(site)?;
        if found.len() == if is_there { 3 } else { 0 } {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "there is {found:?}");
        pause();
    }
}

/// Waits until there is a segmenter and it is used: one that was missed once would stay.
fn wait_used(site: &Site, daemon: &Daemon) -> Result<()> {
    wait(site, true)?;
    let until = deadline();
    while !daemon.run(&["plan"])?.status.success() {
        ensure!(Instant::now() < until, "the segmenter is not used");
        pause();
    }
    Ok(())
}

/// Sends superpackets from the client through the edge's `eth0`, on one CPU, so that their copies
/// come in order.
struct Sender {
    socket: PacketSocket,
    cpu: Cpu,
    collector: Collector,
    /// How many were sent: no two are alike.
    serial: Cell<u64>,
}

impl Sender {
    fn new(site: &Site) -> Result<Self> {
        // what comes is what a wire would carry
        ethtool::offload(&site.edge, "eth1", false)?;
        ethtool::offload(&site.host, "eth0", false)?;
        let collector = Collector::start_gue(&site.host, "eth0")?;
        let socket = PacketSocket::open_vnet(&site.client, "eth0", Capture::Nothing)?;
        Ok(Self {
            socket,
            cpu: Cpu::next()?,
            collector,
            serial: Cell::default(),
        })
    }

    /// Sends one with datagrams of so many bytes, and returns them.
    fn send(&self, site: &Site, bytes: usize) -> Result<Vec<Vec<u8>>> {
        self.serial.set(self.serial.get() + 1);
        let payload = Stream::new(self.serial.get()).bytes(DATAGRAMS * bytes);
        let macs = (site.client.mac("eth0")?, site.edge.mac("eth0")?);
        let frame = eth_between(macs.0, macs.1)
            .ip("10.0.0.1", "10.0.0.254")
            .udp(999, PORT);
        let mut frame = frame.payload(&payload[..]).build();
        let header = VnetHeader::gso(&mut frame, bytes.try_into()?)?;
        self.cpu.run(|| self.socket.send_vnet(&frame, header))?;
        Ok(payload.chunks(bytes).map(<[u8]>::to_vec).collect())
    }

    /// Each datagram of one comes as a copy, and nothing else does. Another one behind it, the
    /// same way, is the sentinel: what comes after its last datagram belongs to neither.
    fn arrives(&mut self, site: &Site, bytes: usize) -> Result<()> {
        let mut datagrams = self.send(site, bytes)?;
        datagrams.extend(self.send(site, bytes)?);
        let last = datagrams.pop().context("a superpacket of nothing")?;
        // what was sent while the segmenter was being mended may be lost, so whoever tries again
        // must not wait for long
        let copies = self
            .collector
            .copies_until(|copy| copy.inner.ends_with(&last), Instant::now() + SOON)
            .context("of a superpacket")?;
        let came: Vec<_> = copies.iter().map(|copy| &copy.inner[28..]).collect();
        ensure!(
            came == datagrams,
            "{} copies came, or others than the {} sent",
            came.len(),
            datagrams.len()
        );
        Ok(())
    }

    /// Sends them until the first has come, and takes what came.
    fn resumes(&mut self, site: &Site, bytes: usize) -> Result<()> {
        let until = deadline();
        loop {
            self.send(site, bytes)?;
            // the sentinel is the last, be there copies before it or not
            let (count, before) = (self.collector.count(), Instant::now());
            while self.collector.count() == count && before.elapsed().as_millis() < 100 {
                std::thread::yield_now();
            }
            let came = self.collector.take()?.len();
            if came >= DATAGRAMS {
                break;
            }
            ensure!(Instant::now() < until, "{came} frames came");
        }
        // a part of the last one may have come behind
        let until = deadline();
        while let Err(error) = self.arrives(site, bytes) {
            ensure!(
                Instant::now() < until,
                "no superpacket arrives whole: {error:#}"
            );
        }
        Ok(())
    }
}

fn dropped(daemon: &Daemon) -> Result<u64> {
    Ok(Status::read(daemon)?
        .counters()
        .get("endpoint ids drop no-segmenter")
        .copied()
        .unwrap_or(0))
}

/// 1,452 bytes make a packet of 1,480, which has 1,512 once wrapped.
const BYTES: usize = 1452;

#[test]
fn only_a_host_that_needs_one_has_a_segmenter() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        // a pattern that would match its interfaces, too
        let file = config(&[PORT]) + "\n[[interface]]\nname = \"tm*\"\n";
        let mut daemon = Daemon::spawn(&site.edge, &file, attach(mechanism))?;
        daemon.ready(deadline())?;
        let mut sender = Sender::new(&site)?;
        ensure!(
            segmenter(&site)?.is_empty(),
            "{mechanism}: a segmenter where all fits"
        );
        sender.resumes(&site, BYTES)?;

        site.edge.run("ip link set eth1 mtu 1500")?;
        wait_used(&site, &daemon)?;
        sender.resumes(&site, BYTES)?;
        let status = Status::read(&daemon)?;
        let hooks = status.0["interfaces"].as_array().context("interfaces")?;
        let others: Vec<_> = hooks
            .iter()
            .filter_map(|hook| hook["name"].as_str())
            .filter(|n| n.starts_with("tm"))
            .collect();
        ensure!(others.is_empty(), "{mechanism}: {others:?} are looked at");
        // production's multicast would go there
        for routes in ["ip -6 route show table all", "ip -4 route show table all"] {
            let routes = site.edge.run(routes)?;
            ensure!(
                !routes.contains("dev tm"),
                "{mechanism}: a route of the segmenter's: {routes}"
            );
        }

        site.edge.run("ip link set eth1 mtu 1600")?;
        wait(&site, false)?;
        sender.resumes(&site, BYTES)?;

        site.edge.run("ip link set eth1 mtu 1500")?;
        wait(&site, true)?;
        daemon.signal(Signal::SIGTERM)?;
        ensure!(
            daemon.wait_exit(deadline())? == 0,
            "{mechanism}: it did not stop well"
        );
        ensure!(
            segmenter(&site)?.is_empty(),
            "{mechanism}: a segmenter is left"
        );
        site.bare(daemon.pin_path())?;
    }
    Ok(())
}

#[test]
fn a_segmenter_outlives_the_daemon_and_is_taken_over() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        site.edge.run("ip link set eth1 mtu 1500")?;
        let mut daemon = site.launch(&[PORT], attach(mechanism))?;
        let mut sender = Sender::new(&site)?;
        let before = wait(&site, true)?;
        sender.resumes(&site, BYTES)?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;
        sender.arrives(&site, BYTES)?;
        daemon.restart()?;
        daemon.ready(deadline())?;
        sender.arrives(&site, BYTES)?;
        ensure!(
            segmenter(&site)? == before,
            "{mechanism}: {:?} was {before:?}",
            segmenter(&site)?
        );
        ensure!(dropped(&daemon)? == 0, "{mechanism}: copies were dropped");
    }
    Ok(())
}

/// An earlier version called the segmenter's program `lane`, and the place of programs that are
/// relocated `turns`.
#[test]
fn pins_of_an_earlier_version_are_taken_over() -> Result<()> {
    for mechanism in mechanisms()? {
        let mut site = Site::new()?;
        site.edge.run("ip link set eth1 mtu 1500")?;
        let mut daemon = site.launch(&[PORT, 4000, 4001], attach(mechanism))?;
        let mut sender = Sender::new(&site)?;
        wait_used(&site, &daemon)?;
        sender.resumes(&site, BYTES)?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(deadline())?;

        let pins = daemon.pin_path().to_owned();
        let mut renamed = 0;
        for dir in ["links", "filters"] {
            for name in names(&pins.join(dir)) {
                if let Some(rest) = name.strip_prefix("segmenter") {
                    let earlier = pins.join(dir).join(format!("lane{rest}"));
                    fs::rename(pins.join(dir).join(&name), earlier)?;
                    renamed += 1;
                }
            }
        }
        ensure!(renamed == 1, "{mechanism}: {renamed} pins of the segmenter");
        let maps = names(&pins)
            .into_iter()
            .find(|name| name.starts_with("maps-"));
        let maps = maps.context("no maps")?;
        let earlier = maps.rsplit_once('-').context("no build id")?.0;
        fs::rename(pins.join(&maps), pins.join(format!("{earlier}-00000001")))?;
        fs::create_dir(pins.join("turns"))?;
        // what has another name than its today's is still at work
        sender.arrives(&site, BYTES)?;

        let sent = site.flood(|| {
            daemon.restart()?;
            daemon.ready(deadline())
        })?;
        println!(
            "{mechanism}: {} packets meanwhile, each copied once",
            sent.sent
        );
        // those are on the same wire
        sender.collector.take()?;
        sender.arrives(&site, BYTES)?;
        let left: Vec<String> = ["", "links", "filters"]
            .iter()
            .flat_map(|dir| names(&pins.join(dir)))
            .collect();
        let is_earlier = |name: &String| name.starts_with("lane") || name == "turns";
        ensure!(!left.iter().any(is_earlier), "{mechanism}: {left:?}");
        let segmenters = left.iter().filter(|name| name.starts_with("segmenter"));
        ensure!(segmenters.count() == 1, "{mechanism}: {left:?}");
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_exit(deadline())?;
        site.bare(&pins)?;
    }
    Ok(())
}

/// What is in a directory; nothing if there is none.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

#[test]
fn a_damaged_segmenter_is_mended() -> Result<()> {
    for mechanism in mechanisms()? {
        let site = Site::new()?;
        site.edge.run("ip link set eth1 mtu 1500")?;
        let daemon = site.launch(&[PORT], attach(mechanism))?;
        let mut sender = Sender::new(&site)?;
        wait(&site, true)?;
        sender.resumes(&site, BYTES)?;
        for damage in [
            "ip link delete IN",
            "ip link delete OUT",
            "ip link set END down",
            "ip link set OUT down",
            "ip link set IN gso_max_segs 60",
            "ip link set IN gso_max_size 65536",
            "ip link set OUT mtu 1500",
            "ip link set IN arp on",
            "tc qdisc add dev IN root bfifo",
        ] {
            let names = segmenter(&site)?;
            let name = |suffix: &str| {
                let found = names
                    .iter()
                    .filter_map(|one| one.split(' ').nth(1))
                    .find(|name| name.ends_with(suffix));
                found
                    .map(str::to_owned)
                    .with_context(|| format!("no {suffix} in {names:?}"))
            };
            let line = damage
                .replace("IN", &name("-in")?)
                .replace("OUT", &name("-out")?)
                .replace("END", &name("-end")?);
            site.edge.run(&line)?;
            if ["gso_max", "qdisc"]
                .iter()
                .any(|what| damage.contains(what))
            {
                // nobody tells of that, and the timer is slow
                daemon.signal(Signal::SIGHUP)?;
            }
            sender
                .resumes(&site, BYTES)
                .with_context(|| format!("{mechanism}: {damage}: {:#?}", daemon.output()))?;
            let repaired = "another process modified the software segmenter: recreated it";
            daemon
                .wait_line(|line| line.ends_with(repaired), deadline())
                .with_context(|| damage.to_owned())?;
            wait(&site, true)?;
        }
        // of a link that is detached nobody tells the daemon
        if mechanism == "clsact" {
            let names = segmenter(&site)?;
            let exit = names
                .iter()
                .find(|name| name.ends_with("-out"))
                .and_then(|name| name.split(' ').nth(1));
            site.edge.run(&format!(
                "tc qdisc delete dev {} clsact",
                exit.context("no exit")?
            ))?;
            sender
                .resumes(&site, BYTES)
                .context("without the qdisc at its exit")?;
        }
    }
    Ok(())
}

/// Whoever removes it again and again does not keep the daemon busy; later it is made all the same.
#[test]
fn a_segmenter_is_tried_again() -> Result<()> {
    let site = Site::new()?;
    site.edge.run("ip link set eth1 mtu 1500")?;
    let daemon = site.daemon(&[PORT])?;
    let mut sender = Sender::new(&site)?;
    wait_used(&site, &daemon)?;
    const MOST_REPAIRS: usize = 20;
    let (again, in_vain) = (
        "another process modified the software segmenter: recreated it",
        "each time the daemon creates them",
    );
    let told = |daemon: &Daemon| {
        daemon
            .output()
            .iter()
            .filter(|line| line.ends_with(again))
            .count()
    };
    while daemon.output().iter().all(|line| !line.contains(in_vain)) {
        for name in segmenter(&site)?
            .iter()
            .filter_map(|one| one.split(' ').nth(1))
            .filter(|name| name.ends_with("-out"))
        {
            // it may be gone already
            let _ = site.edge.run(&format!("ip link delete {name}"));
        }
        ensure!(told(&daemon) <= MOST_REPAIRS, "it is made again and again");
    }
    daemon.wait_line(|line| line.contains(in_vain), deadline())?;
    ensure!(
        segmenter(&site)?.is_empty(),
        "there is {:?}",
        segmenter(&site)?
    );
    // the slow timer
    daemon.wait_line(
        |line| line.ends_with(again),
        Instant::now() + Duration::from_secs(120),
    )?;
    wait(&site, true)?;
    sender.resumes(&site, BYTES)
}

#[test]
fn detach_removes_a_segmenter_whose_pins_are_gone() -> Result<()> {
    let site = Site::new()?;
    site.edge.run("ip link set eth1 mtu 1500")?;
    let mut daemon = site.daemon(&[PORT])?;
    wait(&site, true)?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    std::fs::remove_dir_all(daemon.pin_path())?;
    let detached = daemon.run(&["detach"])?;
    ensure!(
        detached.status.success(),
        "{}",
        String::from_utf8_lossy(&detached.stderr)
    );
    ensure!(
        segmenter(&site)?.is_empty(),
        "there is {:?}",
        segmenter(&site)?
    );
    Ok(())
}

/// One datagram is longer than the interface's MTU says: nobody could know before that a segmenter
/// would be needed.
#[test]
fn a_segmenter_is_made_when_it_was_missed() -> Result<()> {
    const LONG_BYTES: usize = 3000;
    let site = Site::new()?;
    let daemon = site.daemon(&[PORT])?;
    let mut sender = Sender::new(&site)?;
    ensure!(segmenter(&site)?.is_empty(), "there is a segmenter");
    sender.send(&site, LONG_BYTES)?;
    let until = deadline();
    while dropped(&daemon)? != DATAGRAMS as u64 {
        ensure!(Instant::now() < until, "{} were dropped", dropped(&daemon)?);
    }
    // sooner than by the timer
    daemon.signal(Signal::SIGHUP)?;
    wait(&site, true)?;
    sender.resumes(&site, LONG_BYTES)
}

/// The file is live only when all of it is there, the segmenter, too.
#[test]
fn a_file_whose_segmenter_is_missing_is_not_live() -> Result<()> {
    let site = Site::new()?;
    let mut daemon = site.daemon(&[PORT])?;
    let sender = Sender::new(&site)?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_exit(deadline())?;
    ensure!(
        daemon.run(&["wait", "--timeout", "0"])?.status.success(),
        "it is not live before"
    );
    sender.send(&site, 3000)?;
    let until = deadline();
    while dropped(&daemon)? == 0 {
        ensure!(Instant::now() < until, "nothing is dropped");
    }
    ensure!(
        !daemon.run(&["wait", "--timeout", "0"])?.status.success(),
        "it is live without a segmenter"
    );
    let plan = String::from_utf8(daemon.run(&["plan"])?.stdout)?;
    ensure!(plan.starts_with("+ segmenter\n"), "{plan}");
    daemon.restart()?;
    daemon.ready(deadline())?;
    ensure!(
        segmenter(&site)?.len() == 3,
        "it is ready with {:?}",
        segmenter(&site)?
    );
    ensure!(
        daemon.run(&["wait", "--timeout", "0"])?.status.success(),
        "it is ready, and not live"
    );
    Ok(())
}

#[test]
fn a_segmenter_that_cannot_be_made_is_said_and_counted() -> Result<()> {
    let site = Site::new()?;
    site.edge.run("ip link set eth1 mtu 1500")?;
    let mut daemon = site.daemon(&[PORT])?;
    let mut sender = Sender::new(&site)?;
    let names = wait(&site, true)?;
    let entrance = names.iter().find_map(|name| {
        name.split(' ')
            .nth(1)?
            .ends_with("-in")
            .then(|| name.split(' ').nth(1))
    });
    let entrance = entrance.flatten().context("no entrance")?.to_owned();
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_exit(deadline())?;
    // a stranger has its name
    site.edge
        .run(&format!("ip link add name {entrance} type bridge"))?;
    daemon.restart()?;
    daemon.ready(deadline())?;
    daemon.wait_line(
        |line| line.contains(&format!("cannot make interface {entrance}")),
        deadline(),
    )?;
    let state = |status: &Status| status.endpoint("ids", "state").to_owned();
    let status = Status::run(&daemon)?;
    ensure!(
        state(&status) == "no-segmenter" && status.0["degraded"] == true,
        "before a loss it is {}",
        state(&status)
    );
    ensure!(
        daemon.run(&["wait", "--timeout", "0"])?.status.success(),
        "it waits for what cannot be"
    );
    sender.send(&site, BYTES)?;
    let until = deadline();
    while dropped(&daemon)? == 0 {
        ensure!(Instant::now() < until, "nothing is counted");
    }
    ensure!(
        state(&Status::run(&daemon)?) == "no-segmenter",
        "the state is {}",
        state(&Status::run(&daemon)?)
    );
    site.edge
        .run(&format!("ip link show {entrance} type bridge"))
        .context("the stranger is gone")?;
    site.edge.run(&format!("ip link delete {entrance}"))?;
    daemon.signal(Signal::SIGHUP)?;
    wait(&site, true)?;
    sender.resumes(&site, BYTES)?;
    Status::until(&daemon, |status| state(status) == "ready", deadline()).map(drop)
}
