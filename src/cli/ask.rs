//! Asking a daemon: progress is shown as it comes, questions are put to the person, Ctrl-C takes
//! the request back.

use std::io::{self, BufRead, Write};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use super::activity::Activity;
use super::errors::{CliError, Exit};
use super::output::note;
use crate::daemon::control::connect::AskError;
use crate::daemon::control::message::{Progress, Question};
use crate::daemon::control::{Connection, Incoming, Reply, Request, Side};

/// What a subcommand does while its request is being worked on.
pub(super) trait Watcher {
    /// Shows news.
    fn progress(&mut self, progress: &Progress) -> Result<(), CliError>;

    /// The words of a yes-or-no question, without the `[y/N]`.
    fn question(&mut self, question: &Question) -> String;

    /// What Ctrl-C stops, as the person should read it.
    fn interrupted(&self) -> String;
}

/// Shows steps. The requests it is used for ask nothing.
struct Steps(Activity);

impl Watcher for Steps {
    fn progress(&mut self, progress: &Progress) -> Result<(), CliError> {
        match progress {
            Progress::Step(text) => self.0.show(text),
            Progress::Invited { .. } | Progress::Attempt { .. } => {}
        }
        Ok(())
    }

    fn question(&mut self, _: &Question) -> String {
        self.0.stop();
        "Go on?".to_owned()
    }

    fn interrupted(&self) -> String {
        "interrupted".to_owned()
    }
}

/// Asks a daemon and shows its steps.
pub(super) fn ask(context: &Context, side: Side, request: &Request) -> Result<Reply, CliError> {
    converse(context, side, request, &mut Steps(Activity::new()))
}

/// Asks the server daemon or, when it does not run, does the same directly on the stored state.
pub(super) fn ask_server_or(
    context: &Context,
    request: &Request,
    direct: impl FnOnce() -> Result<Reply, CliError>,
) -> Result<Reply, CliError> {
    match ask_if_running(context, Side::Server, request)? {
        Some(reply) => Ok(reply),
        None => direct(),
    }
}

/// Asks a daemon; `None` when it does not run.
pub(super) fn ask_if_running(
    context: &Context,
    side: Side,
    request: &Request,
) -> Result<Option<Reply>, CliError> {
    let runtime = runtime()?;
    let opening = runtime.block_on(Connection::open(&context.paths.run, side, request));
    let connection = match opening {
        Ok(connection) => connection,
        Err(AskError::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    attend(runtime, connection, &mut Steps(Activity::new())).map(Some)
}

/// Asks a daemon with a watcher of one's own.
pub(super) fn converse(
    context: &Context,
    side: Side,
    request: &Request,
    watcher: &mut dyn Watcher,
) -> Result<Reply, CliError> {
    let runtime = runtime()?;
    let connection = runtime.block_on(Connection::open(&context.paths.run, side, request))?;
    attend(runtime, connection, watcher)
}

fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, "cannot start").because(error.to_string()))
}

fn attend(
    runtime: Runtime,
    connection: Connection,
    watcher: &mut dyn Watcher,
) -> Result<Reply, CliError> {
    let result = runtime.block_on(until_done(connection, watcher));
    // A thread may still be waiting for a line from the terminal.
    runtime.shutdown_background();
    result
}

async fn until_done(
    mut connection: Connection,
    watcher: &mut dyn Watcher,
) -> Result<Reply, CliError> {
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| CliError::new(Exit::Failed, "cannot start").because(error.to_string()))?;
    loop {
        let incoming = tokio::select! {
            incoming = connection.next() => incoming?,
            _ = interrupt.recv() => return Err(CliError::Interrupted(watcher.interrupted())),
        };
        match incoming {
            Incoming::Progress(progress) => watcher.progress(&progress)?,
            Incoming::Done(result) => return Ok(result?),
            Incoming::Question(question) => {
                let words = watcher.question(&question);
                let answer = tokio::task::spawn_blocking(move || yes_or_no(&words));
                tokio::select! {
                    answer = answer => connection.answer(answer.is_ok_and(|yes| yes)).await?,
                    end = connection.next() => return overtaken(end?),
                    _ = interrupt.recv() => {
                        return Err(CliError::Interrupted(watcher.interrupted()));
                    }
                }
            }
        }
    }
}

/// The daemon went on before the person answered: the question is void.
fn overtaken(incoming: Incoming) -> Result<Reply, CliError> {
    note("");
    match incoming {
        Incoming::Done(result) => Ok(result?),
        Incoming::Progress(_) | Incoming::Question(_) => Err(CliError::odd_reply()),
    }
}

/// Asks at the terminal. No input, or none that says yes, is a no.
fn yes_or_no(words: &str) -> bool {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{words} [y/N] ").and_then(|()| stderr.flush());
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => {
            note("no input, so no");
            false
        }
        Ok(_) => matches!(line.trim().to_lowercase().as_str(), "y" | "yes"),
    }
}
