//! The files of `tests/corpus` are the output of their generator. `UPDATE_DOCS=1` writes them.

use std::fs;

use crate::support::cli::workspace;
use crate::support::corpus::files;

#[test]
fn corpus_equals_the_output_of_the_generator() {
    let dir = workspace().join("tests/corpus");
    let mut names = Vec::new();
    for (name, expected) in files() {
        names.push(name.to_owned());
        let path = dir.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let line = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
        assert!(found == expected, "{name} differs in line {line:?}: run with UPDATE_DOCS=1");
        assert!(expected.lines().count() >= 10, "{name}");
    }
    let stored = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let others: Vec<_> =
        stored.filter(|name| !names.iter().any(|known| **known == **name)).collect();
    assert!(others.is_empty(), "{others:?}");
}
