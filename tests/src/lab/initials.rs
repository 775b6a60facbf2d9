//! The ring buffer from packets to the daemon: how much of it is not read yet.

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

use super::{pause, pins};

/// Waits until the daemon has read all Initials that packets have left.
pub fn are_read(pin_path: &Path, deadline: Instant) -> Result<()> {
    loop {
        let left = unread(pin_path)?;
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{left} bytes are not read");
        pause();
    }
}

/// Bytes that the daemon has not read.
pub fn unread(pin_path: &Path) -> Result<usize> {
    let entries = std::fs::read_dir(pin_path)?.filter_map(Result::ok);
    let numbered = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u32 = name
            .strip_prefix("maps-")?
            .split('-')
            .next()?
            .parse()
            .ok()?;
        Some((number, entry.path()))
    });
    let (_, live) = numbered.max().context("live tables")?;
    let map = pins::open(&live.join("INITIALS"))?;
    // BPF_MAP_TYPE_RINGBUF: a page with the consumer's position, and one with the producer's
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("the size of a page")?;
    let [consumer, producer] = [0, page].map(|at| position(&map, at, page as usize));
    Ok(producer?.wrapping_sub(consumer?))
}

fn position(map: &OwnedFd, at: i64, bytes: usize) -> Result<usize> {
    let bytes = NonZero::new(bytes).context("a page")?;
    // SAFETY: a new mapping, which is read once and gone.
    unsafe {
        let page = mmap(
            None,
            bytes,
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED,
            map,
            at,
        )?;
        let position = page.cast::<AtomicUsize>().as_ref().load(Ordering::Acquire);
        munmap(page, bytes.get())?;
        Ok(position)
    }
}
