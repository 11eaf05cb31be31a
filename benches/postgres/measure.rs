//! A command, and what it and the server have taken.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backup_benches::cpu_of_children;

use crate::Result;
use crate::server::Server;
use backup_benches::tools::tool;

/// The server has the time of a session when that has ended.
const ENDING: Duration = Duration::from_millis(500);

/// What a step has taken.
#[derive(Debug)]
pub(crate) struct Cost {
    client: f64,
    server: f64,
    wall: f64,
    /// Largest resident set of the client, megabytes.
    pub(crate) peak: f64,
}

impl Cost {
    /// CPU seconds of both sides.
    pub(crate) fn sum(&self) -> f64 {
        self.client + self.server
    }

    pub(crate) fn row(&self, title: &str) -> String {
        let Self { client, server, wall, peak } = self;
        format!(
            "{title:<34}{client:>10.2}{server:>10.2}{:>10.2}{wall:>10.2}{peak:>10.0}",
            self.sum()
        )
    }
}

/// Runs a command to its end under GNU time, which writes into `scratch`.
pub(crate) fn cost(command: &Command, server: &Server, scratch: &Path) -> Result<Cost> {
    let report = scratch.join("time");
    let mut timed = Command::new(tool("time")?);
    timed.args(["-f", "%M", "-o"]).arg(&report).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        timed.env(name, value.unwrap_or_default());
    }
    let (before, children, clock) =
        (cpu_of_children(server.id())?, cpu_of_children("self")?, Instant::now());
    let output = timed.stdin(Stdio::null()).stdout(Stdio::piped()).output()?;
    let wall = clock.elapsed().as_secs_f64();
    if !output.status.success() {
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        return Err(format!("{:?} failed: {said}", command.get_program()).into());
    }
    std::thread::sleep(ENDING);
    let kilobytes: f64 = std::fs::read_to_string(report)?.trim().parse()?;
    let (server, client) =
        (cpu_of_children(server.id())? - before, cpu_of_children("self")? - children);
    Ok(Cost { client, server, wall, peak: kilobytes * 1024.0 / 1e6 })
}
