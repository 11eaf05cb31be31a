//! One process of the program: reading what it says, stopping it.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use backup_control::environment::Environment;
use backup_control::remote;
use backup_process::Family;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::exit::{self, ExitLimits, Lingering};
use super::items::Ending;

/// A longer line is not read as one: nothing that says how far it is has so much to say.
const LONGEST_LINE: usize = 64 << 10;
/// So much is kept of what was wrong.
const MOST_ERROR: usize = 4 << 10;
/// How long its output is read after its end.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// So much is kept of what else it said.
const MOST_SAID: usize = 8 << 10;
/// The flag of processes that end with this one.
pub(super) const UNTIL_EOF: &str = "--until-eof";
/// What the manager of services gives to this process, and to no other.
const OWN_VARIABLES: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"];

/// What a process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Go on.
    GoOn,
    /// Come to a safe point and end.
    Stop,
    /// The same, because it takes longer than it may.
    StopLate,
    /// End now, with everything that the process started.
    Die,
}

/// A line of a process.
#[derive(Debug)]
pub(super) enum Output {
    /// The progress of the work.
    Progress(serde_json::Value),
    /// Any other event.
    Event(serde_json::Value),
}

/// The command of some work.
pub(super) fn command(
    program: &Path,
    args: &[String],
    env: &Environment,
    state_dir: &Path,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().filter(|(name, _)| {
        // What is given to a manager's child tells that one how to answer.
        // And what is done here must not be handed to a daemon again.
        !OWN_VARIABLES.iter().chain(&remote::VARIABLES).any(|own| *name == *own)
    }));
    command.env("BACKUP_STATE_DIR", state_dir);
    // A process that never ends by itself ends with this one, whose end closes its input.
    let ends_with_us = args.iter().any(|arg| arg == UNTIL_EOF);
    command.stdin(if ends_with_us { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C on the daemon's terminal is for the daemon, which asks once; asked
    // twice, it would end at once.
    command.process_group(0).kill_on_drop(true);
    command
}

/// Runs a process to its end, or until it has not exited within `limits` after its final error.
/// `said` gets its progress and its events.
pub(super) async fn run(
    command: &mut Command,
    wish: watch::Receiver<Wish>,
    limits: ExitLimits,
    mut said: impl FnMut(Output),
) -> (Ending, Option<Lingering>) {
    let family = Family::of(command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return (Ending::failed(format!("cannot start the process: {error}")), None);
        }
    };
    let mut family = family.led_by(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    // Held until its end.
    let _input = child.stdin.take();
    let (mut wrong, mut besides) = (String::new(), Said::default());
    let (announce, announced) = watch::channel(None);
    let reading = lines(out, |line| match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(event) if event["event"] == "error" => {
            wrong = error(&event);
            if let Some(code) = exit::announced(&event) {
                announce.send_replace(Some(code));
            }
            said(Output::Event(event));
        }
        Ok(event) if event["event"] == "progress" => said(Output::Progress(event)),
        Ok(event) if event["event"].as_str().is_some_and(is_told) => {
            besides.add(event.clone(), line.len());
            said(Output::Event(event));
        }
        Ok(event) => said(Output::Event(event)),
        // Anything else is in its own records.
        Err(_) => {}
    });
    let mut tail = Tail::default();
    let hearing = lines(err, |line| tail.add(line));
    let status = {
        let mut all = std::pin::pin!(async { tokio::join!(reading, hearing) });
        let ended = async {
            tokio::select! {
                ended = wait(&mut child, wish, &family) => Ok(ended),
                code = exit::overdue(announced, limits.grace) => Err(code),
            }
        };
        let (status, is_read) = until_ended(ended, all.as_mut()).await;
        if !is_read && status.is_ok() {
            // What a hook has left behind may hold the output open for ever.
            _ = tokio::time::timeout(AFTERWARDS, all).await;
        }
        status
    };
    let said: Vec<_> = besides.events.into();
    let status = match status {
        Ok(status) => status,
        Err(code) => {
            let ending = Ending { exit_code: Some(code), error: wrong, said };
            return (ending, Lingering::new(child, family, limits.kill));
        }
    };
    // What a hook has left behind is meant to continue.
    family.release();
    (ended(status, wrong, tail, said), None)
}

/// The ending of a process that exited. `wrong` is its last reported error.
fn ended(
    status: std::io::Result<ExitStatus>,
    wrong: String,
    tail: Tail,
    said: Vec<serde_json::Value>,
) -> Ending {
    let failed = !matches!(&status, Ok(status) if status.success());
    let error = match (wrong.is_empty(), &status) {
        (false, _) => wrong,
        (true, Ok(_)) if failed => tail.text(),
        (true, Ok(_)) => String::new(),
        (true, Err(error)) => format!("cannot wait for the process: {error}"),
    };
    let exit_code =
        status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Ending { exit_code, error, said }
}

/// Whether an event is for whoever asked for the work.
fn is_told(event: &str) -> bool {
    matches!(event, "warning" | "note" | "plan" | "summary")
}

/// The last of what was said besides the progress.
#[derive(Debug, Default)]
struct Said {
    events: VecDeque<serde_json::Value>,
    sizes: VecDeque<usize>,
}

impl Said {
    fn add(&mut self, mut event: serde_json::Value, mut size: usize) {
        if size > MOST_SAID {
            shorten(&mut event);
            size = event.to_string().len();
        }
        self.events.push_back(event);
        self.sizes.push_back(size);
        while self.sizes.iter().sum::<usize>() > MOST_SAID {
            self.events.pop_front();
            self.sizes.pop_front();
        }
    }
}

/// Of what is too long, such as the summary of a check that found much, the beginnings of its
/// lists, and how many there are.
fn shorten(event: &mut serde_json::Value) {
    const KEPT: usize = 5;
    let Some(fields) = event.as_object_mut() else { return };
    let mut counts = serde_json::Map::new();
    for (name, value) in fields.iter_mut() {
        if let Some(list) = value.as_array_mut().filter(|list| list.len() > KEPT) {
            counts.insert(format!("{name}_count"), list.len().into());
            list.truncate(KEPT);
        }
    }
    fields.extend(counts);
}

/// Waits for the end of `process` while `reading` goes on; whether that has come to its end too.
async fn until_ended<T>(
    process: impl Future<Output = T>,
    mut reading: Pin<&mut impl Future>,
) -> (T, bool) {
    let mut process = std::pin::pin!(process);
    let mut is_read = false;
    loop {
        tokio::select! {
            ended = &mut process => return (ended, is_read),
            _ = &mut reading, if !is_read => is_read = true,
        }
    }
}

/// Waits for its end, and does what is wished meanwhile.
async fn wait(
    child: &mut Child,
    mut wish: watch::Receiver<Wish>,
    family: &Family,
) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            changed = wish.changed() => {
                if changed.is_err() {
                    return child.wait().await;
                }
            }
        }
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(number) = number else { continue };
        let wished = *wish.borrow();
        let signal = match wished {
            Wish::GoOn => continue,
            Wish::Stop => Signal::TERM,
            Wish::StopLate => Signal::USR2,
            Wish::Die => {
                family.kill();
                continue;
            }
        };
        // It may have ended in this moment; its number is its own until it was waited for.
        _ = kill_process(number, signal);
    }
}

/// Hands on line after line. Of longer ones than are read, nothing.
async fn lines(stream: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let (mut line, mut too_long) = (Vec::new(), false);
    loop {
        let Ok(part) = reader.fill_buf().await else { return };
        if part.is_empty() {
            break;
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(part.len());
        too_long |= line.len() + length > LONGEST_LINE;
        if !too_long {
            line.extend_from_slice(&part[..length]);
        }
        let read = end.map_or(length, |end| end + 1);
        reader.consume(read);
        if end.is_some() {
            if !too_long {
                take(&line);
            }
            line.clear();
            too_long = false;
        }
    }
    if !too_long && !line.is_empty() {
        take(&line);
    }
}

/// The message of an error event, with its causes and its hint.
fn error(event: &serde_json::Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let causes =
        event["causes"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    let mut words = causes.fold(text("message"), |words, cause| format!("{words}: {cause}"));
    let hint = text("hint");
    if !hint.is_empty() {
        words.push_str(&format!(" ({hint})"));
    }
    shortened(&words)
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MOST_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The last that was said.
#[derive(Debug, Default)]
struct Tail(String);

impl Tail {
    fn add(&mut self, line: &[u8]) {
        let line = shortened(&String::from_utf8_lossy(line));
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(&line);
        while self.0.len() > MOST_ERROR {
            let rest = self.0.find('\n').map_or(String::new(), |end| self.0[end + 1..].to_owned());
            self.0 = rest;
        }
    }

    fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_script(
        script: &str,
        wish: watch::Receiver<Wish>,
    ) -> (Ending, Vec<serde_json::Value>) {
        let env = Environment::from_process();
        let args = ["-c", script].map(str::to_owned);
        let mut said = Vec::new();
        let mut command = command(Path::new("/bin/sh"), &args, &env, Path::new("/tmp"));
        let keep = |output| match output {
            Output::Progress(progress) => said.push(progress),
            Output::Event(_) => {}
        };
        let (ending, lingering) = run(&mut command, wish, ExitLimits::default(), keep).await;
        assert!(lingering.is_none());
        (ending, said)
    }

    #[tokio::test]
    async fn what_it_says_is_understood() {
        let (_keep, wish) = watch::channel(Wish::GoOn);
        let (ending, said) = run_script(
            r#"echo '{"event":"progress","done":1}'; echo noise; echo '{"event":"summary","files":3}'
               echo '{"event":"error","message":"no","causes":["why"],"hint":"try"}'; exit 4"#,
            wish.clone(),
        )
        .await;
        assert_eq!((ending.exit_code, ending.error.as_str()), (Some(4), "no: why (try)"));
        assert_eq!(said.len(), 1);
        assert_eq!(ending.said, [serde_json::json!({ "event": "summary", "files": 3 })]);
        let (ending, _) = run_script("echo one >&2; echo two >&2; exit 1", wish.clone()).await;
        assert_eq!(ending.error, "one\ntwo");
        let (ending, _) = run_script("echo fine >&2", wish.clone()).await;
        assert_eq!((ending.exit_code, ending.error.as_str()), (Some(0), ""));
        let none = run(
            &mut command(Path::new("/nowhere"), &[], &Environment::default(), Path::new("/")),
            wish,
            ExitLimits::default(),
            |_| {},
        )
        .await
        .0;
        assert!(none.exit_code.is_none() && none.error.contains("cannot start the process"));
    }

    #[tokio::test]
    async fn however_much_it_says() {
        let (_keep, wish) = watch::channel(Wish::GoOn);
        let script = r#"head -c 50000000 /dev/zero | tr '\0' x; echo; head -c 50000000 /dev/zero >&2
                        echo '{"event":"progress"}'; echo last >&2; exit 1"#;
        let (ending, said) = run_script(script, wish).await;
        assert_eq!(said.len(), 1);
        assert!(ending.error.len() <= MOST_ERROR, "{}", ending.error.len());
    }

    #[tokio::test]
    async fn it_is_asked_and_then_killed() {
        let (send, wish) = watch::channel(Wish::GoOn);
        let asked = run_script("trap 'exit 130' TERM; while :; do sleep 0.05; done", wish.clone());
        let ask = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            send.send(Wish::Stop).unwrap();
        };
        let ((ending, _), ()) = tokio::join!(asked, ask);
        assert_eq!(ending.exit_code, Some(130));
        let (send, wish) = watch::channel(Wish::GoOn);
        // A session of its own holds the output open: it is killed as well.
        let deaf = run_script("trap '' TERM; setsid sleep 1000 & sleep 1000", wish);
        let kill = async {
            for wish in [Wish::Stop, Wish::Die] {
                tokio::time::sleep(Duration::from_millis(300)).await;
                send.send(wish).unwrap();
            }
        };
        let ((ending, _), ()) = tokio::join!(deaf, kill);
        assert_eq!(ending.exit_code, None);
    }
}
