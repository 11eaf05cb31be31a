//! `backup completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::session::Session;

/// Print a script that completes commands in a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const EXAMPLES: &str = "\
Example:
  backup completions bash > /etc/bash_completion.d/backup";

pub(crate) fn run(session: &Session, args: &Args) -> CommandResult {
    if session.ui.is_json() {
        return Err(CommandError::usage("completions are a script and have no JSON form"));
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "backup", &mut script);
    session.ui.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Success)
}
