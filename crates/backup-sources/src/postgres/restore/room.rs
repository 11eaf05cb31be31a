//! Room for a data directory on the file systems that it is written to.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use backup_core::context::Context;
use backup_core::event::{Events, WarningKind};
use backup_core::source::{
    RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};

use super::target::{Target, failed};
use super::{Job, layers};

/// File systems that compress, by their numbers (`statfs(2)`): data may need less room than it has
/// bytes.
#[cfg(target_os = "linux")]
const COMPRESSING: [u32; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Fails if the target lacks room for all files; warns if it compresses them.
pub(super) async fn require(
    job: &Job<'_>,
    target: &Target,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let request = RestoreRequest { dry_run: true, ..job.request.clone() };
    let cx = Context { events: Events::silent(), ..job.cx.clone() };
    let rehearsal = Job { cx: &cx, request: &request, ..job.clone() };
    let mut rehearsed = RestoreReport::default();
    layers::write(&rehearsal, target, &mut rehearsed).await?;
    let lack = lack(target.roots(), needed(job, &rehearsed))?;
    let Some(lack) = lack else { return Ok(()) };
    if lack.may_fit {
        job.cx.events.warn(WarningKind::Other, "", lack.text);
        report.warnings += 1;
        return Ok(());
    }
    let hint = "free some space, or choose a directory with more";
    Err(SourceError::new(SourceErrorKind::Target, lack.text).with_hint(hint))
}

/// Warns of the same in a plan.
pub(super) fn warn(job: &Job<'_>, target: &Target, report: &mut RestoreReport) -> SourceResult<()> {
    if let Some(lack) = lack(target.roots(), needed(job, report))? {
        job.cx.events.warn(WarningKind::Other, "", lack.text);
        report.warnings += 1;
    }
    Ok(())
}

struct Lack {
    text: String,
    /// The file system compresses.
    may_fit: bool,
}

/// Bytes of all files, and of the log.
fn needed(job: &Job<'_>, report: &RestoreReport) -> u64 {
    let log = job.request.log.as_ref().map_or(0, |log| log.plan().bytes);
    report.total_bytes.saturating_add(log)
}

/// The room that is missing for `needed` bytes in these directories, if any is. Free space of all
/// file systems counts together: the part of each tablespace is not known.
fn lack(directories: Vec<(String, PathBuf)>, needed: u64) -> SourceResult<Option<Lack>> {
    let (mut seen, mut free, mut may_fit) = (HashSet::new(), 0_u64, false);
    for (_, directory) in directories {
        // It does not exist yet in a plan.
        let existing = directory.ancestors().find_map(|dir| Some((dir, fs::metadata(dir).ok()?)));
        let Some((directory, metadata)) = existing else { continue };
        if seen.insert(metadata.dev()) {
            let about =
                rustix::fs::statvfs(directory).map_err(|error| failed(directory, error.into()))?;
            free = free.saturating_add(about.f_bavail.saturating_mul(about.f_frsize));
            may_fit |= compresses(directory);
        }
    }
    if free >= needed {
        return Ok(None);
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let text = format!(
        "the target has {} MiB free, but the data directory needs {} MiB",
        mib(free),
        mib(needed)
    );
    Ok(Some(Lack { text, may_fit }))
}

#[cfg(target_os = "linux")]
fn compresses(directory: &Path) -> bool {
    let kind = rustix::fs::statfs(directory).map(|about| about.f_type);
    // The type differs between architectures; all of these numbers have 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits")]
    kind.is_ok_and(|kind| COMPRESSING.contains(&(kind as u32)))
}

#[cfg(not(target_os = "linux"))]
fn compresses(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_that_of_the_nearest_directory() {
        let room = tempfile::tempdir().unwrap();
        let below = |name: &str| (String::new(), room.path().join(name));
        let directories = || vec![below("data"), below("tablespaces/1")];
        assert!(lack(directories(), 0).unwrap().is_none());
        let about = rustix::fs::statvfs(room.path()).unwrap();
        let too_much = about.f_blocks * about.f_frsize + 1;
        let text = lack(directories(), too_much).unwrap().unwrap().text;
        assert!(text.contains(&format!("needs {} MiB", too_much.div_ceil(1 << 20))), "{text}");
    }
}
