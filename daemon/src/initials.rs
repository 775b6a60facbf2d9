//! Input: QUIC Initials that packets have left in the kernel. Output: the server names in them, for
//! the packets of their flows. A thread of its own: it may be late, and holds up nothing else.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use tracing::{info, warn};
use traffic_mirror_ebpf::abi::{Answer, Initial};
use traffic_mirror_ebpf::flow::Undecided;

use crate::kernel::{Initials, Kernel, KernelError, reason};
use crate::quic::{Outcome, Table};

/// Initials that are read at once. Then the thread rests for as long as it has worked, so that it
/// takes half a CPU at most, whoever sends Initials.
const AT_ONCE: usize = 256;
/// Flows whose hello is not complete, and for how long they are remembered. A flow takes some 20 KB
/// if somebody wants it so.
const FLOWS: usize = 1024;
const AGE: Duration = Duration::from_secs(10);

/// Reads the Initials of the live tables, if a filter there gives a server name.
#[derive(Default)]
pub struct Reader {
    /// The tables of which this is known.
    generation: Option<u32>,
    running: Option<Running>,
    problem: Option<String>,
}

impl Reader {
    /// Reads those of the tables that are live now. If that fails, the next call tries again;
    /// meanwhile flows of QUIC are undecided.
    pub fn follow(&mut self, kernel: &Kernel) {
        let problem = self
            .try_follow(kernel)
            .err()
            .map(|error| format!("{error:#}"));
        match (&self.problem, &problem) {
            (Some(before), None) => info!(event = "resolved", "resolved: {before}"),
            (before, Some(text)) if before.as_ref() != Some(text) => {
                warn!(
                    event = "problem",
                    "cannot read the server names of QUIC: {text}; its flows are undecided, and \
                     the daemon tries again"
                );
            }
            _ => {}
        }
        self.problem = problem;
    }

    fn try_follow(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        let live = kernel.generation()?;
        if live == self.generation {
            return Ok(());
        }
        // before another one begins, which may have the same ring buffer
        self.running = None;
        self.generation = None;
        if let Some(generation) = live
            && let Some(initials) = kernel.initials(generation)?
        {
            self.running = Some(Running::start(initials)?);
        }
        self.generation = live;
        Ok(())
    }
}

/// A thread that ends with this.
struct Running {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(initials: Initials) -> anyhow::Result<Self> {
        let (stopped, stop) = io::pipe().context("make a pipe")?;
        let thread = thread::Builder::new()
            .name("initials".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || Reading::of(initials).read(&stopped))
            .context("start a thread")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reading {
    initials: Initials,
    table: Table,
    begun: Instant,
    problem: Option<String>,
}

impl Reading {
    fn of(initials: Initials) -> Self {
        Self {
            initials,
            table: Table::new(FLOWS, AGE),
            begun: Instant::now(),
            problem: None,
        }
    }

    /// Reads until the other end of a pipe is closed.
    fn read(&mut self, stopped: &PipeReader) {
        loop {
            let before = worked();
            let mut read = 0;
            while read < AT_ONCE && self.read_one() {
                read += 1;
            }
            let is_stopped = if read < AT_ONCE {
                let fds = [self.initials.as_fd(), stopped.as_fd()];
                is_last_ready(fds, None)
            } else {
                is_last_ready([stopped.as_fd()], Some(worked().saturating_sub(before)))
            };
            if is_stopped {
                return;
            }
        }
    }

    /// Reads an Initial, if there is one.
    fn read_one(&mut self) -> bool {
        let now = self.begun.elapsed();
        let table = &mut self.table;
        let read = self.initials.next(|initial| {
            let bytes = initial.payload.len().min(initial.bytes as usize);
            let outcome = table.datagram(initial.key, now, &initial.payload[..bytes]);
            answer(initial, outcome)
        });
        let is_read = read.is_some();
        if let Some(answered) = read {
            self.note(answered);
        }
        is_read
    }

    fn note(&mut self, answered: Result<(), KernelError>) {
        let problem = answered.err().map(|error| reason(&error));
        if problem.is_some() && self.problem != problem {
            warn!(
                event = "problem",
                "cannot pass a server name to the kernel: {}; its flow is undecided",
                problem.as_deref().unwrap_or_default()
            );
        }
        self.problem = problem;
    }
}

/// What the packets of the flow are to find, if it is clear; and the name.
fn answer(initial: &Initial, outcome: Outcome) -> Option<(Answer, String)> {
    let (reason, name, has_ech) = match outcome {
        Outcome::Name { name, has_ech } => (Undecided::None, name, has_ech),
        Outcome::NoName => (Undecided::NoName, String::new(), false),
        Outcome::Ech => (Undecided::NoName, String::new(), true),
        Outcome::TooLong => (Undecided::TooLong, String::new(), false),
        _ => return None,
    };
    let answer = Answer {
        key: initial.key,
        time: initial.time,
        side: initial.side,
        reason: reason as u32,
        bytes: name.len() as u32,
        has_ech: has_ech.into(),
        reserved: 0,
    };
    Some((answer, name))
}

/// Whether the last of these can be read, or its other end was closed, once any of them can or the
/// time is over.
fn is_last_ready<const N: usize>(
    fds: [std::os::fd::BorrowedFd<'_>; N],
    most: Option<Duration>,
) -> bool {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let most = most.map_or(PollTimeout::NONE, |most| {
        // not 0, which would be no rest
        let millis = most.as_millis().max(1);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    let ready = poll(&mut fds, most).unwrap_or(0);
    ready > 0 && fds[N - 1].any().unwrap_or(true)
}

/// What this thread has had of a CPU.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
