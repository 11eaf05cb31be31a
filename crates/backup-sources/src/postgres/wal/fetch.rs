//! Files of the log for a server that asks for them (`restore_command`).

use std::path::Path;

use backup_core::context::Context;
use backup_core::log::{LogView, Position, Stream, Timeline};
use backup_core::repository::IndexedRepository;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::backup::segments_of;
use super::super::error::{invalid, malformed};
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::file::WalFile;
use super::history::History;
use super::known::{Known, Rootless};

/// The file that PostgreSQL calls `name`, from the log `stream` of the cluster `system_id`, for the
/// server in `data_directory`; `None` if it is to go on with what it has itself, or may take the
/// log for ended. What was captured of an unfinished segment is filled up with zeros.
///
/// # Errors
/// [`SourceErrorKind::LogGap`] if the log goes on behind what is missing, or may go on in what is
/// damaged: a server that took it for ended would be wrong. Those of reading.
pub async fn fetch_wal(
    indexed: &IndexedRepository,
    view: &LogView,
    (stream, system_id): (&Stream, u64),
    data_directory: &Path,
    name: &str,
    cx: &Context,
) -> SourceResult<Option<Vec<u8>>> {
    let timeline = view.timeline();
    if let Some(number) = name.strip_suffix(".history") {
        let has_own = data_directory.join("pg_wal").join(name).is_file();
        return history(view, &timeline, u32::from_str_radix(number, 16).ok(), has_own);
    }
    let newest = view.snapshots().last().ok_or_else(|| {
        invalid("the repository has no snapshot of this cluster")
            .with_hint("run `backup list` to list the snapshots in the repository")
    })?;
    let segments = segments_of(&indexed.snapshot(newest)).await?;
    let Some((number, segment)) = segments.parse(name) else { return Ok(None) };
    let (from, to) = (segments.start(segment).0, segments.start(segment + 1).0);
    let branch = number.to_string();
    let end = timeline.reach(&branch, from).min(to);
    let ends = if end < to { ends(view, &timeline, &branch, end) } else { Ok(()) };
    if let Err(error) = ends {
        let own = data_directory.join("pg_wal").join(name);
        return if is_there(&own, system_id, &Position::new(branch, from)) {
            Ok(None)
        } else {
            Err(error)
        };
    }
    if end == from {
        return Ok(None);
    }
    let path = Layout::of(system_id).segment(segments, number, segment).display().into_owned();
    let mut file =
        vec![0; usize::try_from(segments.size()).map_err(|_| malformed("WAL segment size"))?];
    let mut tape = view.tape(indexed, stream, &timeline.pieces(&branch, from, end), cx)?;
    while let Some(part) = tape.next().await? {
        // What lies behind a hole in a file stands beside it, with the place where it begins.
        let (own, begins) = match part.path.rsplit_once('@') {
            Some((own, begins)) => (own, begins.parse().map_err(|_| malformed("captured WAL"))?),
            None => (&*part.path, 0),
        };
        if own == path {
            let at = usize::try_from(part.at + begins).map_err(|_| malformed("captured WAL"))?;
            let place =
                file.get_mut(at..at + part.data.len()).ok_or_else(|| malformed("captured WAL"))?;
            place.copy_from_slice(&part.data);
        }
    }
    Ok(Some(file))
}

/// Fails if the log goes on behind `end`, as far as can be told.
fn ends(view: &LogView, timeline: &Timeline, branch: &str, end: u64) -> SourceResult<()> {
    undamaged(view)?;
    if timeline.known_end(branch).is_some_and(|last| last > end) {
        return Err(gap(format!(
            "the WAL is missing at {} on timeline {branch}, but continues after that",
            Lsn(end)
        )));
    }
    match branch.parse().ok().and_then(|number| Known::new(timeline).may_have_left(number)) {
        Some(later) => Err(lost(later)),
        None => Ok(()),
    }
}

fn gap(text: String) -> SourceError {
    SourceError::new(SourceErrorKind::LogGap, text).with_hint(
        "restore an earlier moment, or begin with a later snapshot: `backup timeline` shows both",
    )
}

fn lost(Rootless(number): Rootless) -> SourceError {
    let text =
        format!("the origin of timeline {number} of this cluster is missing in the captured WAL");
    SourceError::new(SourceErrorKind::LogGap, text).with_hint(format!(
        "run `backup wal-push` for its {} again on a server that has this file, or restore an \
         earlier moment with `backup restore --at`",
        History::file_name(number)
    ))
}

/// Whether the server has a whole segment itself: a base brings its own log along, and who restores
/// by other means may have some. Files that are there ahead, under names that are not theirs yet,
/// do not count.
fn is_there(path: &Path, system_id: u64, start: &Position) -> bool {
    let read = WalFile::read(path).ok().flatten();
    read.is_some_and(|file| file.system_id() == system_id && file.range().0 == *start)
}

/// Fails if there is something that cannot be read, and may hold what is looked for.
fn undamaged(view: &LogView) -> SourceResult<()> {
    let slices = view.damaged().iter().map(|(name, error)| (format!("slice {name}"), error));
    let snapshots =
        view.damaged_snapshots().iter().map(|(id, error)| (format!("snapshot {id}"), error));
    let Some((what, error)) = slices.chain(snapshots).next() else { return Ok(()) };
    let text = format!("{what} is damaged and may hold the requested file: {}", error.chain());
    Err(SourceError::new(SourceErrorKind::LogGap, text).with_hint(
        "run `backup check` to list the lost data, or restore an earlier moment with `backup \
         restore --at`",
    ))
}

/// How a timeline came to be. Of one whose beginning is lost a server may have a history of its
/// own: its backup has brought it along.
fn history(
    view: &LogView,
    timeline: &Timeline,
    number: Option<u32>,
    has_own: bool,
) -> SourceResult<Option<Vec<u8>>> {
    let found = number.map_or(Ok(None), |number| Known::new(timeline).history(number));
    match found {
        Ok(Some(history)) => Ok(Some(history.text().into_bytes())),
        Ok(None) => undamaged(view).map(|()| None),
        Err(_) if has_own => Ok(None),
        Err(rootless) => Err(lost(rootless)),
    }
}
