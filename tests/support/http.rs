//! HTTP/1.1 as bytes on a socket, for servers that must be able to misbehave: no library lets one
//! cut a body short or close a connection in the middle of an answer.

use std::io;
use std::thread::JoinHandle;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

/// What stands before the body of a request or a response.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The request line or status line.
    first: String,
    fields: Vec<(String, String)>,
    /// As it came, with the empty line.
    pub(crate) raw: Vec<u8>,
}

impl Head {
    /// `None`: the connection was closed before it.
    pub(crate) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        loop {
            let start = raw.len();
            if from.read_until(b'\n', &mut raw).await? == 0 {
                return if raw.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            if raw[start..] == *b"\r\n" {
                break;
            }
        }
        let text = String::from_utf8_lossy(&raw);
        let mut lines = text.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Self { first, fields, raw }))
    }

    /// The name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// Path and query, as they were sent.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.field("content-length").and_then(|value| value.parse().ok())
    }

    /// The body that follows, if this is a request's.
    pub(crate) fn request_body(&self) -> Body {
        match self.length() {
            _ if self.is_chunked() => Body::Chunked { left: 0 },
            length => Body::Length(length.unwrap_or(0)),
        }
    }

    /// The body that follows, if this is the response to a request of that method.
    pub(crate) fn response_body(&self, method: &str) -> Body {
        match self.length() {
            _ if method == "HEAD" || matches!(self.status(), 100..200 | 204 | 304) => {
                Body::Length(0)
            }
            _ if self.is_chunked() => Body::Chunked { left: 0 },
            Some(length) => Body::Length(length),
            None => Body::UntilClosed,
        }
    }
}

/// How a body is delimited, and how much of it is still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Length(u64),
    /// What is left of the current chunk.
    Chunked {
        left: u64,
    },
    UntilClosed,
}

const PIECE: u64 = 64 << 10;

impl Body {
    /// The next piece of the payload; `None` at its end.
    pub(crate) async fn next(
        &mut self,
        from: &mut (impl AsyncBufRead + Unpin),
    ) -> io::Result<Option<Vec<u8>>> {
        let piece = match self {
            Self::Length(0) => return Ok(None),
            Self::Length(left) => some(from, left).await?,
            Self::Chunked { left } => {
                if *left == 0 {
                    *left = chunk_size(from).await?;
                }
                if *left == 0 {
                    while !matches!(line(from).await?.as_str(), "") {}
                    *self = Self::Length(0);
                    return Ok(None);
                }
                let piece = some(from, left).await?;
                if *left == 0 {
                    line(from).await?;
                }
                piece
            }
            Self::UntilClosed => match some(from, &mut PIECE.clone()).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                piece => piece?,
            },
        };
        Ok(Some(piece))
    }

    /// A piece as it goes onto the wire.
    pub(crate) fn encode(&self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Chunked { .. } => {
                [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            }
            _ => piece.to_vec(),
        }
    }

    /// What closes the body on the wire.
    pub(crate) fn end(&self) -> &'static [u8] {
        if matches!(self, Self::Chunked { .. }) { b"0\r\n\r\n" } else { b"" }
    }

    /// All of it.
    pub(crate) async fn all(
        mut self,
        from: &mut (impl AsyncBufRead + Unpin),
    ) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next(from).await? {
            all.extend(piece);
        }
        Ok(all)
    }
}

async fn some(from: &mut (impl AsyncRead + Unpin), left: &mut u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; usize::try_from((*left).min(PIECE)).unwrap()];
    let read = from.read(&mut piece).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(read);
    *left -= read as u64;
    Ok(piece)
}

async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

async fn chunk_size(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<u64> {
    let line = line(from).await?;
    let digits = line.split(';').next().unwrap_or_default();
    u64::from_str_radix(digits.trim(), 16)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A server of this process, on a thread and runtime of its own: a test may block its own on a
/// program that talks to it.
#[derive(Debug)]
pub(crate) struct Background {
    pub(crate) port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs `serve` until this is dropped.
    pub(crate) fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _within = runtime.enter();
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            // A slow link has no megabytes of buffers: who sends must notice how slow it is.
            socket.set_recv_buffer_size(64 << 10).unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            socket.listen(1024).unwrap()
        };
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { () = serve(listener) => {}, _ = stopped => {} }
            });
        });
        Self { port, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Fails if the server panicked, which its own message tells.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Runs a future to its end on a thread of its own: works inside and outside of a runtime.
pub(crate) fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
