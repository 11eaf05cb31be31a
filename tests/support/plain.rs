//! Plain HTTP for `object_store`, so that tests need no second client with a TLS of its own. A
//! connection per request; an answer is read to its end, or to where it breaks, before it is handed
//! on.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::Head;

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    /// How long one request may take.
    patience: Duration,
}

impl Plain {
    pub(crate) fn patient() -> Self {
        Self::within(Duration::from_secs(60))
    }

    pub(crate) fn within(patience: Duration) -> Self {
        Self { patience }
    }
}

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(*self))
    }
}

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match tokio::time::timeout(self.patience, exchange(request)).await {
            Ok(answer) => answer.map_err(interrupted),
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

fn interrupted(error: io::Error) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, error)
}

async fn exchange(request: HttpRequest) -> io::Result<HttpResponse> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let authority = parts.uri.authority().ok_or(io::ErrorKind::InvalidInput)?.as_str();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("{} {target} HTTP/1.1\r\nconnection: close\r\n", parts.method);
    for (name, value) in [("host", authority), ("content-length", &*body.len().to_string())] {
        if !parts.headers.contains_key(name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    let mut head = head.into_bytes();
    for (name, value) in &parts.headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let mut stream = BufReader::new(TcpStream::connect(authority).await?);
    stream.write_all(&head).await?;
    // A server may refuse a body without reading it: its answer counts.
    let sent = stream.write_all(&body).await;
    let answer = loop {
        match Head::read(&mut stream).await? {
            Some(head) if head.status() < 200 => {}
            Some(head) => break head,
            None => return Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
        }
    };
    let mut response = http::Response::builder().status(answer.status());
    for (name, value) in answer.fields() {
        response = response.header(name, value);
    }
    let body = received(&answer, parts.method.as_str(), &mut stream).await;
    response.body(body).map_err(io::Error::other)
}

/// The body, or what there is of it and why there is no more.
async fn received(
    answer: &Head,
    method: &str,
    stream: &mut BufReader<TcpStream>,
) -> HttpResponseBody {
    let (mut body, mut all, mut frames) = (answer.response_body(method), Vec::new(), Vec::new());
    let broken = loop {
        match body.next(stream).await {
            Ok(Some(piece)) => all.extend(piece),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    frames.push(Ok(http_body::Frame::data(Bytes::from(all))));
    frames.extend(broken.map(|error| Err(interrupted(error))));
    HttpResponseBody::new(StreamBody::new(futures::stream::iter(frames)))
}
