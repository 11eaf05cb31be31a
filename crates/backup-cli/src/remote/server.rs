//! Which daemon, and the token for it.

use std::path::{Path, PathBuf};

use backup_control::config::ServerConfig;
use backup_control::remote::{Address, SERVER_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE};
use backup_control::state;
use reqwest::header::HeaderValue;

use crate::command_error::{CommandError, CommandResult};
use crate::session::Session;

/// The name of the socket in the state directory.
const SOCKET: &str = "backupd.sock";
/// Bytes of a file with a token, at most.
const LONGEST_TOKEN: u64 = 4096;

/// A daemon, and how to get there.
pub(crate) struct Server {
    pub(super) address: Address,
    /// What it was called by; none: it is that of this machine.
    pub(super) name: Option<String>,
    pub(super) token: Option<HeaderValue>,
    pub(super) ca_file: Option<PathBuf>,
}

impl Server {
    /// The daemon that flags, or else the environment, name; that of this machine, if only a daemon
    /// will do.
    pub(super) fn of(session: &Session, is_for_daemon: bool) -> CommandResult<Option<Self>> {
        let global = &session.global;
        let name = global
            .server
            .as_deref()
            .or_else(|| session.env.text(SERVER_VARIABLE).filter(|name| !name.is_empty()));
        let Some(name) = name else {
            if global.token_file.is_some() || global.ca_file.is_some() {
                return Err(CommandError::usage(
                    "--token-file and --ca-file need a daemon, and no --server is given",
                )
                .with_hint("add --server"));
            }
            return if is_for_daemon { Self::of_machine(session).map(Some) } else { Ok(None) };
        };
        let known = if name.contains("://") { None } else { Some(known(session, name)?) };
        let address = Address::parse(known.as_ref().map_or(name, |known| &known.url))?;
        let token_file = global
            .token_file
            .clone()
            .or_else(|| session.env.get(TOKEN_FILE_VARIABLE).map(PathBuf::from));
        let (of_config, ca_of_config) =
            known.map(|known| (known.token_file, known.ca_file)).unwrap_or_default();
        let token = match (&global.token_file, session.env.text(TOKEN_VARIABLE)) {
            (None, Some(token)) => Some(header(token, TOKEN_VARIABLE)?),
            _ => {
                let file = token_file.or(of_config);
                session.warn_of_exposed(file.as_deref());
                file.map(|file| read(&file)).transpose()?
            }
        };
        let ca_file = global.ca_file.clone().or(ca_of_config);
        Ok(Some(Self { address, name: Some(name.to_owned()), token, ca_file }))
    }

    /// That of this machine, through its socket.
    fn of_machine(session: &Session) -> CommandResult<Self> {
        let configured = session.config()?.and_then(|loaded| loaded.config.api.socket.clone());
        let socket = configured.or_else(|| Some(state::dir(&session.env)?.join(SOCKET)));
        let socket = socket.ok_or_else(|| {
            CommandError::usage("no state directory to find the daemon's socket in").with_hint(
                "name the socket with --server unix:///PATH, or set BACKUP_STATE_DIR to the \
                 daemon's state directory",
            )
        })?;
        Ok(Self { address: Address::Socket(socket), name: None, token: None, ca_file: None })
    }
}

fn known(session: &Session, name: &str) -> CommandResult<ServerConfig> {
    let loaded = session.config()?;
    let servers = loaded.map(|loaded| loaded.config.servers.clone()).unwrap_or_default();
    servers.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = servers.keys().map(String::as_str).collect();
        let hint = match names[..] {
            [] => "write https://HOST:PORT, or unix:///PATH of the socket".to_owned(),
            _ => format!("name a server of the configuration: {}", names.join(", ")),
        };
        CommandError::usage("--server is neither a server of the configuration nor an address")
            .with_hint(hint)
    })
}

fn read(file: &Path) -> CommandResult<HeaderValue> {
    use std::io::Read;
    let shown = file.display().to_string();
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text));
    read.map_err(|error| CommandError::io(format!("cannot read the token in {shown}"), &error))?;
    header(&text, &shown)
}

/// The header that shows a token, which is never shown to anybody else.
fn header(token: &str, from: &str) -> CommandResult<HeaderValue> {
    let wrong = || {
        CommandError::usage(format!("{from} holds no valid token")).with_hint(
            "create a token, which begins with bkpd_, with `backupd token create NAME --role ROLE`",
        )
    };
    let token = token.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}
