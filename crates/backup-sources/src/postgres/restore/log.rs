//! The captured log, put where the server looks for it: into `pg_wal`, over what the backup brought
//! along.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use backup_core::log::{LogPart, LogReplay};
use backup_core::source::SourceResult;

use super::super::error::malformed;
use super::super::lsn::Lsn;
use super::super::wal::History;
use super::Job;
use super::moment::Way;
use super::target::{Target, failed};

/// Writes the log that `log` names; returns how many bytes that were.
pub(super) async fn place(
    job: &Job<'_>,
    target: &Target,
    log: &LogReplay,
    way: &Way,
) -> SourceResult<u64> {
    let mut tape = log.tape(job.cx)?;
    let mut files = Files { job, target, open: None };
    let mut bytes = 0;
    while let Some(part) = tape.next().await? {
        bytes += part.data.len() as u64;
        files.write(&part)?;
    }
    known_timelines(target, log)?;
    for turn in way.turns() {
        files.begin_of_timeline(turn.from, turn.at, turn.next)?;
        let name = History::file_name(turn.next);
        // The server's own says more, if it is there.
        if !target.log().join(&name).exists() {
            target.write(&format!("pg_wal/{name}"), way.history_of(turn.next).text().as_bytes())?;
        }
    }
    Ok(bytes)
}

/// The copy goes on with a timeline whose number nobody has used: the server looks for the
/// histories of those that there are.
fn known_timelines(target: &Target, log: &LogReplay) -> SourceResult<()> {
    let timeline = log.timeline();
    for branch in timeline.branch_names() {
        let Ok(number) = branch.parse::<u32>() else { continue };
        let lineage = timeline.lineage(&branch);
        let left =
            lineage.iter().filter_map(|(name, end)| Some((name.parse().ok()?, Lsn((*end)?))));
        let name = History::file_name(number);
        // The first timeline has none, and the server's own say more.
        if number > 1 && !target.log().join(&name).exists() {
            target.write(&format!("pg_wal/{name}"), History(left.collect()).text().as_bytes())?;
        }
    }
    Ok(())
}

/// The file of a part, and the place of its first byte there.
fn file_of(part: &LogPart) -> SourceResult<(&str, u64)> {
    let name = part.path.rsplit('/').next().unwrap_or_default();
    // Bytes behind a hole in a file stand beside it, with the place where it begins.
    let (name, begins) = match name.split_once('@') {
        Some((name, begins)) => (name, begins.parse().map_err(|_| bad(part))?),
        None => (name, 0),
    };
    Ok((name, part.at.checked_add(begins).ok_or_else(|| bad(part))?))
}

/// True for the history of a timeline.
fn is_history(name: &str) -> bool {
    name.ends_with(".history") && name.len() == 16
}

/// The number of the segment that a part belongs to, and the place in it; `None` for the history of
/// a timeline.
pub(super) fn place_of(job: &Job<'_>, part: &LogPart) -> SourceResult<Option<(u64, u64)>> {
    let (name, at) = file_of(part)?;
    if is_history(name) {
        return Ok(None);
    }
    let end = at.checked_add(part.data.len() as u64).ok_or_else(|| bad(part))?;
    match job.segments.parse(name) {
        Some((_, number)) if end <= job.segments.size() => Ok(Some((number, at))),
        _ => Err(bad(part)),
    }
}

struct Files<'a> {
    job: &'a Job<'a>,
    target: &'a Target,
    open: Option<(String, PathBuf, File)>,
}

impl Files<'_> {
    fn write(&mut self, part: &LogPart) -> SourceResult<()> {
        let (name, at) = file_of(part)?;
        if is_history(name) && at == 0 {
            return self.target.write(&format!("pg_wal/{name}"), &part.data);
        }
        place_of(self.job, part)?.ok_or_else(|| bad(part))?;
        let (path, file) = self.file(name)?;
        file.write_all_at(&part.data, at).map_err(|error| failed(path, error))
    }

    /// A segment always has its full size: the server takes no other.
    fn file(&mut self, name: &str) -> SourceResult<(&PathBuf, &File)> {
        if self.open.as_ref().is_none_or(|(open, ..)| open != name) {
            let path = self.target.log().join(name);
            let size = self.job.segments.size();
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = opened
                .and_then(|file| file.set_len(size).map(|()| file))
                .map_err(|error| failed(&path, error))?;
            self.target.own_like_root(&path)?;
            self.open = Some((name.to_owned(), path, file));
        }
        match &self.open {
            Some((_, path, file)) => Ok((path, file)),
            None => Err(malformed("WAL segment")),
        }
    }

    /// The first segment of a timeline begins with what the one before has of it, as the server
    /// does it.
    fn begin_of_timeline(&mut self, from: u32, at: Lsn, next: u32) -> SourceResult<()> {
        let segments = self.job.segments;
        let number = segments.number(at);
        let len = usize::try_from(at.0 - segments.start(number).0).unwrap_or(0);
        if len == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; len];
        let (path, file) = self.file(&segments.name(from, number))?;
        file.read_exact_at(&mut bytes, 0).map_err(|error| failed(path, error))?;
        let (path, file) = self.file(&segments.name(next, number))?;
        file.write_all_at(&bytes, 0).map_err(|error| failed(path, error))
    }
}

fn bad(part: &LogPart) -> backup_core::source::SourceError {
    malformed(format!("captured WAL: {} at {}", part.path, part.at))
}
