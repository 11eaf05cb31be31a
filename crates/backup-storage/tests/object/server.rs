//! A server that speaks enough S3 to be talked to, and misbehaves as it is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What comes back.
pub(crate) enum Reply {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Closes the connection.
    Close,
    /// Never answers.
    Hang,
    /// Bytes, so many at a time, with pauses; hangs in the end if there are fewer than announced.
    Drip {
        body: Vec<u8>,
        announced: usize,
        at_a_time: usize,
        pause: Duration,
    },
}

pub(crate) fn xml(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>");
    Reply::Answer(status, vec![("content-type", "application/xml".to_owned())], body.into_bytes())
}

pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;
type Twist = Arc<dyn Fn(&Seen, &Objects) -> Option<Reply> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) objects: Objects,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// A server whose answers are those of a store, but for those that `twist` gives.
    pub(crate) async fn start(
        twist: impl Fn(&Seen, &Objects) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_slow(Duration::ZERO, twist).await
    }

    /// Pauses after every 64 KiB that it reads.
    pub(crate) async fn start_slow(
        pause: Duration,
        twist: impl Fn(&Seen, &Objects) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { endpoint, objects: Objects::default(), seen: Arc::default() };
        let (twist, copy): (Twist, _) = (Arc::new(twist), server.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, twist) = (copy.clone(), Arc::clone(&twist));
                tokio::spawn(async move { server.serve(stream, pause, &twist).await });
            }
        });
        server
    }

    /// The requests with that method about names with that end.
    pub(crate) fn seen(&self, method: &str, end: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.method == method && seen.path.ends_with(end))
            .cloned()
            .collect()
    }

    async fn serve(&self, mut stream: TcpStream, pause: Duration, twist: &Twist) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let seen = read(&mut stream, &mut buffer, pause).await?;
            self.seen.lock().unwrap().push(seen.clone());
            let reply = twist(&seen, &self.objects).unwrap_or_else(|| self.answer(&seen));
            match reply {
                Reply::Close => return None,
                Reply::Hang => std::future::pending().await,
                Reply::Answer(status, headers, body) => {
                    let mut head =
                        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                    for (name, value) in headers {
                        write!(head, "{name}: {value}\r\n").unwrap();
                    }
                    let mut whole = format!("{head}\r\n").into_bytes();
                    if seen.method != "HEAD" {
                        whole.extend(body);
                    }
                    // In one piece, or the system waits for more.
                    stream.write_all(&whole).await.ok()?;
                }
                Reply::Drip { body, announced, at_a_time, pause } => {
                    let head = format!(
                        "HTTP/1.1 200 X\r\netag: \"e\"\r\ncontent-length: {announced}\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes()).await.ok()?;
                    for piece in body.chunks(at_a_time) {
                        stream.write_all(piece).await.ok()?;
                        tokio::time::sleep(pause).await;
                    }
                    if body.len() < announced {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// What a store would answer.
    fn answer(&self, seen: &Seen) -> Reply {
        let mut objects = self.objects.lock().unwrap();
        let key = decoded(seen.path.strip_prefix("/bkt/").unwrap_or_default());
        match &*seen.method {
            "PUT" if !is_sum_right(seen) => xml(400, "BadDigest"),
            "PUT" if wants_new(seen) && objects.contains_key(&key) => {
                xml(412, "PreconditionFailed")
            }
            "PUT" => {
                objects.insert(key, seen.body.clone());
                let mut headers =
                    vec![("etag", "\"e\"".to_owned()), ("x-goog-generation", "7".to_owned())];
                if !seen.header("x-amz-checksum-sha256").is_empty() {
                    headers.push((
                        "x-amz-checksum-sha256",
                        seen.header("x-amz-checksum-sha256").to_owned(),
                    ));
                } else {
                    headers.push((
                        "x-goog-hash",
                        format!("crc32c=AAAAAA==, md5={}", seen.header("content-md5")),
                    ));
                }
                Reply::Answer(200, headers, Vec::new())
            }
            "GET" if seen.query.contains("list-type=2") => list(&objects, seen),
            "GET" | "HEAD" => match objects.get(&key) {
                None => xml(404, "NoSuchKey"),
                Some(body) => content(body, seen.header("range")),
            },
            "DELETE" if objects.remove(&key).is_none() => xml(404, "NoSuchKey"),
            "DELETE" => Reply::Answer(204, Vec::new(), Vec::new()),
            _ => xml(501, "NotImplemented"),
        }
    }
}

/// Clients encode more or less of a name.
fn decoded(path: &str) -> String {
    url::form_urlencoded::parse(path.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

/// Whether the body is the one that its checksums say that it is.
fn is_sum_right(seen: &Seen) -> bool {
    let is = |name: &str, sum: String| seen.header(name).is_empty() || seen.header(name) == sum;
    is("x-amz-checksum-sha256", BASE64_STANDARD.encode(Sha256::digest(&seen.body)))
        && is("content-md5", BASE64_STANDARD.encode(Md5::digest(&seen.body)))
}

fn wants_new(seen: &Seen) -> bool {
    seen.header("if-none-match") == "*" || seen.header("x-goog-if-generation-match") == "0"
}

/// An object, or a range of it.
fn content(body: &[u8], range: &str) -> Reply {
    let mut headers = vec![
        ("etag", "\"e\"".to_owned()),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
        ("x-goog-generation", "7".to_owned()),
    ];
    let Some((start, end)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Reply::Answer(200, headers, body.to_vec());
    };
    let (start, last): (u64, u64) = (start.parse().unwrap(), end.parse().unwrap());
    let size = body.len() as u64;
    if start >= size {
        return xml(416, "InvalidRange");
    }
    let end = last.saturating_add(1).min(size);
    headers.push(("content-range", format!("bytes {start}-{}/{size}", end - 1)));
    Reply::Answer(206, headers, body[start as usize..end as usize].to_vec())
}

/// How many objects are on a page.
const PAGE: usize = 100;

/// A page.
fn list(objects: &BTreeMap<String, Vec<u8>>, seen: &Seen) -> Reply {
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(seen.query.as_bytes()).into_owned().collect();
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let left: Vec<_> =
        objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after).collect();
    let mut body = format!("<?xml version=\"1.0\"?><ListBucketResult><Prefix>{prefix}</Prefix>");
    write!(body, "<IsTruncated>{}</IsTruncated>", left.len() > PAGE).unwrap();
    for (key, value) in left.iter().take(PAGE) {
        let size = value.len();
        write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>e</ETag>\
             <Size>{size}</Size></Contents>"
        )
        .unwrap();
    }
    if left.len() > PAGE {
        write!(body, "<NextContinuationToken>{}</NextContinuationToken>", left[PAGE - 1].0)
            .unwrap();
    }
    body.push_str("</ListBucketResult>");
    Reply::Answer(200, vec![("content-type", "application/xml".to_owned())], body.into_bytes())
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, pause: Duration) -> Option<Seen> {
    let mut piece = vec![0; 64 << 10];
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&piece[..read]);
    };
    let head = String::from_utf8(buffer.drain(..end + 4).take(end).collect()).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        tokio::time::sleep(pause).await;
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&piece[..read]);
    }
    let body = buffer.drain(..length).collect();
    Some(Seen { method, path, query, headers, body })
}
