//! `status --watch`: the same again and again.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::Output;
use super::traffic::{self, Since};
use crate::cli::Context;
use crate::cli::errors::{CliError, Exit};
use crate::cli::output;

/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// Away with the rest of a line.
const CLEAR_LINE: &str = "\x1b[K";
/// Away with everything below.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows it until Ctrl-C. That daemons stop meanwhile is shown too; that none runs at the start is an
/// error.
pub(super) fn run(context: &Context, period: Duration) -> Result<(), CliError> {
    let not_started = |error: std::io::Error| {
        CliError::new(Exit::Failed, "cannot start").because(error.to_string())
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(not_started)?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(not_started)?;
    drop(entered);
    let mut before: Option<(Instant, Since)> = None;
    loop {
        let looked = Instant::now();
        let output = match Output::now(context) {
            Ok(output) => output,
            Err(CliError::Interrupted(_)) => return Ok(()),
            Err(error) if before.is_none() => return Err(error),
            Err(CliError::OutputClosed) => return Err(CliError::OutputClosed),
            Err(CliError::Report(_)) => Output {
                server: None,
                client: None,
            },
        };
        if let Some((then, since)) = &mut before {
            since.ago = looked.duration_since(*then);
        }
        show(context, &output, before.as_ref().map(|(_, since)| since))?;
        let mut since = Since::default();
        if let Some(server) = &output.server {
            since.keep(&traffic::of_server(server));
        }
        if let Some(client) = &output.client {
            since.keep(&traffic::of_client(client));
        }
        before = Some((looked, since));
        let interrupted = runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(period) => false,
                _ = interrupt.recv() => true,
            }
        });
        if interrupted {
            return Ok(());
        }
    }
}

fn show(context: &Context, output: &Output, since: Option<&Since>) -> Result<(), CliError> {
    if context.json {
        return output::json_line(output);
    }
    let mut text = output.text(since);
    if text.is_empty() {
        "no daemon of this machine is running\n".clone_into(&mut text);
    }
    if !output::is_terminal() {
        return output::print(&(text + "\n"));
    }
    output::print(&screen(&text))
}

/// The text in place of what was there.
fn screen(text: &str) -> String {
    let mut screen = HOME.to_owned();
    for line in text.lines() {
        // Writing to a String does not fail.
        let _ = writeln!(screen, "{line}{CLEAR_LINE}");
    }
    screen + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_screen_before_is_left() {
        assert_eq!(screen("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
