//! The record of what the daemon says and notifies, and waiting for it.

use anyhow::{Result, ensure};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Log {
    record: Mutex<Record>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) output: Lines,
    pub(super) notifications: Lines,
    /// Standard output and standard error until they end.
    pub(super) open_streams: u32,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<String>,
    /// When each came.
    times: Vec<Instant>,
    /// How many lines were waited for.
    seen: usize,
}

impl Log {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn wait(
        &self,
        select: impl Fn(&mut Record) -> &mut Lines,
        name: &str,
        wanted: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Result<(Instant, String)> {
        let mut record = self.lock();
        loop {
            let lines = select(&mut record);
            let skipped = &lines.lines[lines.seen..];
            if let Some((index, line)) = skipped.iter().enumerate().find(|(_, line)| wanted(line)) {
                let found = (lines.times[lines.seen + index], line.clone());
                lines.seen += index + 1;
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "{name} did not come in time{}",
                record.said()
            );
            ensure!(
                record.open_streams > 0,
                "the daemon exited before {name} came{}",
                record.said()
            );
            record = self
                .changed
                .wait_timeout(record, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Lines {
    fn push(&mut self, line: String) {
        self.lines.push(line);
        self.times.push(Instant::now());
    }
}

impl Record {
    pub(super) fn said(&self) -> String {
        let notifications = self
            .notifications
            .lines
            .iter()
            .map(|line| format!("\n  notified: {line}"));
        self.output
            .lines
            .iter()
            .map(|line| format!("\n  {line}"))
            .chain(notifications)
            .collect()
    }
}

pub(super) fn read_lines(stream: impl Read + Send + 'static, log: &Arc<Log>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let line = String::from_utf8_lossy(&line).into_owned();
            log.change(|record| record.output.push(line));
        }
        log.change(|record| record.open_streams -= 1);
    })
}

/// Records what comes in until the socket is shut down.
pub(super) fn listen(socket: &UnixDatagram, log: &Log) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        log.change(|record| {
            text.lines()
                .for_each(|line| record.notifications.push(line.to_owned()))
        });
    }
}
