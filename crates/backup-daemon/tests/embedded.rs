//! The example of a service that holds a scheduler.

use std::path::Path;
use std::process::Command;

use crate::common::{CONFIG, Place, program};

#[test]
fn the_example_makes_a_backup() {
    let place = Place::new(CONFIG);
    let example =
        Path::new(env!("CARGO_BIN_EXE_backupd")).with_file_name("examples").join("embedded");
    if !example.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        assert!(
            build
                .args(["build", "-p", "backup-daemon", "--example", "embedded"])
                .status()
                .unwrap()
                .success()
        );
    }
    let file = place.path("backup.toml");
    let args = [file.to_str().unwrap(), program().to_str().unwrap(), "docs"];
    let output = place.prepare(&example).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = place.json(&["list", "--job", "docs", "--tier", "manual"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1);
    let output = place.prepare(&example).args([args[0], args[1], "none"]).output().unwrap();
    assert!(!output.status.success());
}
