//! Memory of the host.

use anyhow::{Context as _, Result, ensure};
use std::fs;

const PAGE_BYTES: i64 = 4096;

/// Bytes that nobody uses: free pages, and those that CPUs have put aside for what they allocate
/// next (`/proc/zoneinfo`). Other programs change it all the time, so what is to be known is freed
/// at once, and the difference is taken several times.
///
/// # Errors
/// The kernel does not say.
pub fn free_bytes() -> Result<i64> {
    // counts that CPUs have kept for themselves; where that is refused they are some pages off
    let _ = fs::read("/proc/sys/vm/stat_refresh");
    let text = fs::read_to_string("/proc/zoneinfo").context("read /proc/zoneinfo")?;
    let pages = text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("pages free")
            .or_else(|| line.strip_prefix("count:"))
    });
    let pages: Vec<i64> = pages
        .map(|number| number.trim().parse())
        .collect::<Result<_, _>>()?;
    ensure!(
        !pages.is_empty(),
        "/proc/zoneinfo has no free pages: {text}"
    );
    Ok(pages.iter().sum::<i64>() * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn what_is_freed_is_noticed() -> Result<()> {
        const BYTES: usize = 64 << 20;
        let mut freed = Vec::new();
        for _ in 0..5 {
            // an allocation that nobody looks at may be left out by the compiler
            let memory = black_box(vec![1_u8; BYTES]);
            let before = free_bytes()?;
            drop(memory);
            freed.push(free_bytes()? - before);
        }
        freed.sort_unstable();
        let median = freed[2];
        assert!(
            (BYTES as i64 / 2..BYTES as i64 * 2).contains(&median),
            "{BYTES} bytes were freed: {freed:?}"
        );
        Ok(())
    }
}
