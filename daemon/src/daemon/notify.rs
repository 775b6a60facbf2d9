//! Notifications for the service manager.

use sd_notify::NotifyState;
use tracing::warn;

/// Tells it.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(failure) = sd_notify::notify(states) {
        warn!(
            event = "problem",
            "cannot notify the service manager: {failure}"
        );
    }
}

/// The file is read again.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}
