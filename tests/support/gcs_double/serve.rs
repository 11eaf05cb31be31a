//! Requests and answers.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Buckets;
use super::bucket::{Bucket, NO_SUCH_KEY, Object, Refused};
use super::xml::{self, Listing};
use crate::support::http::Head;

#[derive(Debug)]
struct Request {
    head: Head,
    bucket: String,
    key: String,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The generation that the present object must have.
    fn wanted(&self) -> Result<Option<u64>, Refused> {
        let wanted = self.head.field("x-goog-if-generation-match").map(str::parse);
        wanted.transpose().map_err(|_| (400, "InvalidArgument"))
    }

    /// What is kept with an object.
    fn kept_headers(&self) -> Vec<(String, String)> {
        let kept = [
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-type",
        ];
        let is_kept = |name: &str| {
            kept.contains(&name)
                || name.starts_with("x-goog-meta-")
                || name == "x-goog-storage-class"
        };
        self.head
            .fields()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    fn xml(body: String) -> Self {
        Self::new(200)
            .with("Content-Type", "application/xml; charset=UTF-8")
            .with_body(body.into_bytes())
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// What tells of an object.
    fn about(self, object: &Object) -> Self {
        self.with("ETag", object.e_tag())
            .with("x-goog-generation", object.generation.to_string())
            .with("x-goog-metageneration", "1")
    }

    fn to_bytes(&self, method: &str) -> Vec<u8> {
        let mut head =
            format!("HTTP/1.1 {} Double\r\nContent-Length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if method == "HEAD" { &[][..] } else { &self.body };
        [head.as_bytes(), b"\r\n", body].concat()
    }
}

pub(super) async fn serve(listener: TcpListener, buckets: Buckets) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                let buckets = Arc::clone(&buckets);
                // A client may leave when it likes.
                connections.spawn(async move { drop(connection(client, &buckets).await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, buckets: &Buckets) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    while let Some(head) = Head::read(&mut client).await? {
        let body = head.request_body().all(&mut client).await?;
        let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
        let (bucket, key) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path.trim_start_matches('/'), ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query =
            query.map(|(name, value)| (decode(name), decode(&value.replace('+', " ")))).collect();
        let request = Request { bucket: decode(bucket), key: decode(key), query, body, head };
        let answer = answer(&request, buckets).unwrap_or_else(|refused| {
            let details = format!("{} {}", request.head.method(), request.head.target());
            Answer { status: refused.0, ..Answer::xml(xml::error(refused, &details)) }
        });
        client.write_all(&answer.to_bytes(request.head.method())).await?;
    }
    Ok(())
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(code) => (bytes.push(code), rest = &after[2..]),
            None => (bytes.push(*first), rest = after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answer(request: &Request, buckets: &Buckets) -> Result<Answer, Refused> {
    let token = request.head.field("authorization").and_then(|value| value.strip_prefix("Bearer "));
    // A token of a service account is a signed one, of three parts.
    if token.is_none_or(|token| token.split('.').filter(|part| !part.is_empty()).count() != 3) {
        return Err((401, "AuthenticationRequired"));
    }
    let mut buckets = buckets.lock().unwrap();
    let bucket = buckets.get_mut(&request.bucket).ok_or((404, "NoSuchBucket"))?;
    let upload = request.query("uploadId");
    match (request.head.method(), request.key.as_str(), upload) {
        ("GET", "", _) if request.query("uploads").is_some() => {
            let prefix = request.query("prefix").unwrap_or_default();
            Ok(Answer::xml(xml::uploads(&request.bucket, bucket, prefix)))
        }
        ("GET", "", _) => list(request, bucket),
        (_, "", _) => Err((405, "MethodNotAllowed")),
        ("GET" | "HEAD", key, None) => get(request, bucket.objects.get(key).ok_or(NO_SUCH_KEY)?),
        ("PUT", key, Some(id)) => {
            let number = request.query("partNumber").and_then(|number| number.parse().ok());
            let number = number
                .filter(|number| (1..=10_000).contains(number))
                .ok_or((400, "InvalidArgument"))?;
            Ok(Answer::new(200).with("ETag", bucket.part(key, id, number, request.body.clone())?))
        }
        ("PUT", key, None) => put(request, bucket, key),
        ("DELETE", key, Some(id)) => bucket.abort(key, id).map(|()| Answer::new(204)),
        ("DELETE", key, None) => bucket.delete(key, request.wanted()?).map(|()| Answer::new(204)),
        ("POST", key, Some(id)) => {
            let parts =
                xml::parts(&String::from_utf8_lossy(&request.body)).ok_or((400, "MalformedXML"))?;
            let object = bucket.complete(key, id, &parts)?;
            Ok(Answer::xml(xml::completed(&request.bucket, key, &object.e_tag())).about(object))
        }
        ("POST", key, None) if request.query("uploads").is_some() => {
            let id = bucket.initiate(key, request.kept_headers());
            Ok(Answer::xml(xml::initiated(&request.bucket, key, &id)))
        }
        _ => Err((405, "MethodNotAllowed")),
    }
}

fn list(request: &Request, bucket: &Bucket) -> Result<Answer, Refused> {
    let text = |name| request.query(name).unwrap_or_default();
    let max = request
        .query("max-keys")
        .map_or(Ok(1000), str::parse)
        .map_err(|_| (400, "InvalidArgument"))?;
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = request.query("continuation-token").unwrap_or(text("start-after"));
    let listing = Listing { bucket: &request.bucket, prefix, delimiter, after, max: max.min(1000) };
    Ok(Answer::xml(xml::list(bucket, &listing)))
}

fn put(request: &Request, bucket: &mut Bucket, key: &str) -> Result<Answer, Refused> {
    let wanted = request.wanted()?;
    let Some(source) = request.head.field("x-goog-copy-source") else {
        let object = bucket.put(key, request.body.clone(), request.kept_headers(), wanted)?;
        return Ok(Answer::new(200).about(object));
    };
    let source = decode(source);
    // Copies within one bucket: no test needs others.
    let from = source
        .trim_start_matches('/')
        .strip_prefix(&format!("{}/", request.bucket))
        .ok_or(NO_SUCH_KEY)?;
    let Object { content, headers, .. } = bucket.objects.get(from).ok_or(NO_SUCH_KEY)?.clone();
    let object = bucket.put(key, content, headers, wanted)?;
    Ok(Answer::xml(xml::copied(object.modified, &object.e_tag())).about(object))
}

fn get(request: &Request, object: &Object) -> Result<Answer, Refused> {
    if request.query("generation").is_some_and(|wanted| wanted != object.generation.to_string()) {
        return Err(NO_SUCH_KEY);
    }
    let modified = object.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let field = |name| request.head.field(name);
    let names = |tags: &str| tags == "*" || tags.split(',').any(|tag| tag.trim() == object.e_tag());
    let seconds = |name| {
        field(name)
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            .map(|date| date.timestamp())
    };
    let whole_second = jiff::Timestamp::from_second(object.modified.as_second()).unwrap();
    if field("if-match").is_some_and(|tags| !names(tags))
        || seconds("if-unmodified-since").is_some_and(|date| whole_second > date)
    {
        return Err((412, "PreconditionFailed"));
    }
    if field("if-none-match").is_some_and(names)
        || seconds("if-modified-since").is_some_and(|date| whole_second <= date)
    {
        return Ok(Answer::new(304).about(object));
    }
    let length = object.content.len();
    let range = field("range")
        .map(|range| range_of(range, length).ok_or((416, "InvalidRange")))
        .transpose()?;
    let body = object.content[range.clone().unwrap_or(0..length)].to_vec();
    let mut answer = Answer::new(if range.is_some() { 206 } else { 200 })
        .about(object)
        .with("Last-Modified", modified);
    answer.headers.extend(object.headers.iter().cloned());
    if let Some(range) = range {
        answer = answer
            .with("Content-Range", format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    Ok(answer.with_body(body))
}

/// What `bytes=A-B`, `bytes=A-` and `bytes=-N` mean; `None` if there is nothing of it.
fn range_of(range: &str, length: usize) -> Option<std::ops::Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<usize>().ok(), last.parse::<usize>().ok()) {
        (Some(first), Some(last)) => first..(last + 1).min(length),
        (Some(first), None) => first..length,
        (None, Some(count)) => length.saturating_sub(count)..length,
        (None, None) => return None,
    };
    (range.start < range.end).then_some(range)
}
