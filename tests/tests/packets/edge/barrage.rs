//! Packets as fast as this machine can send them, by all CPUs at once.

use super::Edge;
use anyhow::Result;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::cpu::Cpu;
use traffic_mirror_tests::lab::socket::{Capture, PacketSocket};

impl Edge {
    /// Sends a frame from the client again and again, by all CPUs at once.
    pub(crate) fn flood(&self, frame: &[u8], time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let client = &self.hosts[0];
        let send = |cpu: Cpu| {
            let socket = PacketSocket::open(client, "eth0", Capture::Nothing)?;
            cpu.run(|| {
                while Instant::now() < end {
                    socket.send(frame)?;
                }
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = Cpu::all()?.into_iter().map(|cpu| scope.spawn(move || send(cpu))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a sender does not panic"))
        })
    }
}
