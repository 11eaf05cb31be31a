//! One command under GNU time.

use std::fmt;
use std::path::Path;
use std::process::Command;

use backup_benches::Result;

/// What a command cost.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// User and system time of it and its children, seconds.
    pub(crate) cpu: f64,
    /// Wall-clock time, seconds.
    wall: f64,
    /// Largest resident set of a process, megabytes.
    peak: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} · {:.1} · {:.0}", self.cpu, self.wall, self.peak)
    }
}

/// Runs a shell command in `place`; fails if it fails.
pub(crate) fn run(script: &str, place: &Path) -> Result<Cost> {
    // What the step before left in memory is written before the clock starts: a step that syncs would pay for it.
    rustix::fs::sync();
    let report = place.join("time");
    let output = Command::new("time")
        .args(["-f", "%U %S %e %M", "-o"])
        .arg(&report)
        .args(["bash", "-o", "pipefail", "-c", script])
        .env("HOME", place)
        .env("RESTIC_PASSWORD", "bench")
        .env("BACKUP_PASSWORD", "bench")
        .output()?;
    if !output.status.success() {
        return Err(format!("{script}\nfailed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = std::fs::read_to_string(&report)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    match numbers[..] {
        [user, system, wall, kilobytes] => Ok(Cost { cpu: user + system, wall, peak: kilobytes * 1024.0 / 1e6 }),
        _ => Err(format!("GNU time wrote {text:?}").into()),
    }
}

/// The run with the median CPU time.
pub(crate) fn median(mut costs: Vec<Cost>) -> Option<Cost> {
    costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let middle = costs.len() / 2;
    costs.into_iter().nth(middle)
}
