//! Ending the pause of a restored server: it accepts writes from then on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::SourceResult;

use super::super::error::invalid;
use super::super::options::PostgresOptions;
use super::target::{Target, failed};
use super::{recovery, start};

/// Makes the server of a data directory that was restored with [`PostgresOptions::pause`] accept
/// writes. The server is restarted: it replays its log up to the place of the restore, wherever it
/// was, and begins a timeline of its own. Programs of its version come from the first of
/// `programs` that has them. The time-out is that of a start. Returns the data directory, the port
/// and the process of the server, in words.
///
/// Cancelling leaves a server that replays its log and then accepts writes. An interrupted promotion
/// can be repeated.
///
/// # Errors
/// [`Invalid`](backup_core::source::SourceErrorKind::Invalid) if the directory is no paused restore
/// or there are no programs of its version,
/// [`Target`](backup_core::source::SourceErrorKind::Target) if the server does not stop or start.
pub async fn promote(
    cx: &Context,
    directory: &Path,
    programs: &[PathBuf],
    limit: Option<Duration>,
) -> SourceResult<String> {
    let root = std::path::absolute(directory).map_err(|error| failed(directory, error))?;
    let target = Target::existing(root);
    let version = target.read("PG_VERSION")?;
    let major: u32 = version.trim().parse().map_err(|_| {
        invalid(format!("{} is not a data directory of PostgreSQL", target.root.display()))
            .with_hint("name the directory of a restore with --pause")
    })?;
    if !recovery::is_restore(&target)? {
        let text = format!("{} is not a paused restore", target.root.display());
        return Err(invalid(text).with_hint("name the directory of a restore with --pause"));
    }
    let programs = start::programs(major * 10_000, programs).await.map_err(|error| {
        error.with_hint("name the directory of its pg_ctl and postgres (--programs DIR)")
    })?;
    if target.root.join(recovery::SIGNAL).exists() {
        let options = PostgresOptions { start_timeout: limit, ..PostgresOptions::default() };
        let limit = start::limit(&options, log_of(&target));
        start::stop(cx, &programs, &target, limit).await?;
        cx.check_cancelled()?;
        recovery::end_pause(&target)?;
        start::start(cx, &programs, &target, limit).await?;
    } else {
        // Promoted by other means, or by a promotion that was interrupted at its end.
        recovery::forget(&target)?;
        start::reload(cx, &programs, &target).await?;
    }
    Ok(start::running(&target))
}

/// Bytes of the log in the directory, at most that is replayed.
fn log_of(target: &Target) -> u64 {
    let entries = std::fs::read_dir(target.log()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}
