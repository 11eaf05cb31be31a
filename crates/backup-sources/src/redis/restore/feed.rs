//! Being the master of a target: the handshake, the dump, the commands, and that all has arrived.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::{Buf as _, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::error::{WireError, malformed};
use super::super::wire::{Duplex, parse_reply};
use super::Job;
use super::listen::Listener;
use super::merged::{self, Replays};
use super::replica::{ASKING, DOING};

/// So long whoever has connected may take to say what a replica says.
const INTRODUCING: Duration = Duration::from_secs(10);
/// Bytes that are written at once.
const PIECE: usize = 256 << 10;

type Reading = ReadHalf<Box<dyn Duplex>>;
type Writing = WriteHalf<Box<dyn Duplex>>;

/// What the target says.
struct Said {
    /// When it said something last.
    last: watch::Sender<Instant>,
    /// How far it is.
    at: watch::Sender<Option<u64>>,
}

/// The master that we are.
pub(super) struct Master<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) listener: Listener,
    /// So long the target may take nothing and say nothing: while it loads it does not read, but
    /// says that it is there.
    pub(super) silence: Duration,
    /// Whether it has got anything, for which it drops what it had.
    pub(super) has_begun: AtomicBool,
}

impl Master<'_> {
    /// Gives the target everything, as soon as it has connected and said what a replica says;
    /// returns how many bytes that were.
    pub(super) async fn feed(&self, replay: Replays) -> SourceResult<u64> {
        let (mut reading, writing, mut input) = self.meet().await?;
        let said = Said { last: watch::Sender::new(Instant::now()), at: watch::Sender::new(None) };
        let out = Out { writing, silence: self.silence, last: said.last.subscribe() };
        tokio::select! {
            sent = self.send_all(out, said.at.subscribe(), replay) => sent,
            error = listen_to(&mut reading, &mut input, &said) => Err(error),
        }
    }

    /// The first who says what a replica says: others on the target's machine may connect as well,
    /// and say something else or nothing.
    async fn meet(&self) -> SourceResult<(Reading, Writing, BytesMut)> {
        let meeting = async {
            loop {
                let stream = self.listener.accept().await?;
                let introducing = async {
                    let (mut reading, mut writing) =
                        tokio::io::split(self.listener.open_up(stream).await?);
                    let mut input = BytesMut::new();
                    introduce(&mut reading, &mut writing, &mut input).await?;
                    SourceResult::Ok((reading, writing, input))
                };
                let silent = |_| {
                    SourceError::new(
                        SourceErrorKind::Target,
                        "the peer does not speak the replication protocol",
                    )
                };
                match tokio::time::timeout(INTRODUCING, introducing).await.map_err(silent).flatten()
                {
                    Ok(met) => return SourceResult::Ok(met),
                    Err(error) => self.listener.note(&error),
                }
            }
        };
        tokio::time::timeout(self.listener.reaching(), meeting)
            .await
            .map_err(|_| self.listener.nobody())?
    }

    async fn send_all(
        &self,
        mut out: Out,
        at: watch::Receiver<Option<u64>>,
        mut replay: Replays,
    ) -> SourceResult<u64> {
        let (job, offset) = (self.job, self.job.description.offset);
        let (size, mut pieces) = merged::dump(job).await?;
        out.send(format!("+FULLRESYNC {} {offset}\r\n${size}\r\n", new_id(job)).as_bytes()).await?;
        let mut sent = 0;
        while let Some(piece) = pieces.recv().await.transpose()? {
            sent += piece.len() as u64;
            self.has_begun.store(true, Ordering::Relaxed);
            out.send(&piece).await?;
        }
        if sent != size {
            return Err(SourceError::new(
                SourceErrorKind::Mismatch,
                "the snapshot does not hold the whole dump",
            ));
        }
        let mut commands = 0;
        while let Some(bytes) = replay.next().await? {
            commands += bytes.len() as u64;
            out.send(&bytes).await?;
        }
        out.arrived(at, offset + commands).await?;
        Ok(sent + commands)
    }
}

/// What is written to the target.
struct Out {
    writing: Writing,
    silence: Duration,
    /// When it said something last.
    last: watch::Receiver<Instant>,
}

impl Out {
    /// A target that takes nothing and says nothing for so long is dead.
    async fn send(&mut self, bytes: &[u8]) -> SourceResult<()> {
        for piece in bytes.chunks(PIECE) {
            let begun = Instant::now();
            let mut writing = std::pin::pin!(async {
                self.writing.write_all(piece).await?;
                self.writing.flush().await
            });
            loop {
                let until = begun.max(*self.last.borrow()) + self.silence;
                tokio::select! {
                    written = &mut writing => {
                        written.map_err(|error| WireError::Io(error).into_source(DOING))?;
                        break;
                    }
                    () = tokio::time::sleep_until(until) => {}
                }
                if begun.max(*self.last.borrow()) + self.silence <= Instant::now() {
                    return Err(dead("accepted no data and sent nothing", self.silence));
                }
            }
        }
        Ok(())
    }

    /// Waits until the target has everything. It says so, or at least that it is still there, while
    /// it loads.
    async fn arrived(
        &mut self,
        mut at: watch::Receiver<Option<u64>>,
        wanted: u64,
    ) -> SourceResult<()> {
        let begun = Instant::now();
        let request = redis::cmd("REPLCONF").arg("GETACK").arg("*").get_packed_command();
        loop {
            self.send(&request).await?;
            let reached = at.wait_for(|at| at.is_some_and(|at| at >= wanted));
            if let Ok(Ok(_)) = tokio::time::timeout(ASKING, reached).await {
                return Ok(());
            }
            if begun.max(*self.last.borrow()).elapsed() > self.silence {
                return Err(dead("sent nothing", self.silence));
            }
        }
    }
}

fn dead(what: &str, silence: Duration) -> SourceError {
    let text = format!("the target has {what} for {} seconds", silence.as_secs());
    SourceError::new(SourceErrorKind::Target, text)
}

/// Answers what a replica says before it gets the dump.
async fn introduce(
    reading: &mut Reading,
    writing: &mut Writing,
    input: &mut BytesMut,
) -> SourceResult<()> {
    loop {
        let words = next_command(reading, input).await?;
        let answer = match words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
            Some("PING") => "+PONG\r\n",
            Some("AUTH" | "REPLCONF") => "+OK\r\n",
            Some("PSYNC" | "SYNC") => return Ok(()),
            _ => "-ERR this is no server\r\n",
        };
        let answering = async {
            writing.write_all(answer.as_bytes()).await?;
            writing.flush().await
        };
        answering.await.map_err(|error| WireError::Io(error).into_source(DOING))?;
    }
}

/// Notes when the target said something last, and how far it is; ends only when it hangs up.
async fn listen_to(reading: &mut Reading, input: &mut BytesMut, said: &Said) -> SourceError {
    loop {
        let words = match parse_command(input) {
            Ok(Some(words)) => words,
            Ok(None) => match read_more(reading, input).await {
                Ok(()) => {
                    said.last.send_replace(Instant::now());
                    continue;
                }
                Err(error) => return error,
            },
            Err(error) => return error,
        };
        if let [replconf, ack, offset, ..] = &words[..]
            && replconf.eq_ignore_ascii_case("REPLCONF")
            && ack.eq_ignore_ascii_case("ACK")
            && let Ok(offset) = offset.parse()
        {
            said.at.send_replace(Some(offset));
        }
    }
}

async fn next_command(reading: &mut Reading, input: &mut BytesMut) -> SourceResult<Vec<String>> {
    loop {
        if let Some(words) = parse_command(input)? {
            return Ok(words);
        }
        read_more(reading, input).await?;
    }
}

fn parse_command(input: &mut BytesMut) -> SourceResult<Option<Vec<String>>> {
    // It says so while it is busy loading.
    while input.first() == Some(&b'\n') {
        input.advance(1);
    }
    // A command looks as a reply that is an array.
    let Some(found) = parse_reply(input)? else { return Ok(None) };
    let words = found.parts().iter().map(|part| part.text().map(str::to_owned));
    words.collect::<Option<_>>().map(Some).ok_or_else(|| malformed("command from the target"))
}

async fn read_more(reading: &mut Reading, input: &mut BytesMut) -> SourceResult<()> {
    let read =
        reading.read_buf(input).await.map_err(|error| WireError::Io(error).into_source(DOING))?;
    if read == 0 {
        return Err(SourceError::new(
            SourceErrorKind::Target,
            "the target has closed the connection",
        )
        .with_hint(
            "check the log of the target: it may lack memory or a module to load the dump",
        ));
    }
    Ok(())
}

/// A history of its own: replicas of the origin must not take the target for it.
fn new_id(job: &Job<'_>) -> String {
    let seed = format!("{} {} {:?}", job.snapshot.id(), std::process::id(), job.cx.clock.now());
    hex::encode(Sha256::digest(seed))[..40].to_owned()
}
