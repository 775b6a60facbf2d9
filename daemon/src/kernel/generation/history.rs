//! What the daemon leaves for `status` to tell.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::maps::{Array, Map, MapData, MapError};
use traffic_mirror_ebpf::abi::History;

use crate::kernel::Kernel;
use crate::kernel::error::KernelError;
use crate::kernel::generation::Generation;
use crate::kernel::object::HISTORY;

/// What `status` tells of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The file was loaded.
    Loaded,
    /// The file, or what it asks for, was rejected.
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
        self.history_map()?
            .get(&0, 0)
            .map_err(|source| history_error("read", source))
    }

    /// Leaves it.
    ///
    /// # Errors
    /// The map is missing or cannot be written.
    pub fn set_history(&self, history: History) -> Result<(), KernelError> {
        self.history_map()?
            .set(0, &history, 0)
            .map_err(|source| history_error("write", source))
    }

    fn history_map(&self) -> Result<Array<MapData, History>, KernelError> {
        Array::try_from(Map::Array(self.open_map(HISTORY)?))
            .map_err(|source| history_error("open", source))
    }
}

fn history_error(action: &'static str, source: MapError) -> KernelError {
    KernelError::Map {
        action,
        map: HISTORY.to_owned(),
        source: io::Error::other(source),
    }
}
