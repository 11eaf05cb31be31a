//! The masters of a cluster as one server: no key is in two of them, so that their dumps behind
//! each other are a dump, and their commands behind each other come to what they came to side by
//! side.
//!
//! ```text
//!  first dump, without its end ─▶ keys of the second ─▶ … ─▶ end, checksum ─▶ commands of the first ─▶ SELECT, those of the second ─▶ …
//! ```

use std::collections::VecDeque;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::backup::Channel;
use super::super::error::{invalid, malformed};
use super::super::rdb::{Parser, RdbError, Record, crc64};
use super::replay::Replay;
use super::{Job, WAITING};

/// The marker of the end, and the checksum behind it.
const END: u64 = 9;
const MARKER: u8 = 0xff;

const OTHER_LIBRARIES: &str = "their function libraries differ";

/// Which bytes of a dump are taken.
struct Cut {
    from: u64,
    to: u64,
    pieces: Receiver<SourceResult<Bytes>>,
}

/// What can be taken for one server only if the masters are alike.
pub(super) fn require_alike(job: &Job<'_>) -> SourceResult<()> {
    let refuse = |why: &str| {
        let text = format!(
            "the dumps of {} masters in the snapshot cannot be combined for a replica: {why}",
            job.dumps.len()
        );
        Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
            "restore key by key to a server or a cluster, or into a directory with files for one \
             server per master",
        ))
    };
    let first = &job.dumps[0].description.dump;
    let dumps = || job.dumps.iter().map(|dump| &dump.description.dump);
    match () {
        () if job.dumps.len() == 1 => Ok(()),
        () if dumps().any(|dump| dump.unknown.is_some()) => refuse("they have unknown content"),
        () if dumps().any(|dump| dump.module_data) => {
            refuse("they have module data that belongs to no key")
        }
        () if dumps().any(|dump| dump.version != first.version || dump.format != first.format) => {
            refuse("they have different versions")
        }
        () if dumps().any(|dump| dump.libraries != first.libraries) => refuse(OTHER_LIBRARIES),
        () => Ok(()),
    }
}

/// A dump of everything, and how many bytes it has.
pub(super) async fn dump(job: &Job<'_>) -> SourceResult<(u64, Receiver<SourceResult<Bytes>>)> {
    if job.dumps.len() == 1 {
        return Ok((job.dump.metadata.size, job.read_dump()));
    }
    let (mut cuts, mut size) = (VecDeque::new(), END);
    for (one, number) in job.parts()?.iter().zip(0..) {
        let to = one.dump.metadata.size.checked_sub(END).ok_or_else(|| malformed("dump"))?;
        let from = if number == 0 { 0 } else { keys_begin(one.read_dump()).await?.min(to) };
        size += to - from;
        cuts.push_back(Cut { from, to, pieces: one.read_dump() });
    }
    let (sender, receiver) = channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = send(cuts, &sender).await {
            // Whoever reads may have given up already.
            _ = sender.send(Err(error)).await;
        }
    });
    Ok((size, receiver))
}

/// Behind remarks and libraries, which all of them have.
async fn keys_begin(pieces: Receiver<SourceResult<Bytes>>) -> SourceResult<u64> {
    let reading = move || {
        let mut parser = Parser::new(Channel(pieces));
        let mut begin = 0;
        loop {
            match parser.next()? {
                Some(Record::Key(_)) => return Ok(begin),
                Some(_) => begin = parser.position(),
                // There are none: what comes behind the last remark says nothing of keys.
                None => return Ok(u64::MAX),
            }
        }
    };
    let read = tokio::task::spawn_blocking(reading)
        .await
        .map_err(|_| invalid("the reader of the dump ended unexpectedly"))?;
    read.map_err(RdbError::into_source)
}

async fn send(cuts: VecDeque<Cut>, to: &Sender<SourceResult<Bytes>>) -> SourceResult<()> {
    let mut crc = 0;
    for mut cut in cuts {
        let (mut at, mut sent) = (0_u64, 0_u64);
        while let Some(piece) = cut.pieces.recv().await.transpose()? {
            let end = at + piece.len() as u64;
            let inside =
                |place: u64| usize::try_from(place.clamp(at, end) - at).unwrap_or(piece.len());
            let bytes = piece.slice(inside(cut.from)..inside(cut.to).max(inside(cut.from)));
            at = end;
            sent += bytes.len() as u64;
            crc = crc64(crc, &bytes);
            if !bytes.is_empty() && to.send(Ok(bytes)).await.is_err() {
                return Ok(());
            }
        }
        if sent != cut.to - cut.from {
            return Err(SourceError::new(
                SourceErrorKind::Mismatch,
                "the snapshot does not hold the whole dump",
            ));
        }
    }
    let mut end = vec![MARKER];
    end.extend_from_slice(&crc64(crc, &end).to_le_bytes());
    _ = to.send(Ok(end.into())).await;
    Ok(())
}

/// The commands behind all dumps.
pub(super) struct Replays {
    waiting: VecDeque<(Option<Bytes>, Replay)>,
}

impl Replays {
    pub(super) async fn of(job: &Job<'_>) -> SourceResult<Self> {
        let mut waiting = VecDeque::new();
        let parts = job.parts()?;
        for one in &parts {
            let replay = Replay::of(one).await?;
            // The database that the stream was at when the dump was made is not said again.
            let database =
                one.description.dump.remarks.get("repl-stream-db").map_or("0", String::as_str);
            let select = (parts.len() > 1)
                .then(|| Bytes::from(redis::cmd("SELECT").arg(database).get_packed_command()));
            if !replay.is_empty() {
                waiting.push_back((select, replay));
            }
        }
        Ok(Self { waiting })
    }

    /// Whether there is anything behind the dumps.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// More whole events; `None` when the moment is reached.
    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        while let Some((select, replay)) = self.waiting.front_mut() {
            if let Some(select) = select.take() {
                return Ok(Some(select));
            }
            match replay.next().await? {
                Some(bytes) => return Ok(Some(bytes)),
                None => _ = self.waiting.pop_front(),
            }
        }
        Ok(None)
    }
}
