//! A service that takes requests over HTTP: what came is kept, what it answers is up to the test.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::http::{Background, Head};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Received {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header that must be there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.field(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.head))
    }
}

/// What a request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A status, more headers, a body.
    Status(u16, &'static str, String),
    /// The same, after a while.
    Slow(Duration, u16),
    /// The connection is closed.
    Close,
    /// Nothing, for ever.
    Silence,
}

impl Reply {
    pub(crate) fn status(code: u16) -> Self {
        Self::Status(code, "", String::new())
    }
}

type Answers = Box<dyn FnMut(&Received) -> Reply + Send>;

/// See the module documentation.
pub(crate) struct Receiver {
    background: Background,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    pub(crate) fn start(answers: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(Box::new(answers) as Answers));
        let (kept, replies) = (Arc::clone(&received), Arc::clone(&answers));
        let background = Background::start(async move |listener: TcpListener| {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, replies) = (Arc::clone(&kept), Arc::clone(&replies));
                tokio::spawn(async move {
                    // Whoever closes a connection early has a reason.
                    drop(serve(stream, &kept, &replies).await);
                });
            }
        });
        Self { background, received, answers }
    }

    /// From now on other answers.
    pub(crate) fn answer(&self, answers: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.background.port)
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The only request that has come.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, count: usize) {
        let started = Instant::now();
        while self.received().len() < count {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{} requests have come",
                self.received().len()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

async fn serve(
    stream: TcpStream,
    kept: &Mutex<Vec<Received>>,
    answers: &Mutex<Answers>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = Head::read(&mut stream).await? {
        let body =
            String::from_utf8_lossy(&head.request_body().all(&mut stream).await?).into_owned();
        let received = Received { head, body };
        kept.lock().unwrap().push(received.clone());
        let reply = answers.lock().unwrap()(&received);
        let (status, headers, body) = match reply {
            Reply::Status(status, headers, body) => (status, headers, body),
            Reply::Slow(time, status) => {
                tokio::time::sleep(time).await;
                (status, "", String::new())
            }
            Reply::Close => return Ok(()),
            Reply::Silence => std::future::pending().await,
        };
        let head = format!(
            "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
    }
    Ok(())
}
