//! What users see: every verb is run as a program in an environment of its own, and text, JSON and exit code are
//! compared with stored snapshots under `snapshots/`.
//!
//! To accept changes: `INSTA_UPDATE=always cargo test -p backup-cli --test main`, then read the difference.
//!
//! | file | what is in it |
//! |---|---|
//! | `common/` | the environment, and what is replaced before comparing (and why) |
//! | `help.rs` | the help of every verb |
//! | `errors.rs` | mistakes of users, with hints and exit codes |
//! | `looking.rs` | list, show, ls, diff, stats: text and JSON |
//! | `running.rs` | init, run, verify, check |
//! | `restoring.rs` | restore and export |
//! | `configured.rs` | configuration files |
//! | `quickstart.rs` | the first command of the README, twice |

mod common;

mod configured;
mod errors;
mod help;
mod looking;
mod quickstart;
mod restoring;
mod running;
