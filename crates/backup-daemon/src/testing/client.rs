//! Asking a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection of whatever kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Somebody who asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    place: Place,
    token: Option<String>,
}

#[derive(Debug, Clone)]
enum Place {
    Socket(PathBuf),
    Address(SocketAddr),
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn socket(path: &Path) -> Self {
        Self { place: Place::Socket(path.to_path_buf()), token: None }
    }

    pub(crate) fn address(address: SocketAddr) -> Self {
        Self { place: Place::Address(address), token: None }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) async fn connect(&self) -> Box<dyn Connection> {
        match &self.place {
            Place::Socket(path) => Box::new(UnixStream::connect(path).await.unwrap()),
            Place::Address(address) => Box::new(TcpStream::connect(address).await.unwrap()),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.ask("POST", path, Some(&body.to_string())).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        let mut connection = self.connect().await;
        connection.write_all(self.request(method, path, body).as_bytes()).await.unwrap();
        Reply::read(connection).await
    }

    /// The text of a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&str>) -> String {
        let token = self
            .token
            .as_ref()
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let (kind, length) = match body {
            Some(body) => (
                "Content-Type: application/json\r\n",
                format!("Content-Length: {}\r\n", body.len()),
            ),
            None => ("", String::new()),
        };
        let body = body.unwrap_or_default();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: \
             close\r\n{token}{kind}{length}\r\n{body}"
        )
    }
}

impl Reply {
    /// Everything that comes until the connection ends.
    pub(crate) async fn read(mut connection: impl AsyncRead + Unpin) -> Self {
        let mut bytes = Vec::new();
        // Whoever refuses a request without reading all of it may cut the connection behind the
        // answer.
        let reading = async { _ = connection.read_to_end(&mut bytes).await };
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer that ends");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether it is an error in the one form that errors have.
    pub(crate) fn is_problem(&self) -> bool {
        let known: Result<Value, _> = serde_json::from_str(&self.body);
        known.is_ok_and(|json| json["error"].is_string())
            && self.head.contains("content-type: application/json")
    }
}
