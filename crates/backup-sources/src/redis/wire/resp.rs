//! Replies out of bytes; commands to bytes.

use bytes::{Buf as _, Bytes, BytesMut};

use super::super::error::malformed;
use backup_core::source::SourceResult;

/// Largest string that a reply may hold, bytes. What a server says is believed only when it comes.
const LARGEST: usize = 1 << 30;
/// Longest line, bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Replies within replies.
const DEEPEST: usize = 8;

/// What a server answers.
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

/// Takes a reply off the front; `None` if it has not come as a whole.
pub(in super::super) fn parse_reply(input: &mut BytesMut) -> SourceResult<Option<Reply>> {
    let mut at = 0;
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

/// Puts a command behind what `out` holds.
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

/// A command.
pub(in super::super) fn command<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut out = Vec::new();
    push_command(&mut out, arguments);
    out
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
    fn commands_are_arrays() {
        assert_eq!(
            command(&["SET", "k", "twelve bytes"]),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\ntwelve bytes\r\n"
        );
    }
}
