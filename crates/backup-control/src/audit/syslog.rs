//! Records as lines of the system log (syslog or the journal), sent when they are written. A copy
//! that leaves this machine cannot be changed on it.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::json;

use super::line::{Line, Said};
use crate::environment::Environment;

/// Socket of the system log, or `none`. Default: `/dev/log`, if it exists.
pub const SYSLOG_VARIABLE: &str = "BACKUP_AUDIT_SYSLOG";
const DEFAULT_SOCKET: &str = "/dev/log";
/// Facility `authpriv` (10) and severity `notice` (5), as RFC 3164 section 4.1.1 combines them.
const PRIORITY: u8 = 10 * 8 + 5;
/// Characters of a detail: system loggers cut lines at 8 KiB or less.
const MAX_DETAIL: usize = 200;

/// The system log.
#[derive(Debug, Clone)]
pub(super) struct Syslog {
    socket: PathBuf,
    /// The socket was named: it must exist.
    is_required: bool,
}

impl Syslog {
    /// The system log that `env` names; none if it is switched off.
    pub(super) fn of(env: &Environment) -> Option<Self> {
        match env.get(SYSLOG_VARIABLE) {
            Some(name) if name == "none" => None,
            Some(path) => Some(Self { socket: path.into(), is_required: true }),
            None => Some(Self { socket: DEFAULT_SOCKET.into(), is_required: false }),
        }
    }

    /// Sends a line, without waiting for the logger.
    ///
    /// # Errors
    /// Errors of the socket. A missing default socket is no error.
    pub(super) fn send(&self, line: &Line, zone: &TimeZone) -> io::Result<()> {
        let Some(text) = text(line, zone) else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.socket).and_then(|()| socket.send(text.as_bytes())) {
            Ok(_) => Ok(()),
            Err(_) if !self.is_required && !self.socket.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The line in the form of RFC 3164; none for a record without content.
fn text(line: &Line, zone: &TimeZone) -> Option<String> {
    let Said::Record(content) = &line.said else { return None };
    let details: serde_json::Map<_, _> = content
        .details
        .iter()
        .map(|(name, value)| {
            (name.clone(), json!(value.chars().take(MAX_DETAIL).collect::<String>()))
        })
        .collect();
    let record = json!({
        "sequence": line.sequence, "operation": content.operation, "user": content.user,
        "host": content.host, "status": content.status, "class": line.class, "details": details,
        "hash": line.hash,
    });
    let time = line.timestamp.to_zoned(zone.clone()).strftime("%b %e %H:%M:%S").to_string();
    Some(format!("<{PRIORITY}>{time} backup[{}]: audit {record}", std::process::id()))
}
