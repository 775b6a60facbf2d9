//! History that the daemon leaves for `status`.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use traffic_mirror_ebpf::abi::History;

use crate::kernel::Kernel;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::generation::Generation;
use crate::kernel::object::HISTORY;

/// The history that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The file was loaded.
    Loaded,
    /// The daemon or the kernel rejected the file.
    Rejected,
    /// So much was repaired.
    Repaired(usize),
}

impl Kernel {
    /// Notes something for `status`. What cannot be noted is no reason not to mirror.
    ///
    /// # Errors
    /// The map is missing or cannot be written.
    pub fn note(&self, note: Note) -> Result<(), KernelError> {
        let Some(number) = Generation::list(&self.pin_path)?.pop() else {
            return Ok(());
        };
        let generation = Generation::open(&self.pin_path, number);
        if !generation.has_our_layout() {
            return Ok(());
        }
        let mut history = generation.history()?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        match note {
            Note::Loaded => {
                history.reloads += 1;
                (history.last_reload, history.last_rejected) = (now, 0);
            }
            Note::Rejected => history.last_rejected = now,
            Note::Repaired(count) => history.repairs += count as u64,
        }
        generation.set_history(history)
    }
}

impl Generation {
    /// What the daemon left.
    ///
    /// # Errors
    /// The map is missing, as with a predecessor that had none, or cannot be read.
    pub fn history(&self) -> Result<History, KernelError> {
        self.array::<History>(HISTORY)?
            .get(&0, 0)
            .map_err(io::Error::other)
            .map_err(map_error("read", HISTORY))
    }

    /// Leaves it.
    ///
    /// # Errors
    /// The map is missing or cannot be written.
    pub fn set_history(&self, history: History) -> Result<(), KernelError> {
        self.array::<History>(HISTORY)?
            .set(0, &history, 0)
            .map_err(io::Error::other)
            .map_err(map_error("write", HISTORY))
    }
}
