//! From bytes to messages. Every length is checked: whoever answers may be somebody else.

use std::io;

use backup_core::source::SourceError;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::error::{ServerError, WireError, malformed};

/// Longest message that is taken. The server sends files and log in pieces of at most 256 KiB;
/// histories of timelines and rows of replication commands are small.
const LONGEST: usize = 16 << 20;
/// Most columns of a result: the server's own limit for a row.
const MAX_COLUMNS: u16 = 1664;
/// So much is read at once.
const READ: usize = 256 << 10;

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// `R`: kind of the request, and its data.
    Authentication(u32, Bytes),
    /// `S`: a setting.
    Parameter(String, String),
    /// `Z`: the next command may come.
    Ready,
    /// `T`: names of columns.
    Columns(Vec<String>),
    /// `D`: a row; `None` is NULL.
    Row(Vec<Option<Bytes>>),
    /// `C`: a command is done.
    Complete,
    /// `E`.
    Error(ServerError),
    /// `N`.
    Notice(ServerError),
    /// `H`: data follow.
    CopyOut,
    /// `G`: data may be sent.
    CopyIn,
    /// `W`: data follow, and may be sent.
    CopyBoth,
    /// `d`.
    CopyData(Bytes),
    /// `c`.
    CopyDone,
    /// `v`: the server does not know everything that was asked for; `K`, `A`, `I`: nothing that we
    /// need.
    Other,
}

/// The first message of `buffer`, if it is there as a whole.
pub(super) fn parse(buffer: &mut BytesMut) -> Result<Option<Message>, SourceError> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    let (tag, len) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
    let len = usize::try_from(len).ok().filter(|len| (4..=LONGEST).contains(len));
    let len = len.ok_or_else(|| malformed("length of a message from the server"))?;
    if buffer.len() <= len {
        buffer.reserve((len + 1 - buffer.len()).max(READ));
        return Ok(None);
    }
    let mut frame = buffer.split_to(len + 1).freeze();
    frame.advance(5);
    message(tag, frame)
        .map(Some)
        .ok_or_else(|| malformed(format!("message of type {:?} from the server", char::from(tag))))
}

fn message(tag: u8, mut body: Bytes) -> Option<Message> {
    Some(match tag {
        b'd' => Message::CopyData(body),
        b'R' => Message::Authentication(body.try_get_u32().ok()?, body),
        b'S' => Message::Parameter(text(&mut body)?, text(&mut body)?),
        b'Z' => Message::Ready,
        b'T' => Message::Columns(columns(body)?),
        b'D' => Message::Row(row(body)?),
        b'C' => Message::Complete,
        b'E' => Message::Error(fields(body)?),
        b'N' => Message::Notice(fields(body)?),
        b'H' => Message::CopyOut,
        b'G' => Message::CopyIn,
        b'W' => Message::CopyBoth,
        b'c' => Message::CopyDone,
        b'K' | b'A' | b'I' | b'v' => Message::Other,
        _ => return None,
    })
}

/// Up to the next zero.
fn text(body: &mut Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = body.split_to(end);
    body.advance(1);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn columns(mut body: Bytes) -> Option<Vec<String>> {
    let count = body.try_get_u16().ok().filter(|count| *count <= MAX_COLUMNS)?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(text(&mut body)?);
        // Table, column, type, its size and modifier, format.
        body = body.split_off_checked(18)?;
    }
    Some(names)
}

fn row(mut body: Bytes) -> Option<Vec<Option<Bytes>>> {
    let count = body.try_get_u16().ok().filter(|count| *count <= MAX_COLUMNS)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let len = body.try_get_i32().ok()?;
        values.push(match usize::try_from(len) {
            Err(_) => None,
            Ok(len) if len <= body.len() => Some(body.split_to(len)),
            Ok(_) => return None,
        });
    }
    Some(values)
}

/// Of errors and notices: a letter and a text, again and again.
fn fields(mut body: Bytes) -> Option<ServerError> {
    let mut error = ServerError::default();
    loop {
        match body.try_get_u8().ok()? {
            0 => return Some(error),
            b'C' => error.code = text(&mut body)?,
            b'M' => error.message = text(&mut body)?,
            b'D' => error.detail = Some(text(&mut body)?),
            b'H' => error.hint = Some(text(&mut body)?),
            b'R' => error.routine = Some(text(&mut body)?),
            _ => _ = text(&mut body)?,
        }
    }
}

trait SplitOffChecked: Sized {
    fn split_off_checked(self, at: usize) -> Option<Self>;
}

impl SplitOffChecked for Bytes {
    fn split_off_checked(mut self, at: usize) -> Option<Self> {
        (at <= self.len()).then(|| self.split_off(at))
    }
}

/// Messages of a socket.
#[derive(Debug)]
pub(super) struct Frames<S> {
    pub(super) socket: S,
    received: BytesMut,
    /// What is not sent yet, because whoever sent it was dropped on the way.
    outgoing: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, received: BytesMut::new(), outgoing: BytesMut::new() }
    }

    /// The bytes below.
    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    /// The next message. May be dropped while it waits: nothing is lost by that.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        self.drain().await?;
        loop {
            if let Some(message) = parse(&mut self.received)? {
                return Ok(message);
            }
            if self.received.capacity() - self.received.len() < READ / 4 {
                self.received.reserve(READ);
            }
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Sends. May be dropped while it waits: what is left goes out first the next time.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.outgoing.extend_from_slice(bytes);
        self.drain().await
    }

    async fn drain(&mut self) -> Result<(), WireError> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        while !self.outgoing.is_empty() {
            if self.socket.write_buf(&mut self.outgoing).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        Ok(self.socket.flush().await?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &len, body].concat()
    }

    fn whole(mut bytes: BytesMut) -> Vec<Message> {
        std::iter::from_fn(|| parse(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn lengths_are_checked() {
        for len in [0u32, 3, 1 << 31, u32::MAX, 16 << 20 | 1] {
            let mut bytes =
                BytesMut::from(&[&[b'd'][..], &len.to_be_bytes(), &[0; 8]].concat()[..]);
            assert!(parse(&mut bytes).is_err(), "{len}");
        }
        let row = |body: &[u8]| parse(&mut BytesMut::from(&framed(b'D', body)[..]));
        assert_eq!(row(&[0, 1, 255, 255, 255, 255]).unwrap(), Some(Message::Row(vec![None])));
        assert!(row(&[0, 1, 0, 0, 0, 2, 7]).is_err());
        assert!(row(&[0, 2, 0, 0, 0, 1, 7]).is_err());
        let nulls = |count: u16| row(&[&count.to_be_bytes()[..], &[255; 4 * 1665]].concat());
        assert!(nulls(1664).is_ok() && nulls(1665).is_err());
        assert!(parse(&mut BytesMut::from(&framed(b'!', &[])[..])).is_err());
    }

    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let word = "[a-z ]{0,12}";
        let error = (word, word).prop_map(|(code, message)| {
            framed(b'E', format!("SERROR\0C{code}\0M{message}\0\0").as_bytes())
        });
        let row = proptest::collection::vec(
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            0..5,
        )
        .prop_map(|values| {
            let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
            for value in values {
                let len = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap());
                body.extend(len.to_be_bytes());
                body.extend(value.unwrap_or_default());
            }
            framed(b'D', &body)
        });
        let data =
            proptest::collection::vec(any::<u8>(), 0..400).prop_map(|body| framed(b'd', &body));
        prop_oneof![error, row, data, Just(framed(b'Z', b"I")), Just(framed(b'c', b""))]
    }

    proptest! {
        #[test]
        fn messages_are_the_same_wherever_they_are_cut(messages in proptest::collection::vec(any_message(), 0..8), cut in 0usize..400) {
            let bytes = messages.concat();
            let expected = whole(BytesMut::from(&bytes[..]));
            prop_assert_eq!(expected.len(), messages.len());
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(cut % 17 + 1) {
                buffer.extend_from_slice(piece);
                while let Some(message) = parse(&mut buffer).unwrap() {
                    found.push(message);
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn noise_ends_in_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag in proptest::sample::select(&b"RSZTDCENHWdcKAIv"[..])) {
            let mut buffer = BytesMut::from(&framed(tag, &bytes)[..]);
            let before = buffer.len();
            if let Ok(Some(_)) = parse(&mut buffer) {
                prop_assert_eq!(before - buffer.len(), before);
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut left = buffer.len();
            while let Ok(Some(_)) = parse(&mut buffer) {
                prop_assert!(buffer.len() < left);
                left = buffer.len();
            }
        }
    }
}
