//! Processes that report their final error and do not exit.
//!
//! A thread in a system call that no signal interrupts, such as a read from a frozen file system,
//! keeps a process from exiting. Its run is over nonetheless: [`child::run`](super::child::run)
//! returns it with the exit code of the error, and the process as [`Lingering`].

use std::time::Duration;

use backup_process::Family;
use tokio::process::Child;
use tokio::sync::watch;

/// Time limits for the exit of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExitLimits {
    /// Time from the final error until the run counts as ended.
    pub(super) grace: Duration,
    /// Time from then on until the process is killed with everything it started.
    pub(super) kill: Duration,
}

impl Default for ExitLimits {
    fn default() -> Self {
        Self { grace: Duration::from_secs(30), kill: Duration::from_secs(300) }
    }
}

/// The exit code that an event announces; `None` if the process continues after the event, as
/// after the failure of one of several jobs.
pub(super) fn announced(event: &serde_json::Value) -> Option<u8> {
    if event["final"] != true {
        return None;
    }
    event["exit_code"].as_u64().and_then(|code| u8::try_from(code).ok())
}

/// Returns the announced exit code once `grace` has passed since its announcement. Without an
/// announcement, never returns.
pub(super) async fn overdue(mut code: watch::Receiver<Option<u8>>, grace: Duration) -> u8 {
    let announced = code.wait_for(Option::is_some).await.map(|code| *code);
    let Ok(Some(code)) = announced else { return std::future::pending().await };
    tokio::time::sleep(grace).await;
    code
}

/// A process whose run is over and that still exists.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) pid: u32,
    child: Child,
    family: Family,
    kill: Duration,
}

impl Lingering {
    /// `None` if the process exited in this moment.
    pub(super) fn new(mut child: Child, mut family: Family, kill: Duration) -> Option<Self> {
        match child.try_wait() {
            Ok(Some(_)) => {
                family.release();
                None
            }
            _ => child.id().map(|pid| Self { pid, child, family, kill }),
        }
    }

    /// Waits until the process has exited, and kills it when its time is over.
    pub(super) async fn wait(mut self) {
        if tokio::time::timeout(self.kill, self.child.wait()).await.is_err() {
            self.family.kill();
            // A process that cannot be waited for is gone.
            _ = self.child.wait().await;
        }
        self.family.release();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use backup_control::environment::Environment;

    use super::super::child::{self, Wish};
    use super::*;

    const LIMITS: ExitLimits =
        ExitLimits { grace: Duration::from_millis(300), kill: Duration::from_secs(2) };

    async fn run(script: &str) -> (super::super::items::Ending, Option<Lingering>) {
        let (_keep, wish) = watch::channel(Wish::GoOn);
        let env = Environment::from_process();
        let args = ["-c", script].map(str::to_owned);
        let mut command = child::command(Path::new("/bin/sh"), &args, &env, Path::new("/tmp"));
        child::run(&mut command, wish, LIMITS, |_| {}).await
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn stopped_process_ends_the_run_with_the_code_of_the_error() {
        let since = Instant::now();
        let (ending, lingering) =
            run(r#"echo '{"event":"error","message":"frozen","exit_code":12,"final":true}'
               trap '' TERM INT HUP USR2; kill -STOP $$"#)
            .await;
        assert_eq!((ending.exit_code, ending.error.as_str()), (Some(12), "frozen"));
        assert!(since.elapsed() < LIMITS.kill, "{:?}", since.elapsed());
        let lingering = lingering.expect("the process exists");
        let pid = lingering.pid;
        assert!(exists(pid));
        lingering.wait().await;
        assert!(!exists(pid) && since.elapsed() >= LIMITS.kill, "{:?}", since.elapsed());
    }

    #[tokio::test]
    async fn process_may_continue_after_an_error_that_is_not_final() {
        let (ending, lingering) =
            run(r#"echo '{"event":"error","message":"one job","exit_code":12}'
               sleep 1; exit 1"#)
            .await;
        assert_eq!((ending.exit_code, ending.error.as_str()), (Some(1), "one job"));
        assert!(lingering.is_none());
    }
}
