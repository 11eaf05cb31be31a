//! Helper programs and password files, under the limit of the environment.

use std::io;
use std::path::Path;
#[cfg(feature = "postgres")]
use std::process::Stdio;
use std::time::Duration;

use backup_process::LIMIT_VARIABLE;
use zeroize::Zeroizing;

/// The time that a helper program or a password file may take.
fn limit() -> io::Result<Duration> {
    let value = std::env::var(LIMIT_VARIABLE).ok().filter(|value| !value.is_empty());
    backup_process::limit(value.as_deref()).map_err(io::Error::other)
}

/// The text of a password file, which may be a FIFO or a socket.
pub(crate) async fn read_password(file: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = backup_process::read_file(file, limit()?).await?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The standard output of a program that reports a fact, such as its version. An exit status other
/// than 0 is an error.
#[cfg(feature = "postgres")]
pub(crate) async fn ask(command: &mut tokio::process::Command) -> io::Result<String> {
    command.stdin(Stdio::null());
    let output = backup_process::run(command, limit()?).await.map_err(io::Error::other)?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the program failed ({})", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
