//! A connection: who we are, commands and their replies.

use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{MissingPassword, SourceError, SourceErrorKind};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::super::error::WireError;
use super::super::options::RedisOptions;
use super::resp::{LARGEST, LONGEST_ANSWER, Reply, ReplyEnd, command, parse_reply};
use super::socket::{self, Duplex};
use crate::waits::Waits;

/// Bytes are read in pieces of this size.
const PIECE: usize = 128 << 10;

type Socket = Box<dyn Duplex>;

/// A connection.
pub(in super::super) struct Connection {
    socket: Socket,
    /// What has come and was not taken.
    pub(super) input: BytesMut,
    waits: Waits,
    /// Name of the server in reports.
    server: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Nothing has come for so long.
pub(in super::super) fn silent(silence: Duration) -> WireError {
    let text = format!("the server has sent nothing for {} seconds", silence.as_secs_f32());
    SourceError::new(SourceErrorKind::Unavailable, text).into()
}

/// What a server says about credentials, which it may repeat: then only the first word of it.
fn without_secrets(error: WireError) -> WireError {
    let harmless = [
        "WRONGPASS",
        "NOPERM",
        "LOADING",
        "BUSY",
        "ERR AUTH <password> called",
        "ERR Client sent AUTH",
    ];
    match error {
        WireError::Server(text) if !harmless.iter().any(|start| text.starts_with(start)) => {
            let code = text.split(' ').next().unwrap_or_default();
            WireError::Server(format!(
                "{code} in reply to AUTH (the rest may contain the password)"
            ))
        }
        other => other,
    }
}

impl Connection {
    /// Connects and says who we are.
    pub(in super::super) async fn open(options: &RedisOptions) -> Result<Self, WireError> {
        let socket = socket::connect(options).await?;
        let (waits, server) = (options.waits.clone(), options.label());
        let mut connection = Self { socket, input: BytesMut::new(), waits, server };
        let answer = match (&options.user, options.password().await?) {
            (Some(user), Some(password)) => connection.run(&["AUTH", user, &password]).await,
            // A user may have no password.
            (Some(user), None) => match connection.run(&["AUTH", user, ""]).await {
                Err(WireError::Server(text)) if text.starts_with("WRONGPASS") => {
                    let text = "the server requires a password";
                    let error = SourceError::new(SourceErrorKind::Invalid, text)
                        .with_hint("give the password: redis://USER:PASSWORD@HOST/");
                    return Err(error.with_source(MissingPassword).into());
                }
                answer => answer,
            },
            (None, Some(password)) => connection.run(&["AUTH", &password]).await,
            (None, None) => return Ok(connection),
        };
        answer.map_err(without_secrets)?;
        Ok(connection)
    }

    /// Limits of waits, and the name of the server in reports.
    pub(in super::super) fn waits(&self) -> (Waits, String) {
        (self.waits.clone(), self.server.clone())
    }

    /// From now on silence is normal for some seconds: it is limited, but not reported.
    pub(super) fn without_reports(&mut self) {
        self.waits = Waits::new(self.waits.timeout(), Events::silent());
    }

    /// Sends bytes. A server that does not take them is dead as well.
    pub(in super::super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let sending = async {
            self.socket.write_all(bytes).await?;
            Ok(self.socket.flush().await?)
        };
        self.waits.limit(&self.server, None, sending).await.map_err(SourceError::from)?
    }

    /// Waits for more bytes, which are then in `input`.
    pub(super) async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(PIECE);
        let reading = self.socket.read_buf(&mut self.input);
        // Without a second connection: a server that is busy with a command does not answer.
        let read = self.waits.limit(&self.server, None, reading).await;
        match read.map_err(SourceError::from)?? {
            0 => Err(SourceError::new(
                SourceErrorKind::Unavailable,
                "the server has closed the connection",
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// The next reply, whatever it says.
    pub(in super::super) async fn reply(&mut self) -> Result<Reply, WireError> {
        self.reply_up_to(LONGEST_ANSWER).await
    }

    /// The next reply, which may be the value of a key.
    pub(in super::super) async fn value(&mut self) -> Result<Reply, WireError> {
        self.reply_up_to(LARGEST).await
    }

    async fn reply_up_to(&mut self, limit: usize) -> Result<Reply, WireError> {
        let mut end = ReplyEnd::default();
        loop {
            if end.is_in(&self.input, limit)?
                && let Some(reply) = parse_reply(&mut self.input)?
            {
                return Ok(reply);
            }
            self.fill().await?;
        }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`WireError::Server`] if the server refuses.
    pub(in super::super) async fn run<A: AsRef<[u8]>>(
        &mut self,
        arguments: &[A],
    ) -> Result<Reply, WireError> {
        self.send(&command(arguments)).await?;
        match self.reply().await? {
            Reply::Error(text) => Err(WireError::Server(text)),
            other => Ok(other),
        }
    }

    /// Both directions, to be used at the same time.
    pub(in super::super) fn split(self) -> (ReadHalf<Socket>, WriteHalf<Socket>) {
        tokio::io::split(self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_credentials_holds_none() {
        for text in [
            "ERR unknown command 'AUTH', with args beginning with: 'user' 'secret' ",
            "ERR unknown command `auth`, with args beginning with: `secret`, ",
        ] {
            let shown = without_secrets(WireError::Server(text.to_owned())).to_string();
            assert!(
                !shown.contains("secret") && shown.starts_with("ERR in reply to AUTH"),
                "{shown}"
            );
        }
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(without_secrets(WireError::Server(wrong.to_owned())).to_string(), wrong);
    }
}
