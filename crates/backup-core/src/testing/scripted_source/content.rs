//! Contents of scripted entries: readers for worker threads, and async streams.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::entry::Trouble;
use super::{ScriptedEntry, Shared, check_cancelled, scripted};
use crate::context::Context;
use crate::source::{
    BlockingContent, Content, ContentEnd, ContentReader, SourceError, SourceErrorKind, SourceResult,
};

/// How often a stalled reader looks whether the caller has cancelled.
const STALL_STEP: Duration = Duration::from_millis(2);

pub(super) fn content_of(shared: &Arc<Shared>, cx: &Context, entry: ScriptedEntry) -> Content {
    if !entry.is_file() {
        return Content::Empty;
    }
    let streamed = entry.streamed;
    let scripted =
        Scripted { shared: Arc::clone(shared), cx: cx.clone(), entry, at: 0, piece: Bytes::new() };
    if streamed {
        Content::Stream(scripted.stream())
    } else {
        Content::Blocking(Box::new(scripted))
    }
}

/// A content, before and while it is read.
struct Scripted {
    shared: Arc<Shared>,
    cx: Context,
    entry: ScriptedEntry,
    at: u64,
    /// What has been made but not been read.
    piece: Bytes,
}

/// What comes next.
enum Next {
    Piece(Bytes),
    Stall,
}

impl Scripted {
    fn start(&self) -> SourceResult<()> {
        check_cancelled(&self.cx)?;
        self.shared.count(|calls| calls.contents += 1);
        self.shared.step("opening a content")?;
        match self.entry.trouble {
            Some(Trouble::Vanished) => {
                Err(scripted(SourceErrorKind::NotFound, "opening a content"))
            }
            _ => Ok(()),
        }
    }

    /// The next piece, which is empty only at the end, up to where the script has trouble.
    fn next(&mut self) -> SourceResult<Next> {
        check_cancelled(&self.cx)?;
        self.shared.step("reading a content")?;
        let mut piece = self.entry.data.piece(self.at);
        if let Some(Trouble::FailsAt(limit, _) | Trouble::StallsAt(limit)) = self.entry.trouble {
            let left = usize::try_from(limit.saturating_sub(self.at)).unwrap_or(usize::MAX);
            piece.truncate(left);
            if left == 0 {
                return match self.entry.trouble {
                    Some(Trouble::FailsAt(_, kind)) => Err(scripted(kind, "reading a content")),
                    _ => Ok(Next::Stall),
                };
            }
        }
        self.at += piece.len() as u64;
        self.shared.count(|calls| calls.bytes += piece.len() as u64);
        Ok(Next::Piece(piece))
    }

    fn stream(self) -> BoxStream<'static, SourceResult<Bytes>> {
        let steps = stream::unfold(Some((self, false)), |state| async move {
            let (mut content, started) = state?;
            match content.step(started).await {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => Some((Ok(piece), Some((content, true)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        steps.boxed()
    }

    async fn step(&mut self, started: bool) -> SourceResult<Bytes> {
        tokio::task::yield_now().await;
        if !started {
            self.start()?;
        }
        match self.next()? {
            Next::Piece(piece) => Ok(piece),
            Next::Stall => {
                self.cx.cancel.cancelled().await;
                Err(SourceError::cancelled())
            }
        }
    }

    /// Waits until the caller cancels.
    fn stall(&self) -> SourceError {
        while !self.cx.cancel.is_cancelled() {
            std::thread::sleep(STALL_STEP);
        }
        SourceError::cancelled()
    }
}

impl BlockingContent for Scripted {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        self.start()?;
        Ok(self)
    }
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.piece.is_empty() {
            self.piece = match self.next() {
                Ok(Next::Piece(piece)) => piece,
                Ok(Next::Stall) => return Err(into_io(self.stall())),
                Err(error) => return Err(into_io(error)),
            };
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

impl ContentReader for Scripted {
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd> {
        check_cancelled(&self.cx)?;
        self.shared.step("ending a content")?;
        Ok(match self.entry.trouble {
            Some(Trouble::Changed) => ContentEnd::Changed(Box::new(self.entry.metadata)),
            _ => ContentEnd::Stable,
        })
    }
}

fn into_io(error: SourceError) -> io::Error {
    let kind = match error.kind() {
        SourceErrorKind::NotFound => io::ErrorKind::NotFound,
        SourceErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
