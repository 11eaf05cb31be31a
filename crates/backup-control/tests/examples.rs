//! Every file under `examples/` must be understood: what we show must work.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

use std::path::{Path, PathBuf};

use backup_control::config;
use backup_control::environment::Environment;

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn all_examples_are_understood() {
    let files = examples();
    assert!(!files.is_empty());
    for file in files {
        let loaded =
            config::load(&file, &Environment::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(!loaded.config.jobs.is_empty(), "{}", file.display());
    }
}

#[test]
fn all_examples_can_be_printed() {
    let files: Vec<String> = examples()
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut names = config::EXAMPLES.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(files, names);
}

/// The commented keys of the example are keys too: uncommented one at a time they must be
/// understood.
#[test]
fn commented_keys_are_understood() {
    let env = Environment::default();
    let is_key = |line: &str| line.starts_with("# ") && line.contains(" = ");
    let commented: Vec<&str> = config::EXAMPLE.lines().filter(|line| is_key(line)).collect();
    assert!(commented.len() >= 3, "{commented:?}");
    for line in commented {
        // Only one of the pass phrase keys may be there.
        let without = match line.contains("passphrase") {
            true => config::EXAMPLE.replace("passphrase_file =", "# passphrase_file ="),
            false => config::EXAMPLE.to_owned(),
        };
        // A section that is commented too comes along.
        let section = config::EXAMPLE
            .lines()
            .take_while(|other| *other != line)
            .filter(|line| !line.is_empty());
        let section = section
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .find(|line| line.trim_start_matches("# ").starts_with('['));
        let without = match section.filter(|section| section.starts_with("# [")) {
            Some(section) => without.replace(section, &section[2..]),
            None => without,
        };
        let text = without.replace(line, &line[2..]);
        config::parse(&text, Path::new("example.toml"), &env)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}
