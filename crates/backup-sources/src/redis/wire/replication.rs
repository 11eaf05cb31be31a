//! Being a replica: the handshake, a dump on its way, the stream of commands.

use bytes::{Buf as _, Bytes};
use redis::Value;

use super::super::error::{WireError, malformed};
use super::super::options::RedisOptions;
use super::RawConnection;

/// The newest version whose dumps are understood here: Valkey 9 sends an older format to whom it
/// takes for older, and fails if that cannot hold the data. Other servers refuse this fact.
const VERSION: &str = "9.1.99";
/// Servers count in 64 bits with a sign.
const LAST: u64 = u64::MAX >> 1;
/// Length of the mark behind a dump whose length is not known before.
const MARK: usize = 40;

/// The reply to PSYNC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Sync {
    /// A dump comes, and stands for this place.
    Full { id: String, offset: u64 },
    /// A dump comes, of an unknown place: the reply to SYNC, the command of old replicas. Servers
    /// decide by the name of the command, so a renamed PSYNC is answered like this.
    Old,
    /// The stream continues at the requested place; under another id if the server was promoted
    /// since.
    Continue { id: Option<String> },
}

/// A connection of a replica.
#[derive(Debug)]
pub(in super::super) struct Replication {
    connection: RawConnection,
}

impl Replication {
    /// Introduces a connection as that of a replica. With `dump_only` the server keeps no commands
    /// for it.
    pub(super) async fn introduce(
        mut connection: RawConnection,
        dump_only: bool,
    ) -> Result<Self, WireError> {
        let mut facts: Vec<&[&str]> = vec![
            &["listening-port", "0"],
            &["ip-address", "backup"],
            &["capa", "eof", "capa", "psync2"],
            &["version", VERSION],
        ];
        if dump_only {
            facts.push(&["rdb-only", "1"]);
        }
        for fact in facts {
            match connection.run(redis::cmd("REPLCONF").arg(fact)).await {
                // Older servers refuse newer facts: no reason to give up.
                Err(WireError::Server(text)) if !text.starts_with("NO") => {}
                other => _ = other?,
            }
        }
        Ok(Self { connection })
    }

    /// Requests the stream behind `from`, or a dump.
    pub(in super::super) async fn sync(
        &mut self,
        options: &RedisOptions,
        from: Option<(&str, u64)>,
    ) -> Result<Sync, WireError> {
        let (id, offset) = from.map_or(("?", "-1".to_owned()), |(id, offset)| {
            (id, offset.saturating_add(1).to_string())
        });
        let command = redis::cmd(&options.psync).arg(id).arg(offset).get_packed_command();
        self.connection.send(&command).await?;
        self.skip_newlines().await?;
        if self.connection.input.first() == Some(&b'$') {
            return Ok(Sync::Old);
        }
        let sync = match self.connection.line().await? {
            Value::SimpleString(text) => answer(&text),
            _ => None,
        };
        let sync = sync.ok_or_else(|| malformed("reply to PSYNC"))?;
        if matches!(sync, Sync::Continue { .. }) {
            self.connection.without_reports();
        }
        Ok(sync)
    }

    /// The server sends these while it gets ready.
    async fn skip_newlines(&mut self) -> Result<(), WireError> {
        loop {
            let newlines = self.connection.input.iter().take_while(|byte| **byte == b'\n').count();
            self.connection.input.advance(newlines);
            if !self.connection.input.is_empty() {
                return Ok(());
            }
            self.connection.fill().await?;
        }
    }

    /// The dump that comes.
    pub(in super::super) async fn dump(mut self) -> Result<Dump, WireError> {
        let framing = loop {
            self.skip_newlines().await?;
            let input = &self.connection.input;
            if let Some(end) = input.iter().take(100).position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&input[..end]).trim_end().to_owned();
                self.connection.input.advance(end + 1);
                if let Some(refusal) = line.strip_prefix('-') {
                    return Err(self.connection.refusal(refusal));
                }
                break framing(&line)?;
            }
            if input.len() > 100 {
                return Err(malformed("beginning of a dump").into());
            }
            self.connection.fill().await?;
        };
        Ok(Dump { connection: self.connection, framing })
    }

    /// Reports how much of the stream is durable, which is also the sign of life.
    pub(in super::super) async fn acknowledge(&mut self, offset: u64) -> Result<(), WireError> {
        let command = redis::cmd("REPLCONF").arg("ACK").arg(offset).get_packed_command();
        self.connection.send(&command).await
    }

    /// The next bytes of the stream.
    pub(in super::super) async fn next(&mut self) -> Result<Bytes, WireError> {
        if self.connection.input.is_empty() {
            self.connection.fill().await?;
        }
        Ok(self.connection.input.split().freeze())
    }
}

fn answer(text: &str) -> Option<Sync> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "FULLRESYNC" => {
            let id = words.next().filter(|id| is_id(id))?.to_owned();
            let offset = words.next()?.parse().ok().filter(|offset| *offset <= LAST)?;
            Some(Sync::Full { id, offset })
        }
        "CONTINUE" => match words.next() {
            Some(id) if is_id(id) => Some(Sync::Continue { id: Some(id.to_owned()) }),
            Some(_) => None,
            None => Some(Sync::Continue { id: None }),
        },
        _ => None,
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn framing(line: &str) -> Result<Framing, WireError> {
    let bad = || malformed("beginning of a dump");
    let rest = line.strip_prefix('$').ok_or_else(bad)?;
    match rest.strip_prefix("EOF:") {
        Some(mark) => Ok(Framing::Mark(mark.as_bytes().try_into().map_err(|_| bad())?)),
        None => Ok(Framing::Length(rest.parse().map_err(|_| bad())?)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Number of bytes that are missing.
    Length(u64),
    /// The bytes at the end of the dump.
    Mark([u8; MARK]),
    /// The dump has ended.
    Ended,
}

/// Where the mark begins in these bytes.
fn position(bytes: &[u8], mark: &[u8; MARK]) -> Option<usize> {
    let mut from = 0;
    while let Some(next) = bytes[from..].iter().position(|byte| *byte == mark[0]) {
        from += next;
        if bytes[from..].starts_with(mark) {
            return Some(from);
        }
        from += 1;
    }
    None
}

/// A dump on its way.
#[derive(Debug)]
pub(in super::super) struct Dump {
    connection: RawConnection,
    framing: Framing,
}

impl Dump {
    /// The next bytes; `None` at the end, when all have come.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            let input = &mut self.connection.input;
            match &mut self.framing {
                Framing::Ended | Framing::Length(0) => return Ok(None),
                Framing::Length(left) if !input.is_empty() => {
                    let len =
                        usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *left -= len as u64;
                    return Ok(Some(input.split_to(len).freeze()));
                }
                Framing::Mark(mark) if input.len() >= MARK => {
                    // A possible beginning of the mark is kept back. Servers from 7.0.0 to 7.0.5
                    // may send a newline behind the mark, and others a PING: neither is read.
                    let end = position(input, mark);
                    let len = end.unwrap_or(input.len() - MARK);
                    if end.is_some() {
                        self.framing = Framing::Ended;
                    }
                    if len > 0 {
                        return Ok(Some(input.split_to(len).freeze()));
                    }
                    if self.framing == Framing::Ended {
                        return Ok(None);
                    }
                }
                _ => {}
            }
            self.connection.fill().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let id = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb";
        let full = answer(&format!("FULLRESYNC {id} 42")).unwrap();
        assert_eq!(full, Sync::Full { id: id.to_owned(), offset: 42 });
        assert_eq!(answer("CONTINUE"), Some(Sync::Continue { id: None }));
        assert_eq!(
            answer(&format!("CONTINUE {id}")),
            Some(Sync::Continue { id: Some(id.to_owned()) })
        );
        for bad in [
            "",
            "OK",
            "FULLRESYNC x 1",
            "CONTINUE ../x",
            &format!("FULLRESYNC {id} -1"),
            &format!("FULLRESYNC {id} {}", u64::MAX),
        ] {
            assert_eq!(answer(bad), None, "{bad}");
        }
        assert_eq!(framing("$17").unwrap(), Framing::Length(17));
        assert_eq!(
            framing(&format!("$EOF:{id}")).unwrap(),
            Framing::Mark(id.as_bytes().try_into().unwrap())
        );
        for bad in ["$", "$-1", "$EOF:short", "17", "-ERR no"] {
            assert!(framing(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn marks_are_found_at_any_place() {
        let mark = [b'm'; MARK];
        for (before, behind) in [(&b""[..], &b""[..]), (b"data", b"\n"), (b"mmm", b"*1\r\n")] {
            let bytes = [before, &mark, behind].concat();
            // Of a run of the same letter, the mark begins at the first.
            let expected = before.iter().position(|byte| *byte == b'm').unwrap_or(before.len());
            assert_eq!(position(&bytes, &mark), Some(expected));
            assert_eq!(position(&bytes[..MARK - 1], &mark), None);
        }
    }
}
