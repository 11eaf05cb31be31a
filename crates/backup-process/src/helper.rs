//! A helper program from its start to its exit.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::Family;
use crate::limit::in_words;

/// Bytes of each output that are kept; the rest is read and dropped.
pub const MAX_OUTPUT: usize = 256 << 10;
/// Time for reading the outputs after the exit: a process that the helper left in the background
/// may hold them open.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes that are read at a time.
const BUFFER: usize = 8 << 10;

/// The result of a helper that exited within its limit.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// The first [`MAX_OUTPUT`] bytes of its standard output.
    pub stdout: Zeroizing<Vec<u8>>,
    /// True if its standard output has more bytes.
    pub is_cut: bool,
    /// The first [`MAX_OUTPUT`] bytes of its standard error.
    pub stderr: Zeroizing<Vec<u8>>,
}

/// The reason why a helper has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The program cannot be started.
    #[error("cannot be run")]
    Start(#[source] io::Error),
    /// The program did not exit within its limit, and was killed with everything it started.
    #[error("did not exit within {}", in_words(.0))]
    Late(Duration),
    /// The system does not report the end of the program.
    #[error("cannot be monitored")]
    Wait(#[source] io::Error),
}

/// Runs a helper program and returns its output. Its exit is its end: processes that it leaves in
/// the background continue and are not waited for, although they may hold its outputs open. After
/// `limit` the program is killed with everything it started, as a [`Family`].
///
/// The standard input is that of the command. No process group is created, so that the program
/// can read a terminal; outside Linux, the limit kills the program alone. Cancel safe: dropping the
/// future kills the family.
///
/// # Errors
/// [`Failure`]. An exit status other than 0 is not an error.
pub async fn run(command: &mut Command, limit: Duration) -> Result<Output, Failure> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut family = Family::of(command);
    let mut child = command.spawn().map_err(Failure::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let work = async {
        let reading = async { tokio::join!(keep(stdout, &mut out), keep(stderr, &mut err)) };
        tokio::pin!(reading);
        tokio::select! {
            // A helper that closed its outputs has not exited yet.
            _ = &mut reading => child.wait().await,
            status = child.wait() => {
                // The bytes that the helper wrote are in the pipe.
                _ = tokio::time::timeout(DRAIN, &mut reading).await;
                status
            }
        }
    };
    let status = tokio::time::timeout(limit, work).await;
    let status = status.map_err(|_| Failure::Late(limit))?.map_err(Failure::Wait)?;
    family.release();
    Ok(Output { status, stdout: out.bytes, is_cut: out.is_cut, stderr: err.bytes })
}

/// The beginning of a stream.
#[derive(Default)]
struct Kept {
    bytes: Zeroizing<Vec<u8>>,
    is_cut: bool,
}

/// Keeps the first bytes of a stream, and reads it to its end, so that its writer never waits.
async fn keep(stream: Option<impl AsyncRead + Unpin>, kept: &mut Kept) {
    let Some(mut stream) = stream else { return };
    let mut buffer = Zeroizing::new(vec![0; BUFFER]);
    // All at once: a vector that grows leaves copies of a secret in memory.
    kept.bytes.reserve_exact(MAX_OUTPUT);
    while let Ok(len @ 1..) = stream.read(&mut buffer[..]).await {
        let room = MAX_OUTPUT - kept.bytes.len();
        kept.bytes.extend_from_slice(&buffer[..len.min(room)]);
        kept.is_cut |= len > room;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn shell(line: &str, limit: Duration) -> Result<Output, Failure> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::null());
        run(&mut command, limit).await
    }

    #[tokio::test]
    async fn outputs_and_status_are_returned() {
        let output =
            shell("echo one; echo two >&2; exit 7", Duration::from_secs(30)).await.unwrap();
        assert_eq!(output.status.code(), Some(7));
        assert_eq!((&**output.stdout, &**output.stderr), (&b"one\n"[..], &b"two\n"[..]));
        let missing = run(&mut Command::new("/nowhere/program"), Duration::from_secs(30)).await;
        assert!(matches!(missing, Err(Failure::Start(_))));
    }

    #[tokio::test]
    async fn helper_ends_when_the_program_exits() {
        let since = Instant::now();
        let line = "echo secret; echo note >&2; sleep 90 & exit 0";
        let output = shell(line, Duration::from_secs(30)).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        assert_eq!((&**output.stdout, &**output.stderr), (&b"secret\n"[..], &b"note\n"[..]));
    }

    #[tokio::test]
    async fn helper_may_close_outputs_early() {
        let output =
            shell("echo x; exec >&- 2>&-; sleep 0.3; exit 5", Duration::from_secs(30)).await;
        assert_eq!(output.unwrap().status.code(), Some(5));
    }

    #[tokio::test]
    async fn limit_kills_everything_that_a_helper_started() {
        let dir = tempfile::tempdir().unwrap();
        let late = dir.path().join("late");
        let line = format!(
            "(setsid sh -c 'sleep 2; touch {0}' &); (sleep 2; touch {0}) & wait; sleep 60",
            late.display()
        );
        let error = shell(&line, Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error.to_string(), "did not exit within 0.5 seconds");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!late.exists());
    }

    #[tokio::test]
    async fn long_output_is_cut_and_blocks_no_helper() {
        let output =
            shell("head -c 5000000 /dev/zero; exit 3", Duration::from_secs(60)).await.unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), MAX_OUTPUT));
        assert!(output.is_cut);
        let line = format!("head -c {MAX_OUTPUT} /dev/zero");
        let output = shell(&line, Duration::from_secs(60)).await.unwrap();
        assert_eq!((output.is_cut, output.stdout.len()), (false, MAX_OUTPUT));
    }
}
