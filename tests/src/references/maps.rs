//! Maps of the reference programs.

use anyhow::{Context as _, Result, ensure};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use crate::lab::foreign::command;
use crate::lab::pins;

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Hash = 1,
    Array = 2,
    Programs = 3,
    Prefixes = 11,
}

/// A map.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Map {
    /// Makes one with room for so many elements.
    pub(super) fn new(
        kind: Kind,
        key_bytes: usize,
        value_bytes: usize,
        elements: usize,
    ) -> Result<Self> {
        // the kernel takes maps of prefixes only so
        const BPF_F_NO_PREALLOC: u32 = 1;
        let flags = if matches!(kind, Kind::Prefixes) {
            BPF_F_NO_PREALLOC
        } else {
            0
        };
        let (key, value, elements) = (key_bytes as u32, value_bytes as u32, elements as u32);
        let fd = pins::make_map(pins::Kind {
            kind: kind as u32,
            key,
            value,
            elements,
            flags,
        })?;
        Ok(Self {
            fd,
            key_bytes,
            value_bytes,
        })
    }

    /// Writes an element.
    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        const BPF_MAP_UPDATE_ELEM: i32 = 2;
        let (key_bytes, value_bytes) = (self.key_bytes, self.value_bytes);
        ensure!(
            (key.len(), value.len()) == (key_bytes, value_bytes),
            "a key of {} and a value of {} bytes for a map of {key_bytes} and {value_bytes}",
            key.len(),
            value.len()
        );
        let attributes = [
            self.descriptor() as u64,
            key.as_ptr() as u64,
            value.as_ptr() as u64,
            0,
        ];
        command(BPF_MAP_UPDATE_ELEM, &attributes)
            .context("write an element of a map")
            .map(drop)
    }

    /// Puts a program into a map of programs.
    pub(super) fn set_program(&self, index: u32, program: BorrowedFd<'_>) -> Result<()> {
        self.set(&index.to_ne_bytes(), &program.as_raw_fd().to_ne_bytes())
    }

    /// For instructions that name it.
    pub(super) fn descriptor(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}
