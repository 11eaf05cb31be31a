//! Logs of PostgreSQL, file by file, as its servers hand them over and ask for them.

use std::path::Path;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::{CaptureOptions, LogPart, LogView, Stream, capture};
use backup_core::repository::{IndexedRepository, Repository};
use backup_core::source::{Source as _, SourceIdentity};
use backup_sources::postgres::{WalFile, fetch_wal, system_id_of};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// So long somebody else who captures the same log is waited for: what is pushed is a part of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is stored.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of the log that are stored as one slice, at most.
const LARGEST: usize = 8 << 20;
/// The timeline that has no history.
const FIRST: &str = "1";

/// The log of the cluster whose data directory this is, and its identifier.
///
/// # Errors
/// [`Error::Core`] if it is no data directory.
pub fn of_data_directory(directory: &Path) -> Result<(Stream, u64)> {
    let id = system_id_of(directory).map_err(CoreError::from)?;
    let identity = SourceIdentity {
        kind: "postgres".to_owned(),
        id: id.to_string(),
        host: String::new(),
        paths: Vec::new(),
    };
    Ok((Stream::of(&identity), id))
}

/// The segment that `path` names; `None` for files that need not be stored.
///
/// # Errors
/// [`Error::Core`] if it cannot be read, is damaged or is no log.
pub fn read(path: &Path) -> Result<Option<WalFile>> {
    Ok(WalFile::read(path).map_err(CoreError::from)?)
}

/// The log that a segment is a piece of.
#[must_use]
pub fn stream_of(file: &WalFile) -> Stream {
    Stream::of(&file.identity())
}

/// Stores a segment or a history for good; one that is stored already is compared. Says whether
/// there was something new in it.
///
/// # Errors
/// [`ErrorKind::Damaged`] if something else is stored in its place; [`ErrorKind::Invalid`] if it is
/// of another timeline of the same number; [`ErrorKind::Busy`] if somebody else captures the log
/// and does not get so far; those of the sink.
pub async fn push(
    repository: &Repository,
    file: &WalFile,
    holder: &str,
    cx: &Context,
) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = view_of(repository, file, cx).await?;
        let timeline = view.timeline();
        file.require_lineage(&timeline).map_err(CoreError::from)?;
        let file = file.beyond(&timeline);
        if !file.tells_history() && is_stored(repository, &view, &file, cx).await? {
            return Ok(false);
        }
        match store(repository, &file, holder, cx).await {
            Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(true),
        }
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// What has to be known of the log: of its slices mostly only the newest. Where a timeline came
/// from is said by its first one alone, until that is rolled up; of the oldest timeline that there
/// are backups of, nobody says it.
async fn view_of(repository: &Repository, file: &WalFile, cx: &Context) -> Result<LogView> {
    let (stream, (from, _)) = (stream_of(file), file.range());
    if file.is_segment() {
        let view = LogView::since(repository, &stream, &from, cx).await?;
        let timeline = view.timeline();
        let is_told = !timeline.bases().is_empty() && !file.beyond(&timeline).tells_history();
        if is_told || from.branch == FIRST {
            return Ok(view);
        }
    }
    Ok(LogView::load(repository, &stream, cx).await?)
}

/// Captures the log that the file is, and ends when it is stored.
async fn store(
    repository: &Repository,
    file: &WalFile,
    holder: &str,
    cx: &Context,
) -> backup_core::error::Result<()> {
    let cancel = cx.cancel.child_token();
    let capturing = Context { cancel: cancel.clone(), ..cx.clone() };
    let options = CaptureOptions {
        flush_after: Duration::from_millis(100),
        // As few slices as may be: whoever reads the log asks each of them what it says.
        flush_bytes: file.data().len().clamp(1, LARGEST),
        memory: 4 * LARGEST as u64,
        holder: holder.to_owned(),
        goes_back: true,
        ..CaptureOptions::default()
    };
    let mut capturing = std::pin::pin!(capture(repository, file, &options, &capturing));
    tokio::select! {
        ended = &mut capturing => {
            ended?;
            return Err(CoreError::cancelled());
        }
        () = file.stored() => cancel.cancel(),
    }
    // Whoever comes next need not wait for the lease to run out.
    capturing.await.map(|_| ())
}

/// Whether all of it is stored; what is, up to the first hole, must be the same.
async fn is_stored(
    repository: &Repository,
    view: &LogView,
    file: &WalFile,
    cx: &Context,
) -> Result<bool> {
    let (stream, (from, to)) = (stream_of(file), file.range());
    let timeline = view.timeline();
    let pieces = timeline.pieces(&from.branch, from.offset, to.offset);
    if file.is_segment() && pieces.is_empty() {
        return Ok(false);
    }
    let indexed = repository.load_index(cx).await?;
    let mut tape = view.tape(&indexed, &stream, &pieces, cx)?;
    let mut compared =
        Compared::new(file.path(), if file.is_segment() { file.data() } else { &[] });
    while let Some(part) = tape.next().await? {
        if !compared.is_same(&part) {
            let error =
                CoreError::damaged(format!("{file} is already stored with different content"));
            return Err(error
                .with_hint(
                    "check whether another copy of this cluster writes the same log, and give it \
                     an archive of its own",
                )
                .into());
        }
    }
    Ok(compared.is_whole())
}

/// A file, and what of it was found to be stored.
struct Compared<'a> {
    path: String,
    data: &'a [u8],
    found: Vec<(u64, u64)>,
}

impl<'a> Compared<'a> {
    fn new(path: String, data: &'a [u8]) -> Self {
        Self { path, data, found: Vec::new() }
    }

    /// Whether the file has the same bytes as a part that is stored of it. What lies behind a hole,
    /// or differs, was put beside it when it was rolled up, with the place where that begins.
    fn is_same(&mut self, part: &LogPart) -> bool {
        let begins = match part.path.strip_prefix(&*self.path) {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('@').and_then(|begins| begins.parse().ok()),
            None => None,
        };
        let Some(begins) = begins else { return true };
        let at: u64 = part.at.saturating_add(begins);
        self.found.push((at, at.saturating_add(part.data.len() as u64)));
        let same = usize::try_from(at)
            .ok()
            .and_then(|at| self.data.get(at..at.checked_add(part.data.len())?));
        same == Some(&part.data[..])
    }

    /// Whether all of the file was found.
    fn is_whole(&mut self) -> bool {
        self.found.sort_unstable();
        let end = self
            .found
            .iter()
            .fold(0, |end, (from, to)| if *from <= end { end.max(*to) } else { end });
        end >= self.data.len() as u64
    }
}

/// Writes the file of the log that the server of a data directory calls `name` to `to`; says
/// whether there is one.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it is missing and the log goes on behind it; those of reading and
/// writing.
pub async fn fetch(
    indexed: &IndexedRepository,
    stream: (&Stream, u64),
    data_directory: &Path,
    name: &str,
    to: &Path,
    cx: &Context,
) -> Result<bool> {
    let view = LogView::load(indexed.repository(), stream.0, cx).await?;
    let found = fetch_wal(indexed, &view, stream, data_directory, name, cx)
        .await
        .map_err(CoreError::from)?;
    let Some(bytes) = found else { return Ok(false) };
    // The server takes whatever has the name: it gets it when it is complete.
    let mut held = to.as_os_str().to_owned();
    held.push(".part");
    let written = std::fs::write(&held, bytes)
        .and_then(|()| std::fs::File::open(&held)?.sync_all())
        .and_then(|()| std::fs::rename(&held, to));
    written.map_err(|error| Error::invalid(format!("cannot write {}: {error}", to.display())))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str, at: u64, data: &'static [u8]) -> LogPart {
        let (branch, path, data) = ("1".to_owned(), path.to_owned(), data.into());
        LogPart { branch, from: 0, to: 9, limit: None, path, at, data }
    }

    /// What is found in `parts` of the file `/a/1`: whether it is the same, and whole.
    fn compared(parts: &[LogPart]) -> (bool, bool) {
        let mut compared = Compared::new("/a/1".to_owned(), b"0123456789");
        (parts.iter().all(|part| compared.is_same(part)), compared.is_whole())
    }

    #[test]
    fn what_was_put_beside_a_file_is_a_part_of_it() {
        let (begin, middle, end) =
            (part("/a/1", 0, b"0123"), part("/a/1@6", 0, b"67"), part("/a/1@6", 2, b"89"));
        let filled = part("/a/1", 4, b"45");
        assert_eq!(
            compared(&[begin.clone(), filled.clone(), middle.clone(), end.clone()]),
            (true, true)
        );
        assert_eq!(
            compared(&[end.clone(), middle.clone(), filled.clone(), begin.clone()]),
            (true, true)
        );
        // A hole, at each place where there may be one.
        for left_out in 0..4 {
            let mut parts = vec![begin.clone(), filled.clone(), middle.clone(), end.clone()];
            parts.remove(left_out);
            assert_eq!(compared(&parts), (true, false), "{left_out}");
        }
    }

    #[test]
    fn other_bytes_are_seen_wherever_they_lie() {
        let whole = part("/a/1", 0, b"0123456789");
        for odd in [
            part("/a/1", 0, b"x"),
            part("/a/1", 9, b"9x"),
            part("/a/1@6", 0, b"x"),
            part("/a/1@0", 0, b"x"),
            part("/a/1@6", 1, b"x"),
            part("/a/1@18446744073709551615", 1, b"x"),
        ] {
            assert!(!compared(&[whole.clone(), odd.clone()]).0, "{odd:?}");
        }
        // What lies in other files says nothing.
        let others = [part("/a/12", 0, b"x"), part("/a/1@x", 0, b"x"), part("/b", 0, b"x")];
        assert_eq!(compared(&others), (true, false));
    }
}
