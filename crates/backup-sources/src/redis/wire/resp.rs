//! The codec of pipelines, of the log and of targets that are replicas of ours: replies out of
//! bytes, commands to bytes. With the crate's pipelines a restore takes 2.8 to 3.6 times the CPU of
//! this process.

use bytes::{Buf as _, Bytes, BytesMut};

use super::super::error::malformed;
use backup_core::source::SourceResult;

/// Largest string in a reply, in bytes. Memory is taken as its bytes arrive.
const LARGEST: usize = 1 << 30;
/// Longest reply, in bytes.
const MAX_REPLY: usize = LARGEST + LONGEST_LINE;
/// Longest line, bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Replies within replies.
const DEEPEST: usize = 8;
/// Most parts of a reply, with those within parts. Replies with names of keys have hundreds.
const MAX_PARTS: usize = 1 << 20;

/// A reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    /// `None`: there is nothing.
    Bulk(Option<Bytes>),
    Array(Vec<Reply>),
}

impl Reply {
    /// Its bytes, if it is a string.
    pub(in super::super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Bulk(bytes) => bytes.as_deref(),
            _ => None,
        }
    }

    /// Its text, if it is one.
    pub(in super::super) fn text(&self) -> Option<&str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Its number, if it is one.
    pub(in super::super) fn number(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// Its parts, if it has some.
    pub(in super::super) fn parts(&self) -> &[Self] {
        match self {
            Self::Array(parts) => parts,
            _ => &[],
        }
    }
}

/// Finds the end of a reply that arrives in pieces; every byte is looked at once, however many
/// pieces there are.
#[derive(Debug, Default)]
pub(super) struct ReplyEnd {
    /// End of the parts that have arrived, in bytes.
    at: usize,
    /// Parts that are still missing, of each reply that the next one lies in.
    missing: Vec<i64>,
    parts: usize,
}

impl ReplyEnd {
    /// True if `input`, which has grown since the last call, begins with a whole reply.
    ///
    /// # Errors
    /// The reply is malformed, or too long.
    pub(super) fn is_in(&mut self, input: &[u8]) -> SourceResult<bool> {
        self.is_within(input, MAX_REPLY)
    }

    fn is_within(&mut self, input: &[u8], limit: usize) -> SourceResult<bool> {
        let bad = || malformed("reply from the server");
        while let Some(line) = line(&input[self.at..])? {
            let after = self.at + line.len() + 2;
            let (&kind, rest) = line.split_first().ok_or_else(bad)?;
            let number = std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok());
            match kind {
                b'$' => {
                    let len = usize::try_from(number.ok_or_else(bad)?).ok();
                    let end = len.map_or(Some(after), |len| after.checked_add(len)?.checked_add(2));
                    let end = end.filter(|end| *end <= limit).ok_or_else(too_long)?;
                    if input.len() < end {
                        return Ok(false);
                    }
                    self.at = end;
                }
                b'*' => {
                    self.at = after;
                    if let Some(count @ 1..) = number {
                        self.missing.push(count);
                    }
                }
                _ => self.at = after,
            }
            self.parts += 1;
            if self.at > limit || self.parts > MAX_PARTS || self.missing.len() > DEEPEST {
                return Err(too_long());
            }
            let is_part = kind != b'*' || !matches!(number, Some(1..));
            if is_part && self.completes() {
                return Ok(true);
            }
        }
        if input.len() > limit { Err(too_long()) } else { Ok(false) }
    }

    /// Counts a part that has arrived; true if it completes the reply.
    fn completes(&mut self) -> bool {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.missing.pop();
        }
        true
    }
}

fn too_long() -> backup_core::source::SourceError {
    malformed("reply from the server: it is too long")
}

/// Takes a reply off the front; `None` if it has not come as a whole.
pub(in super::super) fn parse_reply(input: &mut BytesMut) -> SourceResult<Option<Reply>> {
    let (mut at, mut end) = (0, ReplyEnd::default());
    if !end.is_in(input)? {
        return Ok(None);
    }
    let reply = parse(input, &mut at, 0)?;
    if reply.is_some() {
        input.advance(at);
    }
    Ok(reply)
}

fn parse(input: &[u8], at: &mut usize, depth: usize) -> SourceResult<Option<Reply>> {
    let bad = || malformed("reply from the server");
    let Some(line) = line(&input[*at..])? else { return Ok(None) };
    *at += line.len() + 2;
    let (&kind, rest) = line.split_first().ok_or_else(bad)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    let number =
        || std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(bad);
    Ok(Some(match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Integer(number()?),
        b'$' => {
            let Ok(len) = usize::try_from(number()?) else { return Ok(Some(Reply::Bulk(None))) };
            if len > LARGEST {
                return Err(bad());
            }
            let Some(whole) = input[*at..].get(..len + 2) else { return Ok(None) };
            *at += len + 2;
            Reply::Bulk(Some(Bytes::copy_from_slice(&whole[..len])))
        }
        b'*' if depth < DEEPEST => {
            let mut parts = Vec::new();
            for _ in 0..number()?.max(0) {
                match parse(input, at, depth + 1)? {
                    Some(part) => parts.push(part),
                    None => return Ok(None),
                }
            }
            Reply::Array(parts)
        }
        _ => return Err(bad()),
    }))
}

/// The line at the front, without its end.
fn line(input: &[u8]) -> SourceResult<Option<&[u8]>> {
    let window = &input[..input.len().min(LONGEST_LINE)];
    match window.windows(2).position(|end| end == b"\r\n") {
        Some(end) => Ok(Some(&window[..end])),
        None if window.len() == LONGEST_LINE => {
            Err(malformed("reply from the server: it has no end"))
        }
        None => Ok(None),
    }
}

/// Appends a command to `out`.
pub(in super::super) fn push_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    head(out, b'*', arguments.len());
    for argument in arguments {
        head(out, b'$', argument.as_ref().len());
        out.extend_from_slice(argument.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

fn head(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_in_any_pieces() {
        let whole = b"*3\r\n$3\r\na\r\n\r\n:-7\r\n*2\r\n+OK\r\n$-1\r\n";
        let expected = Reply::Array(vec![
            Reply::Bulk(Some(Bytes::from_static(b"a\r\n"))),
            Reply::Integer(-7),
            Reply::Array(vec![Reply::Simple("OK".to_owned()), Reply::Bulk(None)]),
        ]);
        for len in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..len]);
            assert_eq!(parse_reply(&mut input).unwrap(), None, "{len}");
            assert_eq!(input.len(), len);
        }
        let mut input = BytesMut::from(&whole[..]);
        assert_eq!(parse_reply(&mut input).unwrap(), Some(expected));
        assert!(input.is_empty());
    }

    #[test]
    fn nonsense_is_refused_and_lengths_are_not_believed() {
        let deep = b"*1\r\n".repeat(100);
        for bad in
            [&b"$99999999999999\r\n"[..], b"?\r\n", b"\r\n", b":x\r\n", &deep, &[b'+'; 70_000]]
        {
            assert!(parse_reply(&mut BytesMut::from(bad)).is_err());
        }
        // Not yet there, and nothing is set aside for it.
        assert_eq!(
            parse_reply(&mut BytesMut::from(&b"*9223372036854775807\r\n:1\r\n"[..])).unwrap(),
            None
        );
    }

    #[test]
    fn replies_without_an_end_are_refused() {
        let endless = [&b"*9223372036854775807\r\n"[..], &b":1\r\n".repeat(1 << 20)].concat();
        let nested = b"*2\r\n".repeat(9);
        let text = [&b"$2000\r\n"[..], &[b'x'; 900]].concat();
        for (reply, limit) in [(&endless, LARGEST), (&nested, LARGEST), (&text, 1000)] {
            assert!(ReplyEnd::default().is_within(reply, limit).is_err());
            // However it arrives.
            let mut end = ReplyEnd::default();
            let found = (0..reply.len())
                .step_by(509)
                .find_map(|len| end.is_within(&reply[..len], limit).err());
            assert!(found.is_some() || end.is_within(reply, limit).is_err());
        }
        let whole = b"*2\r\n*0\r\n*2\r\n$-1\r\n*1\r\n+x\r\n:1\r\n";
        let mut end = ReplyEnd::default();
        assert!((0..whole.len() - 4).all(|len| !end.is_within(&whole[..len], 1000).unwrap()));
        assert!(end.is_within(whole, 1000).unwrap());
    }

    #[test]
    fn commands_are_arrays() {
        let mut command = Vec::new();
        push_command(&mut command, &["SET", "k", "twelve bytes"]);
        assert_eq!(command, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\ntwelve bytes\r\n");
        assert_eq!(command, redis::cmd("SET").arg("k").arg("twelve bytes").get_packed_command());
    }
}
