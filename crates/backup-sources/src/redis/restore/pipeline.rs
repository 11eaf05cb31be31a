//! Many commands on their way at once: written and answered at the same time.

use std::sync::Arc;
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::super::error::WireError;
use super::super::wire::{RawConnection, Reply, parse_reply, push_command};
use crate::waits::Ask;

/// Batches that wait for their answers.
const UNANSWERED: usize = 8;
/// Bytes of replies that are read at once.
const PIECE: usize = 64 << 10;

/// Commands, and what each is about.
#[derive(Debug)]
pub(super) struct Batch<T> {
    bytes: Vec<u8>,
    about: Vec<T>,
    /// What lets it be in memory; given back when it was sent.
    permit: Option<OwnedSemaphorePermit>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), about: Vec::new(), permit: None }
    }
}

impl<T> Batch<T> {
    pub(super) fn push<A: AsRef<[u8]>>(&mut self, arguments: &[A], about: T) {
        push_command(&mut self.bytes, arguments);
        self.about.push(about);
    }

    /// Keeps `permit` until it was sent.
    pub(super) fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    /// Whether it is worth sending.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= 256 << 10 || self.about.len() >= 2000
    }

    pub(super) fn is_empty(&self) -> bool {
        self.about.is_empty()
    }
}

/// Sends all batches, and hands every reply to `handle`. A server that neither takes nor says
/// anything is taken for dead.
pub(super) async fn run<T: Send>(
    connection: RawConnection,
    mut batches: Receiver<SourceResult<Batch<T>>>,
    doing: &str,
    mut handle: impl FnMut(T, Reply) -> SourceResult<()>,
) -> SourceResult<()> {
    let (waits, server) = connection.waits();
    let (mut reading, mut writing) = connection.split();
    let (sent, mut waiting) = channel::<Vec<T>>(UNANSWERED);
    let io = |error| WireError::Io(error).into_source(doing);
    // When something was written last: one large value may take longer than a server may be silent.
    let (taken, last) = watch::channel(Instant::now());
    let writes = writes(last, waits.timeout());
    let write = async move {
        while let Some(batch) = batches.recv().await {
            let Batch { bytes, about, permit } = batch?;
            if sent.send(about).await.is_err() {
                break;
            }
            for piece in bytes.chunks(PIECE) {
                writing.write_all(piece).await.map_err(io)?;
                taken.send_replace(Instant::now());
            }
            writing.flush().await.map_err(io)?;
            taken.send_replace(Instant::now());
            drop((bytes, permit));
        }
        Ok(())
    };
    let read = async {
        let mut input = BytesMut::new();
        while let Some(about) = waiting.recv().await {
            for one in about {
                let reply = loop {
                    if let Some(reply) = parse_reply(&mut input)? {
                        break reply;
                    }
                    input.reserve(PIECE);
                    let read = reading.read_buf(&mut input);
                    let read = waits.limit(&server, Some(&writes), read).await;
                    if read
                        .map_err(|stalled| SourceError::from(stalled).context(doing))?
                        .map_err(io)?
                        == 0
                    {
                        return Err(closed(doing));
                    }
                };
                handle(one, reply)?;
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read).map(|_| ())
}

/// Accepted data is progress as well: true if the server took some within a third of `recently`.
fn writes(last: watch::Receiver<Instant>, recently: Duration) -> Ask {
    Arc::new(move || {
        let recent = last.borrow().elapsed() < recently / 3;
        Box::pin(async move { recent })
    })
}

fn closed(doing: &str) -> SourceError {
    SourceError::new(
        SourceErrorKind::Unavailable,
        format!("{doing}: the server has closed the connection"),
    )
}
