//! What is shipped for managers of services and of containers.

use std::path::{Path, PathBuf};

fn shipped(dir: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(dir);
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn containers_run_as_nobody_special_and_write_only_where_they_must() {
    for (name, text) in shipped("kubernetes") {
        let count = |word: &str| text.matches(word).count();
        let containers = count("image: backup:latest");
        assert_eq!(count("readOnlyRootFilesystem: true"), containers, "{name}");
        assert_eq!(count("drop: [\"ALL\"]"), containers, "{name}");
        assert_eq!(count("runAsNonRoot: true"), containers, "{name}");
        assert_eq!(count("allowPrivilegeEscalation: false"), containers, "{name}");
    }
    let (_, text) = shipped("container").remove(0);
    let user = text.find("USER 10001:10001").unwrap();
    assert!(user < text.find("ENTRYPOINT").unwrap());
    // The Rust that the sources ask for.
    let asked = include_str!("../../../Cargo.toml").split("rust-version = \"").nth(1).unwrap();
    let asked = asked.split('"').next().unwrap();
    assert!(text.contains(&format!("FROM rust:{asked}-")), "{asked}");
}

/// What the manifests mount is a configuration that can be used.
#[test]
fn the_configuration_in_the_manifests_is_understood() {
    let manifests = shipped("kubernetes");
    let (_, text) = manifests.iter().find(|(name, _)| name == "config.yaml").unwrap();
    let (_, body) = text.split_once("backup.toml: |\n").unwrap();
    let toml: String = body.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    let config =
        backup_control::config::parse(&toml, Path::new("/etc/backup/backup.toml"), &Default::default()).unwrap();
    assert!(config.jobs.contains_key("crm") && config.schedule.cleanup.is_some());
}

mod needs_systemd_analyze {
    use std::process::Command;

    use super::*;

    #[test]
    fn units_are_sound() {
        let dir = tempfile::tempdir().unwrap();
        // The programs are not where they are installed: others that are there stand for them.
        let program = env!("CARGO_BIN_EXE_backupd");
        for (name, text) in shipped("systemd") {
            let text = text
                .replace("/usr/local/bin/backupd", program)
                .replace("/usr/local/bin/backup ", &format!("{program} "));
            std::fs::write(dir.path().join(name.replace('@', "@x")), text).unwrap();
        }
        let files: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 3);
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(files).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        // Of other units of this machine nothing is asked.
        let own = text.lines().filter(|line| line.contains(dir.path().to_str().unwrap()) || line.contains("backup"));
        assert_eq!(own.collect::<Vec<_>>(), Vec::<&str>::new(), "{text}");
        assert!(output.status.success(), "{text}");
    }
}
