//! The program as a child whose memory and processor time the kernel measures.

use std::fs;

use backup_core::testing::tool;

use super::cli::Cli;
use super::process::{Outcome, run};
use super::restic::text;

/// Most memory of a command, in KiB.
const MEMORY: f64 = 512.0 * 1024.0;
/// Most processor time of a command, in seconds.
const SECONDS: f64 = 60.0;

/// Runs the program to its end. Fails if it takes more than 512 MiB of memory or 60 seconds of
/// processor time, or panics.
#[track_caller]
pub(crate) fn measured(cli: &Cli, arguments: &[&str]) -> Outcome {
    let note = tempfile::NamedTempFile::new().unwrap();
    let time = tool("time");
    let wrapper = [text(&time), "-f", "%M %U %S", "-o", text(note.path())];
    let done = run(&mut cli.command(&wrapper, arguments));
    let note = fs::read_to_string(note.path()).unwrap();
    let line = note.lines().last().expect("time writes a line");
    let used: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [kilobytes, user, system] = used[..] else { panic!("{line}") };
    assert!(kilobytes < MEMORY, "{kilobytes} KB: {done}");
    assert!(user + system < SECONDS, "{user} s and {system} s: {done}");
    assert!(!done.stderr.contains("panicked"), "{done}");
    assert!(done.code >= 0, "a signal ended the program: {done}");
    done
}
