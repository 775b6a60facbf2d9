//! The loop of the process: what wakes it, and what follows. All that is decided is decided in
//! cache.rs, schedule.rs and gather.rs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use traffic_mirror_resolver::{Failure, Name};

use crate::ask::{Asker, Sources};
use crate::cache::{Answers, Cache};
use crate::gather::{GATHER, Gather, summary};
use crate::journal::{Priority, say};
use crate::schedule::Schedule;
use crate::{random, store, watch};

/// Names that are asked about at the same time, each by a thread that ends with the answer. Names
/// whose servers are silent must not hold up the others: each takes half a minute every 5 minutes.
const MOST_AT_ONCE: usize = 32;
/// Bytes of the stack of such a thread.
const STACK_BYTES: usize = 256 << 10;
/// How long until a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The loop wakes at least this often.
const LONGEST: Duration = Duration::from_secs(3600);

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Options {
    /// The list of names.
    pub(crate) wanted: PathBuf,
    /// The file with their addresses.
    pub(crate) names: PathBuf,
    /// Who is asked.
    pub(crate) sources: Sources,
}

enum Event {
    /// Something has happened to the list.
    List,
    /// A question was answered.
    Answer(Name, Answers),
    /// SIGHUP.
    Hurry,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Runs until a signal ends it, or the list is gone.
///
/// # Errors
/// There is no list at the start, or the first file cannot be written.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (sender, events) = channel();
    handle_signals(sender.clone())?;
    let on_list = sender.clone();
    // before it is read: what happens meanwhile is an event
    watch::follow(&options.wanted, move || on_list.send(Event::List).is_ok())?;
    let wanted = store::wanted(&options.wanted)?.with_context(|| {
        format!(
            "{} is missing: the daemon writes it while its file has DNS names",
            options.wanted.display()
        )
    })?;
    let known = store::known(&options.names).unwrap_or_else(|error| {
        say(
            Priority::Warning,
            &format!("{error:#}; addresses are asked for again"),
        );
        Default::default()
    });
    let mut service = Service {
        options,
        start: Instant::now(),
        cache: Cache::new(known, seconds_since_1970()),
        schedule: Schedule::default(),
        gather: Gather::default(),
        asker: Arc::new(Asker::new(options.sources.clone())),
        asking: 0,
        sender,
        was_written: false,
        complaint: None,
    };
    service.cache.want(&wanted);
    service.schedule.want(&wanted, service.now());
    // the first one is written even if no server answers
    service.gather.set(service.now() + GATHER);
    service.follow(&events)
}

fn handle_signals(sender: Sender<Event>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot handle signals")?;
    let handle = move || {
        for signal in signals.forever() {
            let event = if signal == SIGHUP {
                Event::Hurry
            } else {
                Event::Stop
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(handle)
        .context("cannot start a thread")?;
    Ok(())
}

struct Service<'o> {
    options: &'o Options,
    start: Instant,
    cache: Cache,
    schedule: Schedule,
    gather: Gather,
    asker: Arc<Asker>,
    /// Questions that are on their way.
    asking: usize,
    sender: Sender<Event>,
    /// The first file is there.
    was_written: bool,
    /// Why the file could not be written.
    complaint: Option<String>,
}

impl Service<'_> {
    fn follow(&mut self, events: &Receiver<Event>) -> anyhow::Result<()> {
        loop {
            self.ask();
            if self.gather.due().is_some_and(|due| due <= self.now()) {
                self.write()?;
            }
            let event = match events.recv_timeout(self.wait()) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                // this process has a sender
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            match event {
                Event::Answer(name, answers) => {
                    self.asking -= 1;
                    self.take(&name, &answers);
                }
                Event::Hurry => {
                    say(Priority::Info, "all names are resolved again (SIGHUP)");
                    self.schedule.hurry(self.now());
                }
                Event::List => {
                    if !self.read_list() {
                        return self
                            .end("the list of names was removed: no name is wanted any more");
                    }
                }
                Event::Stop => return self.end("stopped by a signal"),
            }
        }
    }

    /// How long nothing is to be done.
    fn wait(&self) -> Duration {
        let question = self.schedule.wake().filter(|_| self.asking < MOST_AT_ONCE);
        let due = question.into_iter().chain(self.gather.due()).min();
        due.map_or(LONGEST, |due| due.saturating_sub(self.now()).min(LONGEST))
    }

    /// Asks about the names that are due.
    fn ask(&mut self) {
        while self.asking < MOST_AT_ONCE
            && let Some(name) = self.schedule.next(self.now())
        {
            let (asker, sender, about) =
                (Arc::clone(&self.asker), self.sender.clone(), name.clone());
            let ask = move || {
                let answers = asker.ask(&about);
                // nobody listens if the process ends
                let _ = sender.send(Event::Answer(about, answers));
            };
            let thread = thread::Builder::new()
                .name("ask".into())
                .stack_size(STACK_BYTES);
            match thread.spawn(ask) {
                Ok(_) => self.asking += 1,
                // the limit of tasks is reached: as if no server could be reached
                Err(_) => self.take(&name, &Answers::failed(Failure::Unreachable)),
            }
        }
    }

    fn take(&mut self, name: &Name, answers: &Answers) {
        let now = self.now();
        let change = self.cache.take(name, answers, seconds_since_1970());
        self.gather.add(name, &change, now);
        self.schedule
            .answered(name, answers.ttl(), now, random::number() as u8);
        if !self.was_written && self.schedule.is_complete() {
            self.gather.set(now);
        }
    }

    /// Reads the list again. Whether there is one; what is wrong with it is told, and the last right
    /// one stays.
    fn read_list(&mut self) -> bool {
        match store::wanted(&self.options.wanted) {
            Ok(None) => return false,
            Ok(Some(wanted)) => {
                let now = self.now();
                self.schedule.want(&wanted, now);
                if self.cache.want(&wanted) {
                    self.gather.set(now + GATHER);
                }
            }
            Err(error) => say(
                Priority::Warning,
                &format!("{error:#}; the last valid list stays"),
            ),
        }
        true
    }

    /// Writes the file, and the lines about it.
    ///
    /// # Errors
    /// It is the first one, and the directory cannot be written.
    fn write(&mut self) -> anyhow::Result<()> {
        let path = &self.options.names;
        let names = self.cache.names();
        if let Err(error) = store::replace(path, &names.render()) {
            let complaint = format!("cannot write {}: {error}", path.display());
            if !self.was_written {
                anyhow::bail!("{complaint}; the directory must exist and belong to this user");
            }
            if self.complaint.as_ref() != Some(&complaint) {
                say(
                    Priority::Warning,
                    &format!("{complaint}; it is tried again every {} s", RETRY.as_secs()),
                );
            }
            self.complaint = Some(complaint);
            self.gather.put_off(self.now() + RETRY);
            return Ok(());
        }
        if self.complaint.take().is_some() {
            say(
                Priority::Info,
                &format!("{} is written again", path.display()),
            );
        }
        for (priority, line) in self.gather.finish(names) {
            say(priority, &line);
        }
        let status = summary(names);
        let mut states = vec![NotifyState::Status(&status)];
        states.extend((!self.was_written).then_some(NotifyState::Ready));
        self.was_written = true;
        // a service manager may wait for it; without one nothing happens
        let _ = sd_notify::notify(&states);
        Ok(())
    }

    /// Writes what is not written yet.
    fn end(&mut self, why: &str) -> anyhow::Result<()> {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        say(Priority::Info, why);
        if self.gather.due().is_some() {
            self.write()?;
        }
        Ok(())
    }

    /// Since the start: the scheduling must not depend on a clock that may be set.
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
