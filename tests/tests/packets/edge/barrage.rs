//! Packets as fast as this machine can send them, by all CPUs at once.

use super::{Copies, Direction, Edge, marker, sort, take_one};
use crate::account::Passed;
use anyhow::{Context as _, Result};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::deadline;
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};
use traffic_mirror_tests::lab::status::{Counters, Status};
use traffic_mirror_tests::lab::vnet::VnetHeader;

/// What came of a barrage. What was sent on one CPU is in its order.
pub(crate) struct Arrived {
    /// Frames that came to the server, and to the client.
    pub(crate) originals: [Vec<Vec<u8>>; 2],
    /// What the collector got, by endpoint.
    pub(crate) copies: Copies,
    /// What else the collector got.
    pub(crate) strangers: Vec<Vec<u8>>,
    /// Which counters moved.
    pub(crate) moved: Counters,
}

/// A limit as the programs keep it, beside which [`Edge::flood`] puts theirs. All in seconds.
pub(crate) struct Limit {
    /// What a packet takes.
    pub(crate) per_packet: f64,
    /// How much of the time that nothing used is remembered.
    pub(crate) depth: f64,
}

/// How much of a [`Limit`] is used, in seconds.
#[derive(Default)]
struct Usage {
    last: f64,
    unused: f64,
    forgotten: f64,
}

impl Usage {
    /// A packet comes at `now`.
    fn packet(&mut self, limit: &Limit, now: f64) {
        self.unused += (now - self.last).max(0.0);
        self.last = self.last.max(now);
        self.forgotten += (self.unused - limit.depth).max(0.0);
        self.unused = self.unused.min(limit.depth);
        if self.unused > 0.0 {
            self.unused -= limit.per_packet;
        }
    }
}

impl Edge {
    /// Sends a frame from the client again and again, by all CPUs at once. Returns the seconds that
    /// the limit forgets, since too few frames came to use them: others had the CPUs meanwhile.
    pub(crate) fn flood(&self, frame: &[u8], time: Duration, limit: &Limit) -> Result<f64> {
        let (begin, client) = (Instant::now(), &self.hosts[0]);
        let usage = Mutex::new(Usage::default());
        let sent = || {
            let mut usage = usage.lock().unwrap_or_else(PoisonError::into_inner);
            usage.packet(limit, begin.elapsed().as_secs_f64());
        };
        let send = |cpu: Cpu| {
            let socket = PacketSocket::open(client, "eth0", Capture::Nothing)?;
            cpu.run(|| {
                while begin.elapsed() < time {
                    socket.send(frame)?;
                    sent();
                }
                Ok(())
            })
        };
        let send = &send;
        std::thread::scope(|scope| {
            let threads: Vec<_> = Cpu::all()?
                .into_iter()
                .map(|cpu| scope.spawn(move || send(cpu)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a sender does not panic"))
        })?;
        sent();
        let usage = usage.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(usage.forgotten)
    }

    /// Sends each share of frames on a CPU of its own, all at once, and takes what comes of them.
    pub(crate) fn barrage(&mut self, shares: &[Vec<(Direction, Vec<u8>)>]) -> Result<Arrived> {
        let cpus = Cpu::all()?;
        let send_all = |share: &[(Direction, Vec<u8>)]| {
            share
                .iter()
                .try_for_each(|(way, frame)| self.senders[*way as usize].plain.send(frame))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .iter()
                .zip(cpus.iter().cycle())
                .map(|(share, cpu)| scope.spawn(move || cpu.run(|| send_all(share))))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a sender does not panic"))
        })?;
        self.gather()
    }

    /// Sends the superpackets so many times, each on a CPU of its own and by itself, all at once,
    /// and takes what comes of them.
    pub(crate) fn storm(
        &mut self,
        superpackets: &[(Vec<u8>, VnetHeader)],
        times: usize,
    ) -> Result<Arrived> {
        let edge = &self.edge;
        let start = Barrier::new(superpackets.len());
        let send_all = |frame: &[u8], header: VnetHeader| {
            let socket = PacketSocket::open_vnet(edge, "eth0", Capture::Nothing);
            start.wait();
            let socket = socket?;
            (0..times).try_for_each(|_| socket.send_vnet(frame, header))
        };
        let send_all = &send_all;
        std::thread::scope(|scope| {
            let threads: Vec<_> = superpackets
                .iter()
                .zip(Cpu::all()?.into_iter().cycle())
                .map(|((frame, header), cpu)| {
                    scope.spawn(move || cpu.run(|| send_all(frame, *header)))
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a sender does not panic"))
        })?;
        self.gather()
    }

    /// Takes what comes of all that was sent.
    fn gather(&mut self) -> Result<Arrived> {
        let cpus = Cpu::all()?;
        let send_all = |share: &[(Direction, Vec<u8>)]| {
            share
                .iter()
                .try_for_each(|(way, frame)| self.senders[*way as usize].plain.send(frame))
        };
        let markers: Vec<_> = cpus.iter().map(|_| marker()).collect();
        for (cpu, marker) in cpus.iter().zip(&markers) {
            cpu.run(|| {
                send_all(&[
                    (Direction::Ingress, marker.clone()),
                    (Direction::Egress, marker.clone()),
                ])
            })?;
        }
        let at_server = self
            .at_server
            .until_all(&markers, deadline())
            .context("at the server")?;
        let at_client = self
            .at_client
            .until_all(&markers, deadline())
            .context("at the client")?;
        // only now all copies are on their way: ksoftirqd may have had the packets until then
        for (cpu, marker) in cpus.iter().zip(&markers) {
            cpu.run(|| self.flush.send(marker))?;
        }
        let (copies, strangers) = sort(
            self.copies
                .until_all(&markers, deadline())
                .context("at the collector")?,
        )?;
        let status = Status::count(&self.daemon)?;
        self.daemon.check(&status, Passed::Traffic)?;
        let mut moved = status.since(&self.status)?;
        self.status = status;
        for way in markers
            .iter()
            .flat_map(|_| [Direction::Ingress, Direction::Egress])
        {
            take_one(&mut moved, &format!("{} not-ip", way.hook()));
        }
        Ok(Arrived {
            originals: [at_server, at_client],
            copies,
            strangers,
            moved,
        })
    }

    /// How many packets the interfaces of the laboratory have dropped.
    pub(crate) fn lost(&self) -> Result<u64> {
        let lost_in = |netns: &Netns| -> Result<u64> {
            let links: serde_json::Value =
                serde_json::from_str(&netns.run("ip -statistics -json link show")?)?;
            let of = |link: &serde_json::Value, way: &str| link["stats64"][way]["dropped"].as_u64();
            let links = links.as_array().context("no list of links")?;
            let counts = links
                .iter()
                .flat_map(|link| [of(link, "rx"), of(link, "tx")]);
            counts
                .sum::<Option<u64>>()
                .context("links without counters of drops")
        };
        self.hosts.iter().chain([&self.edge]).map(lost_in).sum()
    }
}
