//! The command line: one file per subcommand, [`output`] and [`errors`] for all of them.
//!
//! A subcommand asks a running daemon over its control socket ([`ask`]); what changes only stored
//! state works without a daemon too.

mod acl;
mod activity;
mod ask;
mod attach;
mod audit;
mod auto;
mod can;
mod capture;
mod client;
mod completions;
mod detach;
mod doctor;
mod errors;
mod export;
mod guard_devices;
mod init;
mod invite;
mod join;
mod list;
mod lock;
mod man;
mod members;
mod output;
mod pwm;
mod qr;
mod reset;
mod revoke;
mod serial;
mod serve;
mod status;
mod unexport;
mod unlock;
mod who;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::daemon::config::{DEFAULT_CONFIG, Paths, Settings};
use crate::daemon::logging::{self, Program};
use crate::daemon::state::StateDir;
use errors::CliError;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  the daemon is not running
  4  refused, or no permission
  5  not found, or not unique

Start here:
  on the machine with the hardware   myclerk init, then myclerk serve
  on the machine that wants it       myclerk join TOKEN, then myclerk client
  when something does not work       myclerk doctor";

/// Hardware plugged into one Linux machine, used on another as if it were plugged in there.
#[derive(Debug, Parser)]
#[command(name = "myclerk", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Keys, members and rules of this machine [default: /var/lib/myclerk]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MYCLERK_STATE",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options")]
    state: Option<PathBuf>,

    /// Control sockets of the daemons [default: /run/myclerk]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MYCLERK_RUN",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options")]
    run: Option<PathBuf>,

    /// Settings files (*.toml), none needed
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MYCLERK_CONFIG",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options", default_value = DEFAULT_CONFIG)]
    config: PathBuf,

    /// Print JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,

    /// Log more; twice for debugging, three times for everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Invite(invite::Invite),
    Join(join::Join),
    Members(members::Members),
    Revoke(revoke::Revoke),
    Serve(serve::Serve),
    Export(export::Export),
    Unexport(unexport::Unexport),
    Acl(acl::Acl),
    Client(client::Client),
    List(list::List),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Auto(auto::Auto),
    Reset(reset::Reset),
    Lock(lock::Lock),
    Unlock(unlock::Unlock),
    Who(who::Who),
    Audit(audit::Audit),
    Serial(serial::Serial),
    Can(can::Can),
    Pwm(pwm::Pwm),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
    GuardDevices(guard_devices::GuardDevices),
}

impl Command {
    /// As what it keeps its log.
    const fn program(&self) -> Program {
        match self {
            Self::Serve(_) | Self::Client(_) | Self::GuardDevices(_) => Program::Daemon,
            Self::Init(_)
            | Self::Invite(_)
            | Self::Join(_)
            | Self::Members(_)
            | Self::Revoke(_)
            | Self::Export(_)
            | Self::Unexport(_)
            | Self::Acl(_)
            | Self::List(_)
            | Self::Attach(_)
            | Self::Detach(_)
            | Self::Auto(_)
            | Self::Reset(_)
            | Self::Lock(_)
            | Self::Unlock(_)
            | Self::Who(_)
            | Self::Audit(_)
            | Self::Serial(_)
            | Self::Can(_)
            | Self::Pwm(_)
            | Self::Status(_)
            | Self::Doctor(_)
            | Self::Completions(_)
            | Self::Man(_) => Program::Subcommand,
        }
    }
}

/// What every subcommand is told.
struct Context {
    paths: Paths,
    settings: Settings,
    /// The directory of the settings files.
    config: PathBuf,
    json: bool,
}

impl Context {
    fn state(&self) -> StateDir {
        StateDir::new(&self.paths.state)
    }
}

/// Parses the arguments, runs the subcommand, reports its failure; the exit code of the process.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let json = global.json;
    match run(global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(json),
    }
}

fn run(global: Global, command: Command) -> Result<(), CliError> {
    // Failing means that a test or an embedding program has set up logging already.
    let _ = logging::start(command.program(), global.verbose);
    let settings = Settings::load(&global.config)?;
    let paths = settings.paths(global.state, global.run);
    let context = Context {
        paths,
        settings,
        config: global.config,
        json: global.json,
    };
    match command {
        Command::Init(args) => args.run(&context),
        Command::Invite(args) => args.run(&context),
        Command::Join(args) => args.run(&context),
        Command::Members(members::Members {}) => members::Members::run(&context),
        Command::Revoke(args) => args.run(&context),
        Command::Serve(args) => args.run(&context),
        Command::Export(args) => args.run(&context),
        Command::Unexport(args) => args.run(&context),
        Command::Acl(args) => args.run(&context),
        Command::Client(args) => args.run(&context),
        Command::List(args) => args.run(&context),
        Command::Attach(args) => args.run(&context),
        Command::Detach(args) => args.run(&context),
        Command::Auto(args) => args.run(&context),
        Command::Reset(args) => args.run(&context),
        Command::Lock(args) => args.run(&context),
        Command::Unlock(args) => args.run(&context),
        Command::Who(who::Who {}) => who::Who::run(&context),
        Command::Audit(args) => args.run(&context),
        Command::Serial(args) => args.run(&context),
        Command::Can(args) => args.run(&context),
        Command::Pwm(args) => args.run(&context),
        Command::Status(args) => args.run(&context),
        Command::Doctor(args) => args.run(&context),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(&context),
        Command::GuardDevices(guard_devices::GuardDevices {}) => guard_devices::GuardDevices::run(),
    }
}

/// The command line as people see it, without the subcommands that only programs start.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let bare = Global::augment_args(clap::Command::new("myclerk"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .after_help(EXIT_CODES)
        .arg_required_else_help(true);
    let subcommands = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    bare.subcommands(subcommands.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The words of a line as a shell would see them.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (n, part) in line.split('\'').enumerate() {
            if n % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    #[test]
    fn every_subcommand_shows_examples_that_parse() {
        let mut examples = 0;
        for subcommand in Cli::command().get_subcommands() {
            let name = subcommand.get_name();
            let help = subcommand
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let text = help
                .strip_prefix("Examples:\n")
                .unwrap_or_else(|| panic!("{name}: {help:?}"));
            for line in text.lines().filter(|line| line.starts_with("  myclerk ")) {
                let line = line.split("  # ").next().unwrap_or(line);
                let parsed = Cli::try_parse_from(words(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                examples += 1;
            }
        }
        assert!(examples >= 20, "{examples}");
    }
}
