//! Saying who we are.

use backup_core::source::{MissingPassword, SourceError, SourceErrorKind};
use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;

use super::super::error::{WireError, invalid, malformed};
use super::super::options::{Host, PostgresOptions};
use super::frame::{Frames, Message};
use super::socket::Socket;

/// Kinds of authentication requests.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// The database of connections for replication, as password files name it.
const REPLICATION: &str = "replication";

/// The server that a session is for.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) options: &'a PostgresOptions,
    pub(super) host: &'a Host,
}

/// Begins a session with `parameters`; returns when the server takes commands.
pub(super) async fn start(
    frames: &mut Frames<Socket>,
    to: Login<'_>,
    parameters: &[(&str, &str)],
) -> Result<(), WireError> {
    let options = to.options;
    let mut out = BytesMut::new();
    let all = [("user", &*options.user), ("client_encoding", "UTF8")]
        .into_iter()
        .chain(parameters.iter().copied());
    frontend::startup_message(all, &mut out)?;
    frames.send(&out).await?;
    let (mut bound, mut is_let_in) = (false, false);
    loop {
        match frames.next().await? {
            // Whoever lets us in without a proof may be anybody.
            Message::Authentication(OK, _) if options.channel_binding && !bound => {
                return Err(unbound());
            }
            Message::Authentication(OK, _) => is_let_in = true,
            Message::Authentication(SASL, mechanisms) => {
                bound = scram(frames, to, &mechanisms).await?;
            }
            Message::Authentication(..) if options.channel_binding => return Err(unbound()),
            Message::Authentication(kind, data) => answer(frames, to, kind, &data).await?,
            Message::Error(error) => return Err(WireError::Server(error)),
            Message::Ready if is_let_in => return Ok(()),
            Message::Parameter(..) | Message::Notice(_) | Message::Other => {}
            _ => return Err(malformed("message during the connection startup").into()),
        }
    }
}

async fn password(Login { options, host }: Login<'_>) -> Result<String, WireError> {
    options.password(host, REPLICATION).await?.ok_or_else(|| {
        invalid("the server requires a password")
            .with_hint(options.password_hint())
            .with_source(MissingPassword)
            .into()
    })
}

/// Returns when the server has proved that it knows the password, too: whether over this very TLS
/// connection.
async fn scram(
    frames: &mut Frames<Socket>,
    to: Login<'_>,
    mechanisms: &[u8],
) -> Result<bool, WireError> {
    let offers =
        |name: &str| mechanisms.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
    let plus = frames.socket.binding.clone().filter(|_| offers("SCRAM-SHA-256-PLUS"));
    let (name, binding) = match (plus, &frames.socket.binding) {
        (Some(hash), _) => ("SCRAM-SHA-256-PLUS", ChannelBinding::tls_server_end_point(hash)),
        // Tells the server that we would have: whoever took the offer away is found out.
        (None, Some(_)) if offers("SCRAM-SHA-256") => {
            ("SCRAM-SHA-256", ChannelBinding::unrequested())
        }
        (None, None) if offers("SCRAM-SHA-256") => ("SCRAM-SHA-256", ChannelBinding::unsupported()),
        _ => {
            return Err(unsupported("the server offers no supported SASL mechanism").into());
        }
    };
    let bound = name == "SCRAM-SHA-256-PLUS";
    if to.options.channel_binding && !bound {
        return Err(unbound());
    }
    let mut scram = ScramSha256::new(password(to).await?.as_bytes(), binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(name, scram.message(), &mut out)?;
    frames.send(&out).await?;
    let data = sasl(frames, SASL_CONTINUE).await?;
    scram.update(&data).map_err(|_| refused())?;
    out.clear();
    frontend::sasl_response(scram.message(), &mut out)?;
    frames.send(&out).await?;
    let data = sasl(frames, SASL_FINAL).await?;
    scram.finish(&data).map_err(|_| refused())?;
    Ok(bound)
}

/// The server's next word in the exchange.
async fn sasl(frames: &mut Frames<Socket>, wanted: u32) -> Result<Bytes, WireError> {
    match frames.next().await? {
        Message::Authentication(kind, data) if kind == wanted => Ok(data),
        Message::Error(error) => Err(WireError::Server(error)),
        _ => Err(malformed("message during the password check").into()),
    }
}

fn refused() -> SourceError {
    invalid("the server did not prove that it has the password")
        .with_hint("check the address and sslmode: another server may have taken its place")
}

fn unbound() -> WireError {
    let error = invalid(
        "channel_binding=require: the server does not prove its identity by the password and its \
         certificate",
    );
    error.with_hint("use TLS, and scram-sha-256 in pg_hba.conf").into()
}

fn unsupported(what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, what)
        .with_hint("use scram-sha-256 in pg_hba.conf")
}

/// Passwords that can be read along, or their MD5, which is as good: only where nobody can.
async fn answer(
    frames: &mut Frames<Socket>,
    to: Login<'_>,
    kind: u32,
    data: &[u8],
) -> Result<(), WireError> {
    let options = to.options;
    if !matches!(kind, CLEARTEXT | MD5) {
        return Err(unsupported("the server requires an unsupported authentication method").into());
    }
    if !frames.socket.private && !options.weak_passwords {
        let text = "the server requests the password over an unprotected connection";
        return Err(invalid(text)
            .with_hint("use scram-sha-256 in pg_hba.conf, or sslmode=verify-full")
            .into());
    }
    let password = password(to).await?;
    let mut out = BytesMut::new();
    if kind == MD5 {
        let salt = *data.first_chunk().ok_or_else(|| malformed("request for an MD5 password"))?;
        let hash = md5_hash(options.user.as_bytes(), password.as_bytes(), salt);
        frontend::password_message(hash.as_bytes(), &mut out)?;
    } else {
        frontend::password_message(password.as_bytes(), &mut out)?;
    }
    frames.send(&out).await
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use backup_core::event::{Event, Events, Reporter};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::super::options::TlsMode;
    use super::super::{Connection, Sql};
    use super::*;
    use crate::waits::{DEFAULT_TIMEOUT, Waits};

    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);

    impl Reporter for Warnings {
        fn report(&self, event: &Event) {
            if let Event::Warning(warning) = event {
                self.0.lock().unwrap().push(warning.message.clone());
            }
        }
    }

    /// A server on loopback without TLS that requests the password by `request`, twice, and refuses
    /// every password. Returns the warnings, and the tags of the messages with passwords.
    async fn warnings_for(request: &'static [u8], weak_passwords: bool) -> (Vec<String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let mut tags = Vec::new();
            for _ in 0..2 {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let len = tcp.read_u32().await.unwrap();
                tcp.read_exact(&mut vec![0; len as usize - 4]).await.unwrap();
                tcp.write_all(request).await.unwrap();
                tags.extend(tcp.read_u8().await);
                let refusal = b"SFATAL\0C28P01\0Mno\0\0";
                let mut error = vec![b'E'];
                error.extend((refusal.len() as u32 + 4).to_be_bytes());
                error.extend(refusal);
                tcp.write_all(&error).await.unwrap();
            }
            tags
        });
        let heard = Arc::new(Warnings::default());
        let options = PostgresOptions {
            hosts: vec![Host { name: "127.0.0.1".to_owned(), address: None, port }],
            user: "me".to_owned(),
            password: Some("hush".to_owned()),
            tls: TlsMode::Disable,
            weak_passwords,
            waits: Waits::new(DEFAULT_TIMEOUT, Events::to(Arc::clone(&heard) as _)),
            ..PostgresOptions::default()
        };
        assert!(Connection::open(&options).await.is_err());
        assert!(Sql::open(&options, "postgres").await.is_err());
        let tags = server.await.unwrap();
        let warnings = heard.0.lock().unwrap().clone();
        (warnings, tags)
    }

    #[tokio::test]
    async fn weak_passwords_over_loopback_give_one_warning() {
        // AuthenticationCleartextPassword, AuthenticationMD5Password.
        let weak: [&[u8]; 2] = [b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x0c\0\0\0\x05salt"];
        for request in weak {
            let (warnings, tags) = warnings_for(request, false).await;
            assert_eq!(tags, b"pp");
            assert_eq!(warnings.len(), 1, "both connections share a warning: {warnings:?}");
            assert!(warnings[0].contains("weak_passwords = true"), "{warnings:?}");
            assert!(!warnings[0].contains("hush"), "{warnings:?}");
            assert_eq!(warnings_for(request, true).await.0, [""; 0]);
        }
        // AuthenticationSASL with SCRAM-SHA-256.
        let strong = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        assert_eq!(warnings_for(strong, false).await, (Vec::new(), b"pp".to_vec()));
    }
}
