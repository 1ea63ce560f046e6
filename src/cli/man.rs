//! `myclerk man`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;

use super::errors::{CliError, Exit};
use super::{Context, output, visible};

const EXAMPLES: &str = "\
Examples:
  myclerk man --dir /usr/local/share/man/man1
  myclerk man  # the main page, to standard output";

/// Print the manual page, or write one for every subcommand
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Man {
    /// Write myclerk.1 and a page for every subcommand into DIR, which is made if need be
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let mut command = visible().disable_help_subcommand(true);
        // Gives the subcommands their whole names and the options of all.
        command.build();
        let Some(dir) = self.dir else {
            let page =
                render(command).map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
            return output::print(&String::from_utf8_lossy(&page));
        };
        let mut written = Vec::new();
        fs::create_dir_all(&dir)
            .and_then(|()| write(command, &dir, &mut written))
            .map_err(|error| not_written(&dir, &error))?;
        if context.json {
            output::json(&written)
        } else {
            let count = written.len();
            output::print(&format!("{count} pages are in {}\n", dir.display()))
        }
    }
}

fn render(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Page::new(command).manual("MyClerk").render(&mut page)?;
    Ok(page)
}

/// The page of a command and those of its subcommands.
fn write(command: Command, dir: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write(subcommand.clone(), dir, written)?;
    }
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let file = dir.join(format!("{name}.1"));
    fs::write(&file, render(command)?)?;
    written.push(file);
    Ok(())
}

fn not_written(dir: &Path, error: &io::Error) -> CliError {
    let message = format!("cannot write the pages into {}", dir.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        return CliError::new(Exit::Refused, message)
            .because(error.to_string())
            .mend(format!("sudo myclerk man --dir {}", dir.display()));
    }
    CliError::new(Exit::Failed, message).because(error.to_string())
}
