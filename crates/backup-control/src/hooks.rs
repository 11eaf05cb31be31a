//! Shell commands that are run around a backup, or a restore.

use std::process::Stdio;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_process::Family;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::config::HooksConfig;
use crate::environment::{Environment, hide_values};
use crate::error::Result;
use crate::words;

/// Letters of what a command is told, for instance of an error: the system takes 128 KiB in a
/// variable, and nobody reads as much.
const MAX_FACT: usize = 4000;
/// Bytes of its output that are kept.
const MAX_OUTPUT: u64 = 64 << 10;
/// Lines that may wait to be told.
const QUEUE: usize = 64;
/// How long the output may stay open after the command has ended: something that it left in the
/// background may hold it.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Which of the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the backup.
    Before,
    /// After it, whatever came of it.
    After,
    /// After it, if it failed.
    OnFailure,
    /// Before a restore to where the data came from.
    BeforeRestore,
    /// After that, whatever came of it.
    AfterRestore,
}

impl Hook {
    pub(crate) const ALL: [Self; 5] =
        [Self::Before, Self::After, Self::OnFailure, Self::BeforeRestore, Self::AfterRestore];

    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::OnFailure => "on_failure",
            Self::BeforeRestore => "before_restore",
            Self::AfterRestore => "after_restore",
        }
    }

    pub(crate) fn of(self, hooks: &HooksConfig) -> Option<&str> {
        match self {
            Self::Before => hooks.before.as_deref(),
            Self::After => hooks.after.as_deref(),
            Self::OnFailure => hooks.on_failure.as_deref(),
            Self::BeforeRestore => hooks.before_restore.as_deref(),
            Self::AfterRestore => hooks.after_restore.as_deref(),
        }
    }
}

/// What commands know besides the variables of their configuration.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The variables of the process. Those that hold secrets are not handed on.
    pub env: &'a Environment,
    /// Which the configuration says hold secrets.
    pub secrets: &'a [String],
    /// What is told of the run.
    pub facts: &'a [(&'a str, String)],
}

/// Runs one of the commands, if there is one; what it prints is told as remarks.
///
/// # Errors
/// It cannot be run, takes too long or fails; the caller has cancelled. After its limit and after
/// a cancellation it is killed with everything that it started, as a [`Family`].
pub async fn run(hook: Hook, hooks: &HooksConfig, around: Around<'_>, cx: &Context) -> Result<()> {
    let Some(line) = hook.of(hooks) else { return Ok(()) };
    cx.check_cancelled()?;
    let name = hook.as_str();
    let failed =
        |why: String| CoreError::new(ErrorKind::Source, format!("the hook `{name}` {why}"));
    let (env, mut secrets) = around.env.without_secrets(around.secrets);
    secrets.extend(hooks.env.values().cloned());
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .env_clear()
        .envs(env.iter())
        .envs(&hooks.env)
        .env("BACKUP_HOOK", name)
        .envs(around.facts.iter().map(|(name, value)| (name, bounded(value))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let family = Family::of(&mut command);
    let mut child =
        command.spawn().map_err(|error| failed("cannot be run".to_owned()).with_source(error))?;
    let mut family = family.led_by(&child);
    let timeout = hooks.timeout();
    let work = follow(&mut child, |line| {
        cx.events.note(format!("{name}: {}", hide_values(line, &secrets)));
    });
    let status = tokio::select! {
        ended = tokio::time::timeout(timeout, work) => ended,
        () = cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
    };
    let Ok(status) = status else {
        let error = failed(format!(
            "did not end within {}",
            words::count(timeout.as_secs(), "second", "seconds")
        ));
        return Err(error
            .with_hint("raise `hooks.timeout`, or run the hook by hand to find out why it hangs")
            .into());
    };
    let status =
        status.map_err(|error| failed("cannot be monitored".to_owned()).with_source(error))?;
    // What it has left in the background is meant to go on.
    family.release();
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("failed ({status})"))
        .with_hint("see the messages of the run for its output")
        .into())
}

/// Waits for a command to end, and hands on the lines that it prints.
pub(crate) async fn follow(
    child: &mut Child,
    mut tell: impl FnMut(&str),
) -> std::io::Result<std::process::ExitStatus> {
    let (lines, mut told) = tokio::sync::mpsc::channel(QUEUE);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let (error_lines, lines) = (lines.clone(), lines);
        tokio::join!(read(stdout, lines), read(stderr, error_lines));
    };
    tokio::pin!(reading);
    let (mut status, mut is_read) = (None, false);
    let deadline = tokio::time::sleep(Duration::MAX);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            Some(line) = told.recv() => {
                let line: String = line;
                tell(&line);
            }
            () = &mut reading, if !is_read => is_read = true,
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                deadline.as_mut().reset(tokio::time::Instant::now() + AFTERWARDS);
            }
            () = &mut deadline, if status.is_some() && !is_read => is_read = true,
        }
        if let (Some(status), true) = (status, is_read) {
            while let Ok(line) = told.try_recv() {
                tell(&line);
            }
            return Ok(status);
        }
    }
}

/// Hands lines on; beyond the limit they are read, so that nobody waits for a full pipe, and
/// dropped.
async fn read(stream: Option<impl AsyncRead + Unpin>, lines: tokio::sync::mpsc::Sender<String>) {
    let Some(mut stream) = stream else { return };
    let mut kept = BufReader::new((&mut stream).take(MAX_OUTPUT));
    let mut line = Vec::new();
    while matches!(kept.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        // Nobody listens any more: the command has ended.
        _ = lines.send(text.trim_end().to_owned()).await;
        line.clear();
    }
    _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// A value that is not so long that the system refuses to run a command with it.
fn bounded(value: &str) -> String {
    match value.char_indices().nth(MAX_FACT) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use backup_core::event::{Event, Events, Reporter};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn report(&self, event: &Event) {
            if let Event::Note { message } = event {
                self.0.lock().unwrap().push(message.clone());
            }
        }
    }

    async fn before(line: &str, timeout: &str) -> (Result<()>, Vec<String>) {
        let heard = Arc::new(Heard::default());
        let cx = Context::new(Events::to(Arc::clone(&heard) as _));
        let variables = [
            ("PATH", "/usr/bin:/bin"),
            ("OWN", "own"),
            ("BACKUP_PASSWORD", "hush-phrase"),
            ("BACKUP_PASSWORD_COMMAND", "echo hush-phrase"),
            ("BACKUP_PASSWORD_FILE", "/key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-key"),
            ("CRM", "postgres://me:hush-crm@h/"),
            ("NAMED", "hush-named"),
        ];
        let env: Environment = variables.into_iter().collect();
        let hooks = HooksConfig {
            before: Some(line.to_owned()),
            timeout: Some(timeout.parse().unwrap()),
            env: [("TOKEN".to_owned(), "hush!".to_owned())].into(),
            ..HooksConfig::default()
        };
        let facts =
            [("BACKUP_HOOK_JOB", "docs".to_owned()), ("BACKUP_HOOK_ERROR", "é".repeat(200_000))];
        let around = Around { env: &env, secrets: &["NAMED".to_owned()], facts: &facts };
        let result = run(Hook::Before, &hooks, around, &cx).await;
        let lines = heard.0.lock().unwrap().clone();
        (result, lines)
    }

    #[tokio::test]
    async fn are_run_with_variables_and_heard() {
        let (result, lines) =
            before("echo $OWN $BACKUP_HOOK $BACKUP_HOOK_JOB; echo $TOKEN >&2; printf end", "10s")
                .await;
        result.unwrap();
        let mut sorted = lines.clone();
        sorted.sort();
        assert_eq!(sorted, ["before: end", "before: own before docs", "before: …"], "{lines:?}");
        let (result, _) = before("exit 3", "10s").await;
        assert!(result.unwrap_err().to_string().contains("`before` failed (exit status: 3)"));
    }

    #[tokio::test]
    async fn secrets_are_neither_handed_on_nor_shown() {
        let (result, lines) = before(
            "env | grep -c hush; echo a hush-named b hush-phrase $BACKUP_PASSWORD_FILE; echo \
             ${#BACKUP_HOOK_ERROR}",
            "10s",
        )
        .await;
        result.unwrap();
        // Only that which the configuration hands to it.
        assert_eq!(lines[..2], ["before: 1", "before: a … b … /key"], "{lines:?}");
        assert!(lines[2].ends_with("4001") || lines[2].ends_with("8003"), "{lines:?}");
    }

    #[tokio::test]
    async fn much_output_is_cut_and_holds_nothing_up() {
        let (result, lines) = before("yes | head -c 1000000; echo the end", "60s").await;
        result.unwrap();
        let kept: usize = lines.iter().map(|line| line.len() - "before: ".len() + 1).sum();
        assert!(kept <= MAX_OUTPUT as usize && kept > MAX_OUTPUT as usize / 2, "{kept}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("late");
        let (result, _) = before(
            &format!(
                "(setsid sh -c 'sleep 1; touch {0}' &); (sleep 1; touch {0}) & wait; sleep 9",
                file.display()
            ),
            "200ms",
        )
        .await;
        assert!(result.unwrap_err().to_string().contains("did not end within"));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn what_is_left_in_the_background_is_not_waited_for() {
        let since = Instant::now();
        let (result, lines) = before("sleep 5 & echo begun", "10s").await;
        result.unwrap();
        assert_eq!(lines, ["before: begun"]);
        assert!(since.elapsed() < Duration::from_secs(4));
    }
}
