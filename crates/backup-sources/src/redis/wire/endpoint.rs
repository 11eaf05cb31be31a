//! A server, and each kind of connection to it.

use super::super::error::WireError;
use super::super::options::RedisOptions;
use super::login::Secret;
use super::socket::{self, Socket};
use super::{Client, RawConnection, Replication, login};

/// A server as the settings name it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Endpoint<'a> {
    options: &'a RedisOptions,
}

impl<'a> Endpoint<'a> {
    pub(in super::super) const fn of(options: &'a RedisOptions) -> Self {
        Self { options }
    }

    /// Opens the byte stream of a connection: TCP, TLS or a Unix socket.
    async fn dial(self) -> Result<Socket, WireError> {
        socket::connect(self.options).await
    }

    /// Opens a connection for requests.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses the credentials.
    pub(in super::super) async fn ask(self) -> Result<Client, WireError> {
        let login = login::command(self.options).await?;
        let secret = Secret::of(login.as_ref());
        let mut client = Client::open(self.dial().await?, self.options, secret).await?;
        if let Some(login) = login {
            let answer = client.run::<()>(&login).await;
            answer.map_err(|error| login::refused(self.options, error))?;
        }
        Ok(client)
    }

    /// Opens a connection whose bytes the caller writes and reads.
    ///
    /// # Errors
    /// As for [`Endpoint::ask`].
    pub(in super::super) async fn raw(self) -> Result<RawConnection, WireError> {
        let login = login::command(self.options).await?;
        let secret = Secret::of(login.as_ref());
        let mut connection = RawConnection::new(self.dial().await?, self.options, secret);
        if let Some(login) = login {
            let answer = connection.run(&login).await;
            answer.map_err(|error| login::refused(self.options, error))?;
        }
        Ok(connection)
    }

    /// Opens a connection and introduces it as that of a replica. With `dump_only` the server keeps
    /// no commands for it, so it may be slow.
    ///
    /// # Errors
    /// As for [`Endpoint::ask`].
    pub(in super::super) async fn replica(self, dump_only: bool) -> Result<Replication, WireError> {
        Replication::introduce(self.raw().await?, dump_only).await
    }
}
