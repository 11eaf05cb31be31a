//! A program with everything that it starts.
//!
//! A process group loses members: `setsid` and daemons leave it. On Linux a program is therefore
//! started with a random token in its environment, which every process that it starts inherits.
//! [`Family`] finds its members by that token in `/proc/PID/environ`. A process that clears its
//! environment, or runs as another user, is found by its process group only.

use std::ffi::OsString;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// The environment variable with the tokens of a process, separated by colons: one for each
/// ancestor that was started as a family.
const VARIABLE: &str = "BACKUP_PROCESS_FAMILY";

/// A program and everything that it starts. Dropping it kills all of it with SIGKILL, unless it
/// was [released](Self::release). Outside Linux, it consists of the process group only.
#[derive(Debug)]
pub struct Family {
    token: String,
    group: Option<Pid>,
    is_released: bool,
}

impl Family {
    /// Prepares `command`, which has not been started. Its environment must be complete.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let token = format!("{:032x}", rand::random::<u128>());
        let mut tokens = std::env::var_os(VARIABLE).unwrap_or_default();
        if !tokens.is_empty() {
            tokens.push(":");
        }
        tokens.push(OsString::from(&token));
        command.env(VARIABLE, tokens);
        Self { token, group: None, is_released: false }
    }

    /// Adds the process group that `child` leads. The command must have set `process_group(0)`.
    #[must_use]
    pub fn led_by(mut self, child: &Child) -> Self {
        self.group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        self
    }

    /// Lets everything that still exists continue.
    pub fn release(&mut self) {
        self.is_released = true;
    }

    /// Kills every member with SIGKILL. Returns after at most a second, also if a member cannot
    /// be killed.
    pub fn kill(&self) {
        if let Some(group) = self.group {
            // All members may have exited.
            _ = kill_process_group(group, Signal::KILL);
        }
        #[cfg(target_os = "linux")]
        members::kill(&self.token);
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if !self.is_released {
            self.kill();
        }
    }
}

#[cfg(target_os = "linux")]
mod members {
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// Searches at most: a member may start another process before it is killed.
    const ROUNDS: usize = 100;
    /// Time for killed processes to exit, before the next search.
    const PAUSE: Duration = Duration::from_millis(5);
    /// Longest time that the caller waits.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Kills every process with the token.
    pub(super) fn kill(token: &str) {
        let token = token.to_owned();
        let (done, is_done) = mpsc::channel();
        // Reading `/proc/PID/environ` may block if the process is stuck in the kernel.
        let search = std::thread::Builder::new().spawn(move || {
            for _ in 0..ROUNDS {
                let found = with(&token);
                if found.is_empty() {
                    break;
                }
                for process in found {
                    // The process may have exited.
                    _ = pidfd_send_signal(process, Signal::KILL);
                }
                std::thread::sleep(PAUSE);
            }
            // The caller may have stopped waiting.
            _ = done.send(());
        });
        if search.is_ok() {
            _ = is_done.recv_timeout(PATIENCE);
        }
    }

    /// The processes with the token.
    fn with(token: &str) -> Vec<OwnedFd> {
        let own = std::process::id();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has_token = |number: u32| {
            let pid = Pid::from_raw(i32::try_from(number).ok()?)?;
            // Opened before the environment is read, so that a reused number is not signalled.
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let environment = std::fs::read(format!("/proc/{number}/environ")).ok()?;
            let is_member = environment.windows(token.len()).any(|bytes| bytes == token.as_bytes());
            is_member.then_some(process)
        };
        numbers.filter(|number| *number != own).filter_map(has_token).collect()
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a shell that writes the process ids of a child, a session leader and an orphan in a
    /// session of its own into `dir`.
    async fn start(dir: &Path) -> (Family, Child, Vec<u32>) {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "sh -c 'echo $$ > child; exec sleep 300' &
             setsid sh -c 'echo $$ > session; exec sleep 300' &
             (setsid sh -c 'echo $$ > orphan; exec sleep 300' &)
             wait",
        ]);
        command.current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
        let family = Family::of(&mut command);
        let child = command.spawn().unwrap();
        let since = Instant::now();
        let pids = loop {
            let read = |name: &str| {
                std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u32>().ok()
            };
            let pids: Vec<u32> =
                ["child", "session", "orphan"].into_iter().filter_map(read).collect();
            if pids.len() == 3 {
                break pids;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{pids:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        (family, child, pids)
    }

    fn is_running(pid: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // An orphan that was killed is a zombie until its new parent has waited for it.
        status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim().starts_with('Z'))
    }

    async fn until_gone(pids: &[u32]) {
        let since = Instant::now();
        while pids.iter().any(|pid| is_running(*pid)) {
            assert!(since.elapsed() < Duration::from_secs(5), "{pids:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn dropped_family_loses_sessions_and_orphans() {
        let dir = tempfile::tempdir().unwrap();
        let (family, mut child, pids) = start(dir.path()).await;
        assert!(pids.iter().all(|pid| is_running(*pid)));
        drop(family);
        assert!(!child.wait().await.unwrap().success());
        until_gone(&pids).await;
    }

    #[tokio::test]
    async fn released_family_continues() {
        let dir = tempfile::tempdir().unwrap();
        let (mut family, _child, pids) = start(dir.path()).await;
        family.release();
        let token = family.token.clone();
        drop(family);
        assert!(pids.iter().all(|pid| is_running(*pid)));
        members::kill(&token);
        until_gone(&pids).await;
    }
}
