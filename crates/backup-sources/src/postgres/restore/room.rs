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

/// Local file systems that do not compress, by their numbers (`statfs(2)`): ext2 to ext4, XFS, F2FS,
/// tmpfs. On others, data may need less room than it has bytes.
#[cfg(target_os = "linux")]
const PLAIN: [u32; 4] = [0xef53, 0x5846_5342, 0xf2f5_2010, 0x0102_1994];

/// Fails if the target lacks room for all files; warns if it may compress them.
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
        lack.warn(job, report);
        return Ok(());
    }
    let hint = "free some space, or choose a directory with more";
    Err(SourceError::new(SourceErrorKind::Target, lack.text).with_hint(hint))
}

/// Warns of the same in a plan.
pub(super) fn warn(job: &Job<'_>, target: &Target, report: &mut RestoreReport) -> SourceResult<()> {
    if let Some(lack) = lack(target.roots(), needed(job, report))? {
        lack.warn(job, report);
    }
    Ok(())
}

struct Lack {
    text: String,
    /// The file system may compress.
    may_fit: bool,
}

impl Lack {
    fn warn(self, job: &Job<'_>, report: &mut RestoreReport) {
        job.cx.events.warn(WarningKind::Other, "", self.text);
        report.warnings += 1;
    }
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
            // Network file systems may not report it.
            if about.f_blocks == 0 {
                return Ok(None);
            }
            let is_root = rustix::process::geteuid().is_root();
            let blocks = if is_root { about.f_bfree } else { about.f_bavail };
            free = free.saturating_add(blocks.saturating_mul(about.f_frsize));
            may_fit |= !is_plain(directory);
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
fn is_plain(directory: &Path) -> bool {
    let kind = rustix::fs::statfs(directory).map(|about| about.f_type);
    // The type differs between architectures; all of these numbers have 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits")]
    kind.is_ok_and(|kind| PLAIN.contains(&(kind as u32)))
}

#[cfg(not(target_os = "linux"))]
fn is_plain(_: &Path) -> bool {
    false
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
