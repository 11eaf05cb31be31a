//! `backup restore promote`.

use std::path::PathBuf;

use backup_control::sources;
use backup_control::units::Time;
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Make a restored PostgreSQL server accept writes, after `backup restore --pause`
///
/// Restarts the server of the data directory. It replays its log up to the moment of the restore,
/// and accepts writes from then on.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Data directory of the paused restore
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Directory of postgres and pg_ctl, of the server's version [default: the installed ones]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Time limit of the start, for instance 2h [default: 15min, and a second more for each MiB of
    /// log]
    #[arg(long, value_name = "TIME")]
    start_timeout: Option<Time>,
}

const EXAMPLES: &str = "\
Examples:
  Look at the restored data, then use it:
    backup restore --job crm --at latest --target /srv/crm --start --pause
    backup restore promote /srv/crm";

/// The result as JSON.
#[derive(Serialize)]
struct Promoted<'a> {
    schema_version: u32,
    directory: String,
    running: &'a str,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let directory = args.directory.display().to_string();
    session.trail.note("target", &directory);
    let limit = args.start_timeout.as_ref().map(Time::length);
    let (programs, env) = (args.programs.clone(), &session.env);
    let running = sources::promote(&session.cx, &args.directory, programs, limit, env).await?;
    if session.ui.is_json() {
        let schema_version = SCHEMA_VERSION;
        session.ui.json_line(&Promoted { schema_version, directory, running: &running })?;
    } else {
        let promoted = paint(style::GOOD, "promoted");
        session.ui.line(format!("Server {promoted}: it runs in {running} and accepts writes"))?;
    }
    Ok(Outcome::Success)
}
