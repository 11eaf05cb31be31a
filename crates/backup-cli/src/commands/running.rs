//! `backup running`: what goes on in a daemon.

/// Show running and waiting operations in the daemon
///
/// Connects to --server, or to the daemon of this machine through its socket in the state
/// directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show ended operations instead, newest first
    #[arg(long)]
    ended: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup running
  backup running --ended --server https://backup1:8321";
