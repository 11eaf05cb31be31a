//! Saying who we are.

use backup_core::source::{MissingPassword, SourceError, SourceErrorKind};
use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;

use super::super::error::{WireError, invalid, malformed};
use super::super::options::PostgresOptions;
use super::frame::{Frames, Message};
use super::socket::Socket;

/// Kinds of authentication requests.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// Begins a session with `parameters`; returns when the server takes commands.
pub(super) async fn start(
    frames: &mut Frames<Socket>,
    options: &PostgresOptions,
    parameters: &[(&str, &str)],
) -> Result<(), WireError> {
    let mut out = BytesMut::new();
    let all = [("user", &*options.user), ("client_encoding", "UTF8")]
        .into_iter()
        .chain(parameters.iter().copied());
    frontend::startup_message(all, &mut out)?;
    frames.send(&out).await?;
    let mut bound = false;
    loop {
        match frames.next().await? {
            // Whoever lets us in without a proof may be anybody.
            Message::Authentication(OK, _) if options.channel_binding && !bound => {
                return Err(unbound());
            }
            Message::Authentication(OK, _) => {}
            Message::Authentication(SASL, mechanisms) => {
                bound = scram(frames, options, &mechanisms).await?;
            }
            Message::Authentication(..) if options.channel_binding => return Err(unbound()),
            Message::Authentication(kind, data) => answer(frames, options, kind, &data).await?,
            Message::Error(error) => return Err(WireError::Server(error)),
            Message::Ready => return Ok(()),
            Message::Parameter(..) | Message::Notice(_) | Message::Other => {}
            _ => return Err(malformed("message during the connection startup").into()),
        }
    }
}

async fn password(options: &PostgresOptions) -> Result<String, WireError> {
    options.password().await?.ok_or_else(|| {
        invalid("the server requires a password")
            .with_hint("set the password, or a password file")
            .with_source(MissingPassword)
            .into()
    })
}

/// Returns when the server has proved that it knows the password, too: whether over this very TLS
/// connection.
async fn scram(
    frames: &mut Frames<Socket>,
    options: &PostgresOptions,
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
    if options.channel_binding && !bound {
        return Err(unbound());
    }
    let mut scram = ScramSha256::new(password(options).await?.as_bytes(), binding);
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
    options: &PostgresOptions,
    kind: u32,
    data: &[u8],
) -> Result<(), WireError> {
    if !matches!(kind, CLEARTEXT | MD5) {
        return Err(unsupported("the server requires an unsupported authentication method").into());
    }
    if !frames.socket.private && !options.weak_passwords {
        let text = "the server requests the password over an unprotected connection";
        return Err(invalid(text)
            .with_hint("use scram-sha-256 in pg_hba.conf, or sslmode=verify-full")
            .into());
    }
    let password = password(options).await?;
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
