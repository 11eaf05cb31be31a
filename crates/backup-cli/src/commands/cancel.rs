//! `backup cancel`: stopping what goes on in a daemon.

/// Stop something that goes on in the daemon, at a safe point
///
/// What it has stored is used by the next run. Asks the daemon of this machine, through its socket
/// in the state directory, or that of --server.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which, as `backup running` shows it
    #[arg(value_name = "ID")]
    id: String,
}

const EXAMPLES: &str = "\
Examples:
  backup cancel 19ab4c7d2f0-12
  backup cancel 19ab4c7d2f0-12 --server https://backup1:8321";
