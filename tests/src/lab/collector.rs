//! Catches what arrives at an interface, in the background and in order.

use super::netns::Netns;
use super::packet::{FiveTuple, Gue, Link, Reassembler, ip_part, is_gue};
use super::socket::{Capture, PacketSocket, PacketType};
use super::wait_readable;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::io::{PipeWriter, pipe};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A queue of the frames that arrive at an interface, tags in their place. What is taken is gone
/// from the queue; frames lost before it are an error of whoever takes next.
///
/// That nothing more will come is known without a sleep: send a sentinel down the same path, and
/// take up to it.
#[derive(Debug)]
pub struct Collector {
    frames: Receiver<Result<Vec<u8>>>,
    fragments: Reassembler,
    count: Arc<AtomicUsize>,
    socket: Arc<PacketSocket>,
    thread: Option<JoinHandle<()>>,
    stop: Option<PipeWriter>,
}

impl Collector {
    /// Catches all that arrives at `interface`, ARP and the like included.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self> {
        Self::start_filtered(netns, interface, |_| true)
    }

    /// Catches GUE and the later fragments of UDP packets.
    pub fn start_gue(netns: &Netns, interface: &str) -> Result<Self> {
        Self::start_filtered(netns, interface, is_gue)
    }

    /// Catches the frames for which `keep` holds.
    pub fn start_filtered(
        netns: &Netns,
        interface: &str,
        keep: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Result<Self> {
        let socket = Arc::new(PacketSocket::open(netns, interface, Capture::Incoming)?);
        let (sender, frames) = channel();
        let (stopped, stop) = pipe().context("make a pipe")?;
        let count = Arc::new(AtomicUsize::new(0));
        let (for_thread, counted) = (Arc::clone(&socket), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let end = capture(&for_thread, &stopped, &counted, &sender, keep);
            // without a receiver nobody is left to tell
            end.err().map(|error| sender.send(Err(error)));
        });
        let fragments = Reassembler::default();
        Ok(Self {
            frames,
            fragments,
            count,
            socket,
            thread: Some(thread),
            stop: Some(stop),
        })
    }

    /// How many frames have come since the start.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The same count, for another thread.
    pub fn counter(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// Takes the next frame; `None` if none has come at the deadline.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        match self
            .frames
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(frame) => frame.map(Some),
            Err(RecvTimeoutError::Timeout) => self.lossless().map(|()| None),
            Err(RecvTimeoutError::Disconnected) => bail!("the capture has ended"),
        }
    }

    /// Takes what has come.
    pub fn take(&mut self) -> Result<Vec<Vec<u8>>> {
        let frames = self.frames.try_iter().collect::<Result<_>>()?;
        self.lossless()?;
        Ok(frames)
    }

    /// Takes `n` frames. Fewer at the deadline are an error that lists them.
    pub fn wait_for(&mut self, n: usize, deadline: Instant) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while frames.len() < n {
            match self.next(deadline)? {
                Some(frame) => frames.push(frame),
                None => bail!(
                    "{} of {n} frames came in time{}",
                    frames.len(),
                    list(&frames)
                ),
            }
        }
        self.lossless()?;
        Ok(frames)
    }

    /// Takes frames through the first for which `sentinel` holds, and returns those before it.
    pub fn until(
        &mut self,
        sentinel: impl Fn(&[u8]) -> bool,
        deadline: Instant,
    ) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            match self.next(deadline)? {
                Some(frame) if sentinel(&frame) => break,
                Some(frame) => frames.push(frame),
                None => bail!(
                    "the sentinel did not come in time, but {} frames{}",
                    frames.len(),
                    list(&frames)
                ),
            }
        }
        self.lossless()?;
        Ok(frames)
    }

    /// Takes frames until one is a whole GUE packet, or outer fragments make one; `None` at the
    /// deadline. A frame that is no GUE packet is an error.
    pub fn next_copy(&mut self, deadline: Instant) -> Result<Option<Gue>> {
        while let Some(frame) = self.next(deadline)? {
            let described = describe(&frame);
            if let Some(whole) = self
                .fragments
                .push(frame)
                .with_context(|| described.clone())?
            {
                return Gue::parse(&whole).map(Some).with_context(|| described);
            }
        }
        Ok(None)
    }

    /// Takes frames until each sentinel has come, and returns the others.
    pub fn until_all(&mut self, sentinels: &[Vec<u8>], deadline: Instant) -> Result<Vec<Vec<u8>>> {
        let (mut missing, mut frames) = (sentinels.to_vec(), Vec::new());
        while !missing.is_empty() {
            match self.next(deadline)? {
                Some(frame) => match missing.iter().position(|sentinel| *sentinel == frame) {
                    Some(index) => drop(missing.swap_remove(index)),
                    None => frames.push(frame),
                },
                None => bail!(
                    "{} sentinels did not come in time, but {} frames",
                    missing.len(),
                    frames.len()
                ),
            }
        }
        self.lossless()?;
        Ok(frames)
    }

    /// Takes `n` GUE packets, in order. Fewer at the deadline are an error that lists them.
    pub fn copies(&mut self, n: usize, deadline: Instant) -> Result<Vec<Gue>> {
        let mut copies = Vec::new();
        while copies.len() < n {
            match self.next_copy(deadline)? {
                Some(copy) => copies.push(copy),
                None => {
                    return Err(
                        self.too_few(&format!("{} of {n} copies came", copies.len()), &copies)
                    );
                }
            }
        }
        self.lossless()?;
        Ok(copies)
    }

    /// Takes GUE packets through the first for which `sentinel` holds, and returns those before it.
    pub fn copies_until(
        &mut self,
        sentinel: impl Fn(&Gue) -> bool,
        deadline: Instant,
    ) -> Result<Vec<Gue>> {
        let mut copies = Vec::new();
        loop {
            match self.next_copy(deadline)? {
                Some(copy) if sentinel(&copy) => break,
                Some(copy) => copies.push(copy),
                None => {
                    let what = format!("the sentinel did not come, but {} copies", copies.len());
                    return Err(self.too_few(&what, &copies));
                }
            }
        }
        self.lossless()?;
        Ok(copies)
    }

    /// How many datagrams lack outer fragments, after copies were taken.
    pub fn incomplete(&self) -> usize {
        self.fragments.incomplete()
    }

    fn lossless(&self) -> Result<()> {
        let lost = self.socket.lost()?;
        ensure!(lost == 0, "the capture itself lost {lost} frames");
        Ok(())
    }

    fn too_few(&self, what: &str, copies: &[Gue]) -> anyhow::Error {
        const SHOWN: usize = 100;
        let shown = copies.iter().take(SHOWN);
        let flows: String = shown
            .map(|copy| format!("\n  {}", describe_packet(&copy.inner)))
            .collect();
        let lost = self
            .lossless()
            .err()
            .map_or_else(String::new, |error| format!(", {error:#}"));
        anyhow!(
            "{what} in time, {} lack fragments{lost}{flows}",
            self.incomplete()
        )
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the capture panicked: {panic:?}");
        }
    }
}

fn capture(
    socket: &PacketSocket,
    stopped: &std::io::PipeReader,
    count: &AtomicUsize,
    frames: &Sender<Result<Vec<u8>>>,
    keep: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    loop {
        // Hung up by the end of the other side, first in the list: a flood of frames cannot hide
        // it.
        let ready = wait_readable(
            &[stopped.as_fd(), socket.as_fd()],
            Instant::now() + Duration::from_secs(3600),
        )?;
        if ready == Some(0) {
            return Ok(());
        }
        let Some(frame) = socket.recv(Instant::now())? else {
            continue;
        };
        if frame.direction == PacketType::Outgoing {
            continue;
        }
        let bytes = frame.on_wire();
        if keep(&bytes) {
            count.fetch_add(1, Ordering::Relaxed);
            if frames.send(Ok(bytes)).is_err() {
                return Ok(());
            }
        }
    }
}

/// What a frame is, in a few words, for failing tests.
pub fn describe(frame: &[u8]) -> String {
    match (ip_part(frame), Link::parse(frame)) {
        (Ok(packet), _) => format!("{} bytes, {}", frame.len(), describe_packet(packet)),
        (_, Ok(link)) => format!("{} bytes, EtherType {:#06x}", frame.len(), link.ethertype),
        _ => format!("{} bytes", frame.len()),
    }
}

fn describe_packet(packet: &[u8]) -> String {
    FiveTuple::parse(packet).map_or_else(|error| format!("{error:#}"), |flow| flow.to_string())
}

fn list(frames: &[Vec<u8>]) -> String {
    frames
        .iter()
        .map(|frame| format!("\n  {}", describe(frame)))
        .collect()
}
