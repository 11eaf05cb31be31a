//! `backup cancel`: stopping what goes on in a daemon.

/// Stop an operation in the daemon, at a safe point
///
/// The next run uses the data that is already stored. Connects to --server, or to the daemon of
/// this machine through its socket in the state directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Operation, as `backup running` shows it
    #[arg(value_name = "ID")]
    id: String,
}

const EXAMPLES: &str = "\
Examples:
  backup cancel 19ab4c7d2f0-12
  backup cancel 19ab4c7d2f0-12 --server https://backup1:8321";
