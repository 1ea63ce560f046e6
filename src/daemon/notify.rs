//! What a service manager is told (`sd_notify`); without one nothing happens.

use sd_notify::NotifyState;

/// The daemon works.
pub(super) fn ready() {
    send(NotifyState::Ready);
}

/// The daemon is about to end.
pub(super) fn stopping() {
    send(NotifyState::Stopping);
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
