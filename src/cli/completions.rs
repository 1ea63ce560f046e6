//! `myclerk completions`

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::errors::{CliError, Exit};
use super::{output, visible};

const EXAMPLES: &str = "\
Examples:
  myclerk completions bash  # into /usr/share/bash-completion/completions/myclerk
  myclerk completions zsh  # into a directory of $fpath, as _myclerk
  myclerk completions fish  # into ~/.config/fish/completions/myclerk.fish";

/// Print what a shell needs to complete the words of myclerk
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// The shell
    shell: Known,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), CliError> {
        let shell = match self.shell {
            Known::Bash => Shell::Bash,
            Known::Zsh => Shell::Zsh,
            Known::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut visible(), "myclerk", &mut script);
        let script = String::from_utf8(script)
            .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
        output::print(&script)
    }
}
