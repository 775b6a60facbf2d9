//! One CPU for a while. The receive queue between two veth ends is one for each CPU: what is sent
//! on one CPU arrives in the order it was sent, and a copy that a packet causes on its way arrives
//! before whatever is sent after it.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A CPU that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(usize);

impl Cpu {
    /// All of them.
    pub fn all() -> Result<Vec<Self>> {
        let allowed = sched_getaffinity(CALLER).context("ask for the CPUs of this thread")?;
        Ok((0..CpuSet::count())
            .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
            .map(Self)
            .collect())
    }

    /// The next one in turn, so that tests that run side by side are spread.
    pub fn next() -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let usable = Self::all()?;
        Ok(usable[NEXT.fetch_add(1, Ordering::Relaxed) % usable.len()])
    }

    /// Runs `work` with the calling thread on this CPU.
    pub fn run<T>(self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = sched_getaffinity(CALLER).context("ask for the CPUs of this thread")?;
        let mut one = CpuSet::new();
        one.set(self.0)?;
        sched_setaffinity(CALLER, &one).with_context(|| format!("go to CPU {}", self.0))?;
        let done = work();
        sched_setaffinity(CALLER, &before).context("give the thread back its CPUs")?;
        done
    }
}

/// Measures how long a process takes for something, without the time in which it waits for a CPU
/// that others have (`Documentation/scheduler/sched-stats.rst`).
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    process: u32,
    begin: Instant,
    waited: Duration,
}

impl Stopwatch {
    /// Starts it.
    pub fn start(process: u32) -> Self {
        Self {
            process,
            begin: Instant::now(),
            waited: waited(process),
        }
    }

    /// Time up to now.
    pub fn elapsed(&self) -> Duration {
        self.until(Instant::now())
    }

    /// Time up to a moment just gone.
    pub fn until(&self, end: Instant) -> Duration {
        end.saturating_duration_since(self.begin)
            .saturating_sub(waited(self.process).saturating_sub(self.waited))
    }
}

/// Time that the threads of a process have waited for a CPU; nothing if the kernel does not say.
fn waited(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let of = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    Duration::from_nanos(tasks.filter_map(of).sum())
}

/// The calling thread, for the system calls.
const CALLER: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_there_and_the_thread_is_free_afterwards() -> Result<()> {
        let before = sched_getaffinity(CALLER)?;
        let cpu = Cpu::next()?;
        let there = cpu.run(|| Ok(nix::sched::sched_getcpu()?))?;
        assert_eq!(there, cpu.0);
        assert_eq!(sched_getaffinity(CALLER)?, before);
        Ok(())
    }
}
