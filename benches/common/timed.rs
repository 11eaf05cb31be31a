//! One command under GNU time.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::{Result, tools};

/// What a command cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cost {
    /// User and system time of it and its children, seconds.
    pub cpu: f64,
    /// CPU seconds of the kernel.
    pub system: f64,
    /// Wall-clock time, seconds.
    pub wall: f64,
    /// Largest resident set of a process, megabytes.
    pub peak: f64,
    /// Bytes that are stored afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// Requests that a store has had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// Runs a shell command with `place` as its home, and more variables; fails if it fails.
///
/// # Errors
/// It fails, or GNU time is not there.
pub fn timed(script: &str, place: &Path, variables: &[(String, String)]) -> Result<Cost> {
    let time = tools::tool("time")?;
    // What the step before left in memory is written before the clock starts: a step that syncs
    // would pay for it.
    rustix::fs::sync();
    let report = place.join("time");
    let mut command = Command::new(time);
    command
        .args(["-f", "%U %S %e %M", "-o"])
        .arg(&report)
        .args(["bash", "-o", "pipefail", "-c", script]);
    run(command.env("HOME", place).envs(variables.iter().cloned()), script)?;
    let text = std::fs::read_to_string(&report)?;
    let [user, system, wall, kilobytes] = numbers(&text, "GNU time")?;
    let peak = kilobytes * 1024.0 / 1e6;
    Ok(Cost { cpu: user + system, system, wall, peak, ..Cost::default() })
}

/// Runs a shell command that is not measured.
///
/// # Errors
/// It fails.
pub fn untimed(script: &str, place: &Path, variables: &[(String, String)]) -> Result<String> {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]);
    run(command.env("HOME", place).envs(variables.iter().cloned()), script)
}

fn run(command: &mut Command, script: &str) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let said =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(format!("{script}\nfailed: {}{}", said.0, said.1).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The `N` numbers that `program` printed.
///
/// # Errors
/// The output has other words than `N` numbers.
pub fn numbers<const N: usize>(text: &str, program: &str) -> Result<[f64; N]> {
    let parsed: std::result::Result<Vec<f64>, _> =
        text.split_whitespace().map(str::parse).collect();
    let exact = parsed.ok().and_then(|numbers| numbers.try_into().ok());
    exact.ok_or_else(|| format!("cannot parse the output of {program}: {text:?}").into())
}
