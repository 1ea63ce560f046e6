//! What is going on while a person waits, on standard error.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::ProgressBar;

use super::output::{clean, note};

/// One line that changes on a terminal, one line after the other elsewhere.
pub(super) struct Activity {
    bar: Option<ProgressBar>,
    terminal: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows what is going on now.
    pub(super) fn show(&mut self, text: &str) {
        let text = clean(text);
        if !self.terminal {
            note(&format!("{text} …"));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{text} …"));
    }

    /// Leaves a line that stays, above what is going on.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Clears the changing line, before a question or the result.
    pub(super) fn stop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.stop();
    }
}
