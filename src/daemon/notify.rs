//! What a service manager is told (`sd_notify`); without one nothing happens.

use sd_notify::NotifyState;

/// The daemon works.
pub fn ready() {
    send(NotifyState::Ready);
}

/// The daemon is about to end.
pub fn stopping() {
    send(NotifyState::Stopping);
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
