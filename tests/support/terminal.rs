//! A terminal with somebody at it: a program runs in it, keys are pressed, and what can be seen is
//! looked at.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pty_process::blocking::Pty;

/// How long something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: u16 = 50;
const COLUMNS: u16 = 160;

/// Keys that are no letters.
pub(crate) const ENTER: &str = "\r";
pub(crate) const ESCAPE: &str = "\x1b";
pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const DOWN: &str = "\x1b[B";

/// What can be seen, and whether anything more will be.
struct Seen {
    screen: Mutex<(vt100::Parser, bool)>,
    changed: Condvar,
}

/// A terminal.
pub(crate) struct Terminal {
    keys: Arc<Pty>,
    child: Child,
    seen: Arc<Seen>,
}

impl Terminal {
    /// Runs `command` in a new terminal.
    pub(crate) fn run(command: Command) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(ROWS, COLUMNS)).unwrap();
        let mut command = pty_process::blocking::Command::from(command);
        // What the command was given before is replaced by the terminal.
        command = command.env("TERM", "xterm-256color");
        let child = command.spawn(pts).unwrap();
        let size = |length| NonZeroU16::new(length).unwrap();
        let screen = vt100::Parser::new(size(ROWS), size(COLUMNS), 1_000);
        let seen = Arc::new(Seen { screen: Mutex::new((screen, false)), changed: Condvar::new() });
        let keys = Arc::new(pty);
        let (from, to) = (Arc::clone(&keys), Arc::clone(&seen));
        std::thread::spawn(move || look(&from, &to));
        Self { keys, child, seen }
    }

    /// Waits until `text` can be seen.
    #[track_caller]
    pub(crate) fn sees(&self, text: &str) -> &Self {
        let seen = self.wait(|screen| screen.contains(text));
        assert!(seen.contains(text), "{text:?} is not seen:\n{seen}");
        self
    }

    /// What can be seen.
    pub(crate) fn screen(&self) -> String {
        self.seen.screen.lock().unwrap().0.screen().contents()
    }

    /// Presses keys.
    pub(crate) fn types(&self, keys: &str) -> &Self {
        (&*self.keys).write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until the program has ended; says with which code, and what can be seen then.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (i32, String) {
        let ended = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > ended => panic!("it does not end:\n{}", self.screen()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let screen = self.wait(|_| false);
        assert!(!self.seen.screen.lock().unwrap().0.screen().hide_cursor(), "the cursor is gone");
        (status.code().unwrap_or(-1), screen)
    }

    /// Asks the program to end.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until something is seen, or nothing more will be.
    fn wait(&self, is_enough: impl Fn(&str) -> bool) -> String {
        let guard = self.seen.screen.lock().unwrap();
        let goes_on =
            |seen: &mut (vt100::Parser, bool)| !seen.1 && !is_enough(&seen.0.screen().contents());
        let (guard, _) = self.seen.changed.wait_timeout_while(guard, PATIENCE, goes_on).unwrap();
        guard.0.screen().contents()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Reads until nobody writes any more, which a terminal says by an error.
fn look(pty: &Pty, seen: &Seen) {
    let mut buffer = [0; 4096];
    loop {
        let read = (&*pty).read(&mut buffer).unwrap_or(0);
        let mut screen = seen.screen.lock().unwrap();
        match read {
            0 => screen.1 = true,
            some => screen.0.process(&buffer[..some]),
        }
        seen.changed.notify_all();
        if read == 0 {
            return;
        }
    }
}
