//! Laboratories that tests share, one after the other: to make one, and to load the programs, takes
//! longer than most tests do with packets.

use super::{Attach, Direction, Edge};
use anyhow::{Context as _, Result};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use traffic_mirror_tests::lab::recording;
use traffic_mirror_tests::lab::status::Status;

/// Laboratories that no test uses at the moment.
static IDLE: Mutex<Vec<(Attach, Edge)>> = Mutex::new(Vec::new());

/// Runs `test` with a laboratory that other tests may have used: with any configuration, and with
/// packets that were counted and fragments that are remembered. One in which a test fails is not
/// used again. The test leaves everything as it was but for the configuration and the MTU of the
/// output.
pub(crate) fn shared(attach: Attach, test: impl FnOnce(&mut Edge) -> Result<()>) -> Result<()> {
    static AT_EXIT: Once = Once::new();
    // SAFETY: the function takes nothing, returns nothing and does not unwind.
    AT_EXIT.call_once(|| unsafe {
        libc::atexit(clean_up);
    });
    let found = {
        let mut idle = idle();
        let place = idle.iter().position(|(its, _)| *its == attach);
        place.map(|place| idle.swap_remove(place).1)
    };
    let mut edge = match found {
        Some(edge) => {
            recording::resume(&edge.recording);
            edge
        }
        None => Edge::new(&crate::config(""), attach)?,
    };
    test(&mut edge)?;
    edge.copies().context("what the test has left behind")?;
    edge.moved(Direction::Ingress)?;
    edge.reset_output_mtu()?;
    Status::is_printed(&edge.daemon)?;
    edge.recording.clear();
    idle().push((attach, edge));
    Ok(())
}

/// The same, with a configuration.
pub(crate) fn shared_with(
    attach: Attach,
    config: &str,
    test: impl FnOnce(&mut Edge) -> Result<()>,
) -> Result<()> {
    shared(attach, |edge| {
        edge.configure(config)?;
        test(edge)
    })
}

fn idle() -> MutexGuard<'static, Vec<(Attach, Edge)>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At the end of the process, when no test runs: what is in a `static` is dropped by nobody.
extern "C" fn clean_up() {
    let left = std::mem::take(&mut *idle());
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(left))).is_err() {
        std::process::abort();
    }
}
