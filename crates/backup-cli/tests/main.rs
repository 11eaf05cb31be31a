//! What users see: every verb is run as a program in an environment of its own, and text, JSON and
//! exit code are compared with stored snapshots under `snapshots/`.
//!
//! To accept changes: `INSTA_UPDATE=always cargo test -p backup-cli --test main`, then read the
//! difference.
//!
//! | file | what is in it |
//! |---|---|
//! | `common/` | the environment, and what is replaced before comparing (and why) |
//! | `exposed.rs` | files with secrets that other users can read |
//! | `help.rs` | the help of every verb |
//! | `alerts.rs` | what is wrong and who is told |
//! | `audit.rs` | what is recorded of what was done |
//! | `errors.rs` | mistakes of users, with hints and exit codes |
//! | `logs.rs` | captured logs: shown and refused |
//! | `groups.rs` | jobs that are run together and restored together |
//! | `jobs.rs` | hooks, windows, limits, what is expected |
//! | `hosts.rs` | host names that snapshots record |
//! | `looking.rs` | list, show, ls, diff, stats: text and JSON |
//! | `running.rs` | init, run, verify, check |
//! | `runs.rs` | status, retry, logs run: what is remembered of runs |
//! | `schedule.rs` | schedule: what happens when |
//! | `reporting.rs` | report |
//! | `restoring.rs` | restore and export |
//! | `configured.rs` | configuration files |
//! | `copying.rs` | copy, archive, doctor |
//! | `keeping.rs` | hold, release, forget, undo-forget, cleanup, prune |
//! | `helpers.rs` | programs and key files that deliver pass phrases |
//! | `keys.rs` | key |
//! | `mending.rs` | repair |
//! | `names.rs` | misspelt names, mistakes of a configuration, states that are shown |
//! | `notify.rs` | notify: channels, and what waits for them |
//! | `unrecorded.rs` | commands that cannot record what they did |
//! | `several.rs` | several repositories in one configuration |
//! | `full_disk.rs` | repositories on a disk without room |
//! | `zones.rs` | time zones, also on machines without a database of them |
//! | `quickstart.rs` | the first command of the README, twice |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails as tests do")]

mod common;

mod alerts;
mod audit;
mod configured;
mod copying;
mod errors;
mod exposed;
mod full_disk;
mod groups;
mod help;
mod helpers;
mod hostile;
mod hosts;
mod jobs;
mod keeping;
mod keys;
mod logs;
mod looking;
mod mending;
mod names;
mod notify;
mod quickstart;
mod reporting;
mod restoring;
mod running;
mod runs;
mod schedule;
mod several;
mod unavailable;
mod unrecorded;
mod zones;

#[test]
fn no_file_is_forgotten() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let named = include_str!("main.rs");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            assert!(
                named.contains(&format!("mod {name};")),
                "tests/{name}.rs is not part of any test"
            );
        }
    }
}
