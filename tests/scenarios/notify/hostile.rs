//! Hostile webhook and mail servers: every delivery ends in bounded time, reads a bounded number of
//! bytes, and is a success only if the server accepted the message. The runtime has two threads, as
//! that of the programs.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Place, message};
use crate::support::receiver::{Receiver, Reply};

/// Timeout of a channel, and longest duration of a delivery on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(2);
const BOUND: Duration = Duration::from_secs(12);
/// Bytes that a client takes at most of an endless answer: its own limits, and the buffers of the
/// system.
const MAX_TAKEN: u64 = 32 << 20;

/// A server that handles each connection by `serve`, and counts the bytes that were taken.
struct Hostile {
    port: u16,
    taken: Arc<AtomicU64>,
}

impl Hostile {
    fn start(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(AtomicU64::new(0));
        let (serve, counted) = (Arc::new(serve), Arc::clone(&taken));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(BOUND)).unwrap();
                let (serve, taken) = (Arc::clone(&serve), Arc::clone(&counted));
                std::thread::spawn(move || serve(&mut Connection { stream, taken }));
            }
        });
        Self { port, taken }
    }

    /// The result of sending a message through `channel`, in bounded time.
    async fn send(&self, channel: &str) -> Result<(), String> {
        let channel = channel.replace("PORT", &self.port.to_string());
        let place = Place::new(format!("[notify.x]\ntimeout = \"2s\"\n{channel}\n"), &[]);
        let started = Instant::now();
        let sent = place.send("x", &message(1)).await;
        assert!(started.elapsed() < BOUND, "{:?}: {sent:?}", started.elapsed());
        sent
    }

    async fn webhook(&self) -> Result<(), String> {
        self.send("kind = \"webhook\"\nallow_http = true\nurl = \"http://127.0.0.1:PORT/\"").await
    }

    async fn mail(&self, security: &str) -> Result<(), String> {
        self.send(&format!(
            "kind = \"smtp\"\nhost = \"127.0.0.1\"\nport = PORT\nsecurity = \"{security}\"\nfrom = \
             \"b@example.com\"\nto = [\"ops@example.com\"]"
        ))
        .await
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

struct Connection {
    stream: TcpStream,
    taken: Arc<AtomicU64>,
}

impl Connection {
    /// Sends bytes; false once the client has gone.
    fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let is_sent = self.stream.write_all(bytes).is_ok();
        self.taken.fetch_add(if is_sent { bytes.len() as u64 } else { 0 }, Ordering::Relaxed);
        is_sent
    }

    /// Repeats the bytes until the client has gone.
    fn for_ever(&mut self, bytes: impl AsRef<[u8]>) {
        let block = bytes.as_ref().repeat((16 << 10) / bytes.as_ref().len());
        while self.say(&block) {}
    }

    /// Sends the bytes one by one, over a time that is longer than any timeout.
    fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref().iter().cycle().take(300) {
            if !self.say([*byte]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the end of a line that begins with `word`; false if none comes.
    fn hear(&mut self, word: &str) -> bool {
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            match self.stream.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return false,
            }
            if byte[0] == b'\n' {
                if line.starts_with(word.as_bytes()) {
                    return true;
                }
                line.clear();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_http_answers_are_cut_off() {
    let cases: [(&str, &str, &str); 5] = [
        ("HTTP/1.1 500 x\r\n\r\n", "0123456789abcdef", "500"),
        ("HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n", "404"),
        ("HTTP/1.1 200 x\r\n", "X-Filler: 0123456789abcdef\r\n", "reached"),
        ("HTTP/1.1 200 x\r\nX-Long: ", "0123456789abcdef", "reached"),
        ("HTTP/1.1 200 ", "0123456789abcdef", "reached"),
    ];
    for (head, endless, expected) in cases {
        let server = Hostile::start(move |connection| {
            connection.hear("\r\n");
            connection.say(head);
            connection.for_ever(endless);
        });
        let why = server.webhook().await.unwrap_err();
        assert!(why.contains(expected) && why.len() < 1000, "{head:?}: {why}");
        // The system may report the last bytes late.
        std::thread::sleep(Duration::from_millis(200));
        assert!(server.taken() < MAX_TAKEN, "{head:?}: {} bytes were taken", server.taken());
    }
    // A success whose explanation does not end is a success.
    let server = Hostile::start(|connection| {
        connection.hear("\r\n");
        connection.say("HTTP/1.1 200 x\r\n\r\n");
        connection.for_ever("0123456789abcdef");
    });
    assert_eq!(server.webhook().await, Ok(()));
    assert!(server.taken() < MAX_TAKEN, "{} bytes were taken", server.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_http_answers_end_at_the_timeout() {
    let slow: [fn(&mut Connection); 3] = [
        |connection| connection.drip("HTTP/1.1 200 x\r\nX: y\r\n"),
        |connection| {
            connection.say("HTTP/1.1 500 x\r\n\r\n");
            connection.drip("sorry ");
        },
        |connection| drop(connection.stream.read(&mut [0])),
    ];
    for serve in slow {
        let server = Hostile::start(move |connection| {
            connection.hear("\r\n");
            serve(connection);
        });
        let why = server.webhook().await.unwrap_err();
        assert!(why.starts_with("later: "), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_in_place_of_http_are_errors() {
    for answer in [&b""[..], b"\0\0\0\0\r\n\r\n", b"220 mail\r\n", b"HTTP/9.9 200 x\r\n\r\n"] {
        let server = Hostile::start(move |connection| {
            connection.hear("\r\n");
            connection.say(answer);
        });
        let why = server.webhook().await.unwrap_err();
        assert!(why.starts_with("later: the service cannot be reached"), "{answer:?}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_to_other_schemes_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "hush").unwrap();
    let file = format!("Location: file://{}\r\n", file.display());
    let elsewhere = Receiver::start(|_| Reply::status(200));
    let plain = format!("Location: {}/x\r\n", elsewhere.url());
    let locations =
        [file, plain, "Location: ftp://127.0.0.1/x\r\n".into(), "Location: \r\n".into()];
    for location in locations {
        for status in [301, 302, 303, 307, 308] {
            let headers: &'static str = location.clone().leak();
            let service = Receiver::start(move |_| Reply::Status(status, headers, String::new()));
            let url = service.url();
            let place = Place::new(
                format!("[notify.x]\nkind = \"webhook\"\nallow_http = true\nurl = \"{url}\"\n"),
                &[],
            );
            let why = place.send("x", &message(1)).await.unwrap_err();
            assert!(why.starts_with("never: ") && why.contains("not followed"), "{why}");
            assert!(!why.contains("hush") && service.received().len() == 1, "{why}");
        }
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_none_ends_at_once_or_at_the_timeout() {
    let answers: [fn(&mut Connection); 5] = [
        |connection| _ = connection.say("HTTP/1.1 200 x\r\n\r\n"),
        // A fatal alert; an endless handshake message; records of nothing.
        |connection| _ = connection.say(b"\x15\x03\x03\x00\x02\x02\x28"),
        |connection| connection.for_ever(b"\x16\x03\x03\x00\x04\x02\xff\xff\xff"),
        |connection| connection.for_ever(b"\x16\x03\x03\x00\x00"),
        |connection| connection.drip(b"\x16\x03\x03\x40\x00"),
    ];
    for answer in answers {
        let server = Hostile::start(answer);
        let webhook = server.send("kind = \"webhook\"\nurl = \"https://127.0.0.1:PORT/\"").await;
        assert!(webhook.unwrap_err().starts_with("later: "));
        assert!(server.mail("tls").await.unwrap_err().starts_with("later: "));
        std::thread::sleep(Duration::from_millis(200));
        assert!(server.taken() < MAX_TAKEN, "{} bytes were taken", server.taken());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_replies_of_mail_servers_are_cut_off() {
    let replies: [fn(&mut Connection); 5] = [
        |connection| connection.for_ever("220-hello\r\n"),
        |connection| connection.for_ever("220-hello"),
        |connection| {
            connection.say("220 hello\r\n");
            connection.hear("EHLO");
            connection.for_ever("250-FILLER 0123456789\r\n");
        },
        |connection| {
            connection.say("220 hello\r\n");
            connection.hear("EHLO");
            connection.say("250 fine\r\n");
            connection.hear("MAIL");
            connection.for_ever("550-no\r\n");
        },
        |connection| connection.for_ever("\0"),
    ];
    for reply in replies {
        let server = Hostile::start(reply);
        let why = server.mail("none").await.unwrap_err();
        assert!(why.starts_with("later: ") && why.len() < 1000, "{why}");
        std::thread::sleep(Duration::from_millis(200));
        assert!(server.taken() < MAX_TAKEN, "{} bytes were taken: {why}", server.taken());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_fails_for_slow_and_strange_mail_servers() {
    let strange: [fn(&mut Connection); 5] = [
        |connection| connection.drip("220-hello\r\n"),
        |connection| _ = connection.say("HTTP/1.1 200 x\r\n\r\n"),
        |connection| _ = connection.say("999 hello\r\n"),
        |connection| {
            connection.say("220 hello\r\n");
            connection.hear("EHLO");
            connection.say("220-hello\r\n250 mixed\r\n");
        },
        // Everything is fine, but the mail is not accepted.
        |connection| {
            connection.say("220 hello\r\n");
            for word in ["EHLO", "MAIL", "RCPT"] {
                connection.hear(word);
                connection.say("250 fine\r\n");
            }
            connection.hear("DATA");
            connection.say("354 go ahead\r\n");
            connection.hear(".\r\n");
        },
    ];
    for serve in strange {
        let why = Hostile::start(serve).mail("none").await.unwrap_err();
        assert!(why.starts_with("later: "), "{why}");
    }
}

/// Replies that are appended to the last one in cleartext do not count inside TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls_refuses_replies_sent_before_tls() {
    let server = Hostile::start(|connection| {
        connection.say("220 hello\r\n");
        connection.hear("EHLO");
        connection.say("250-hello\r\n250 STARTTLS\r\n");
        connection.hear("STARTTLS");
        connection.say("220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n");
        // Nothing more: a client that takes the injected reply waits for the handshake.
        connection.hear("never");
    });
    let started = Instant::now();
    let why = server.mail("starttls").await.unwrap_err();
    assert!(why.contains("TLS: ") && started.elapsed() < TIMEOUT, "{why}");
}
