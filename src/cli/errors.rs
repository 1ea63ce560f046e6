//! What a person reads when something did not work: the thing, the cause, the command that mends it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;

use super::output::clean;
use crate::daemon::config::ConfigError;
use crate::daemon::control::connect::AskError;
use crate::daemon::control::listen::{BindError, GROUP};
use crate::daemon::control::message::{ControlError, ErrorKind};
use crate::daemon::enrol::JoinError;
use crate::daemon::state::StateError;

/// The exit codes besides 0, as `myclerk --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Exit {
    Failed = 1,
    Usage = 2,
    NotRunning = 3,
    Refused = 4,
    NotFound = 5,
}

/// Why a subcommand ends early.
#[derive(Debug)]
pub(super) enum CliError {
    /// Something to be reported.
    Report(Box<Report>),
    /// Nobody reads the output any more (`myclerk list | head -1`): not a failure.
    OutputClosed,
    /// Ctrl-C, with what it stopped.
    Interrupted(String),
}

/// A failure in words.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    #[serde(rename = "kind")]
    exit: Exit,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    error: &'a Report,
}

impl CliError {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Report(Box::new(Report {
            exit,
            message: message.into(),
            cause: None,
            mend: None,
            candidates: Vec::new(),
        }))
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        if let Self::Report(report) = &mut self {
            report.cause = Some(cause.into());
        }
        self
    }

    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        if let Self::Report(report) = &mut self {
            report.mend = Some(command.into());
        }
        self
    }

    /// A daemon answered with the reply to another question.
    pub(super) fn odd_reply() -> Self {
        Self::new(
            Exit::Failed,
            "the daemon gave an answer that does not fit the question",
        )
        .because("it seems to be of another version than this program")
        .mend("restart the daemon")
    }

    /// What made a daemon end.
    pub(super) fn from_daemon(error: anyhow::Error) -> Self {
        let error = match error.downcast::<StateError>() {
            Ok(error) => return error.into(),
            Err(error) => error,
        };
        let error = match error.downcast::<BindError>() {
            Ok(error) => return error.into(),
            Err(error) => error,
        };
        let mut causes = error.chain().skip(1).map(ToString::to_string);
        let report = Self::new(Exit::Failed, error.to_string());
        match causes.next() {
            Some(first) => report.because(causes.fold(first, |all, cause| all + ": " + &cause)),
            None => report,
        }
    }

    /// Writes the report to standard error; the exit code of the process.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let (text, code) = match self {
            Self::Report(report) => {
                let code = report.exit as u8;
                let text = if json { report.json() } else { report.text() };
                (text, ExitCode::from(code))
            }
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Interrupted(what) => (format!("\n{what}\n"), ExitCode::from(130)),
        };
        // Nothing is left to do when standard error cannot be written.
        let _ = io::stderr().write_all(text.as_bytes());
        code
    }
}

impl Report {
    pub(super) fn into_message_and_mend(self) -> (String, Option<String>) {
        (self.message, self.mend)
    }

    fn json(&self) -> String {
        let mut text = serde_json::to_string(&JsonReport { error: self }).unwrap_or_default();
        text.push('\n');
        text
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", clean(&self.message));
        // Writing to a String does not fail.
        for candidate in &self.candidates {
            let _ = writeln!(text, "    {}", clean(candidate));
        }
        if let Some(cause) = &self.cause {
            let _ = writeln!(text, "  because {}", clean(cause));
        }
        if let Some(mend) = &self.mend {
            let _ = writeln!(text, "  try: {}", clean(mend));
        }
        text
    }
}

impl From<ControlError> for CliError {
    fn from(error: ControlError) -> Self {
        let exit = match error.kind {
            ErrorKind::Failed => Exit::Failed,
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::NotFound | ErrorKind::Ambiguous => Exit::NotFound,
        };
        let ControlError {
            message,
            cause,
            mend,
            candidates,
            ..
        } = error;
        Self::Report(Box::new(Report {
            exit,
            message,
            cause,
            mend,
            candidates,
        }))
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        ControlError::from(error).into()
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let exit = match error {
            ConfigError::Io { .. } | ConfigError::File { .. } => Exit::Failed,
            ConfigError::Listen(_) | ConfigError::Connect(_) | ConfigError::Metrics(_) => {
                Exit::Usage
            }
        };
        Self::new(exit, error.to_string())
    }
}

impl From<BindError> for CliError {
    fn from(error: BindError) -> Self {
        match &error {
            BindError::Running { .. } => Self::new(Exit::Failed, error.to_string())
                .mend("myclerk status   # or stop the other one first"),
            BindError::Io { source, .. } => {
                let denied = source.kind() == io::ErrorKind::PermissionDenied;
                let exit = if denied { Exit::Refused } else { Exit::Failed };
                let report = Self::new(exit, error.to_string()).because(source.to_string());
                if denied {
                    report.mend("run the same command with sudo")
                } else {
                    report
                }
            }
        }
    }
}

impl From<AskError> for CliError {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::NotRunning { side, path } => Self::new(Exit::NotRunning, message)
                .because(format!("nothing listens on {}", path.display()))
                .mend(format!("sudo myclerk {}", side.subcommand())),
            AskError::Permission { .. } => Self::new(Exit::Refused, message)
                .because(format!(
                    "this user is neither root nor in the group {GROUP}"
                ))
                .mend(format!(
                    "sudo usermod -aG {GROUP} \"$USER\"   # then log in again"
                )),
            AskError::Ended(side) => Self::new(Exit::Failed, message).mend(format!(
                "sudo myclerk {} -v   # and read what it logs",
                side.subcommand()
            )),
            AskError::Io { source, .. } => {
                Self::new(Exit::Failed, message).because(source.to_string())
            }
            AskError::Version { source, .. } => Self::new(Exit::Failed, message)
                .because(source.to_string())
                .mend("restart the daemon"),
        }
    }
}

impl From<JoinError> for CliError {
    fn from(error: JoinError) -> Self {
        let message = error.to_string();
        match error {
            JoinError::Unreachable { tried } => {
                let each: Vec<_> = tried
                    .iter()
                    .map(|(address, why)| format!("{address}: {why}"))
                    .collect();
                Self::new(Exit::Failed, message)
                    .because(each.join("; "))
                    .mend("myclerk join TOKEN HOST:PORT   # with an address that works from here")
            }
            JoinError::NotTheHub { .. } => Self::new(Exit::Refused, message)
                .because("its key is not the one that the token names")
                .mend("myclerk join TOKEN HOST:PORT   # with the address of the right machine"),
            JoinError::Token => Self::new(Exit::Refused, message)
                .because("it is wrong, was used already, was withdrawn, or is over ten minutes old")
                .mend("myclerk invite   # on the hub, for a new token"),
            JoinError::Declined(_) => Self::new(Exit::Refused, message)
                .mend("myclerk invite   # on the hub, for a new token"),
            JoinError::Clock => Self::new(Exit::Failed, message)
                .mend("sudo timedatectl set-ntp true   # on the machine that is wrong"),
            JoinError::Protocol(_) => Self::new(Exit::Failed, message),
            JoinError::State(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: CliError) -> Report {
        match error {
            CliError::Report(report) => *report,
            CliError::OutputClosed | CliError::Interrupted(_) => panic!("not a report"),
        }
    }

    #[test]
    fn a_report_names_thing_cause_and_command_on_a_line_each() {
        let error = ControlError::not_found("there is no device \"x\"")
            .because("nothing is plugged in")
            .mend("myclerk list --local");
        let report = report(error.into());
        assert_eq!(report.exit, Exit::NotFound);
        assert_eq!(
            report.text(),
            "error: there is no device \"x\"\n  because nothing is plugged in\n  \
             try: myclerk list --local\n"
        );
    }

    #[test]
    fn a_report_from_afar_cannot_move_the_cursor() {
        let text = report(ControlError::failed("a\u{1b}[2Jb\nc").into()).text();
        assert_eq!(text, "error: a\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn a_report_for_programs_holds_the_same() {
        let error = ControlError::new(ErrorKind::Ambiguous, "two").candidates(vec!["a".to_owned()]);
        assert_eq!(
            report(error.into()).json(),
            "{\"error\":{\"kind\":\"not-found\",\"message\":\"two\",\"candidates\":[\"a\"]}}\n"
        );
    }

    #[test]
    fn what_ended_a_daemon_is_told_with_all_its_causes() {
        let error = anyhow::anyhow!("address in use")
            .context("bind")
            .context("cannot listen");
        let report = report(CliError::from_daemon(error));
        assert_eq!(report.message, "cannot listen");
        assert_eq!(report.cause.as_deref(), Some("bind: address in use"));
    }
}
