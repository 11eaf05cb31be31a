//! What the system says of processes.

use std::ops::Range;

use crate::Result;

/// What `backup` sets for itself (`crates/backup-cli/src/allocator.rs`): for steps of ours that are
/// not that program.
pub const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "67108864"),
];

/// User and system time of a process or a thread, in seconds. `id` is its number, or `self`, or
/// `PROCESS/task/THREAD`.
///
/// # Errors
/// There is no such process.
pub fn cpu_of(id: impl std::fmt::Display) -> Result<f64> {
    times(id, 11..13)
}

/// The same without system time.
///
/// # Errors
/// There is no such process.
pub fn user_of(id: impl std::fmt::Display) -> Result<f64> {
    times(id, 11..12)
}

/// The same of its children that have ended.
///
/// # Errors
/// There is no such process.
pub fn cpu_of_children(id: impl std::fmt::Display) -> Result<f64> {
    times(id, 13..15)
}

/// The sum of some fields of `/proc/ID/stat` behind the name, in seconds.
fn times(id: impl std::fmt::Display, fields: Range<usize>) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name of the program, in parentheses, may hold anything.
    let rest = text.rsplit_once(')').ok_or("no name in /proc")?.1;
    let mut ticks = 0.0;
    for text in rest.split_whitespace().take(fields.end).skip(fields.start) {
        ticks += text.parse::<f64>().map_err(|_| "no times in /proc")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a hundred or so")]
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(ticks / per_second)
}

/// The largest resident set of this process so far, megabytes.
///
/// # Errors
/// The system does not tell.
pub fn peak() -> Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "less than 2⁵² kilobytes")]
    let kilobytes = kilobytes("VmHWM")? as f64;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// A line of this process's status.
///
/// # Errors
/// It has no such line.
pub fn kilobytes(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or(format!("no {name} in /proc/self/status"))?;
    Ok(number.parse()?)
}
