//! The control plane with real servers.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Place`]: a configuration, and the program on it |
//! | `aquarium.rs` | an example with servers of all kinds, two clouds and alerts |
//! | `asked.rs` | restores put together by questions at a terminal |
//! | `catalog.rs` | the catalog in PostgreSQL |
//! | `daemon.rs` | the daemon with databases, killed in the middle |
//! | `edited.rs` | a configuration that is edited between plan and confirmation |
//! | `examples.rs` | the examples, as they are shipped |
//! | `found.rs` | collections, tables and keys that `find` lists |
//! | `groups.rs` | databases that are written one after the other, restored to one moment |
//! | `hosts.rs` | machines that want to execute the same job |
//! | `loans.rs` | one MongoDB database by hand: compression, limits, cleanup, audit |
//! | `logical_members.rs` | groups with members by the logical method of PostgreSQL |
//! | `soak/` | the daemon with an example and faults: which notifications arrive |
//! | `server_clocks.rs` | offsets of the clocks of database servers |
//! | `week.rs` | the lines for crontab of an example, and restores of what they made |

mod aquarium;
mod asked;
mod catalog;
mod daemon;
mod edited;
mod examples;
mod found;
mod groups;
mod hosts;
mod loans;
mod logical_members;
mod server_clocks;
mod soak;
mod week;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use backup_core::clock::{Clock as _, SystemClock};
use jiff::Timestamp;

use crate::support::cli::Cli;
use crate::support::postgres::hand_over;
use crate::support::process::{Outcome, run};
use crate::support::running::Running;

/// The time.
fn now() -> Timestamp {
    SystemClock.now()
}

/// A configuration, and a home of the program.
struct Place {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Place {
    /// With `config`, in which, and in the values of variables, `ROOM` stands for the directory of
    /// this place.
    fn new(config: &str, environment: &[(&str, String)]) -> Self {
        let room = tempfile::tempdir().unwrap();
        hand_over(room.path());
        let dir = room.path().to_str().unwrap().to_owned();
        let own = [("HOME", dir.clone()), ("BACKUP_CONFIG", format!("{dir}/backup.toml"))];
        let environment: BTreeMap<String, String> = own
            .iter()
            .chain(environment)
            .map(|(name, value)| ((*name).to_owned(), value.replace("ROOM", &dir)))
            .collect();
        std::fs::write(room.path().join("backup.toml"), config.replace("ROOM", &dir)).unwrap();
        Self { cli: Cli::remote("", "key", environment), room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.cli.command(&[], arguments)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments).stdout(Stdio::null()))
    }

    /// Runs with success.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments).succeeded();
        format!("{}{}", outcome.text(), outcome.stderr)
    }

    /// Fails with that exit code and a hint.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert_eq!(outcome.code, code, "{arguments:?} {text}");
        assert!(text.contains("Hint:"), "{text}");
        text
    }
}
