//! `backup running`: what goes on in a daemon.

/// Show what goes on in the daemon, and what waits for its turn
///
/// Asks the daemon of this machine, through its socket in the state directory, or that of --server.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show what is over instead, the last first
    #[arg(long)]
    ended: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup running
  backup running --ended --server https://backup1:8321";
