//! No text that is stored or received becomes a path by accident: every `join` with an argument
//! that is not a literal stands in `joins.txt`, with the reason why it is safe.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ALLOWED: &str = include_str!("joins.txt");

/// Source files without those of tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.ends_with("tests") || path.ends_with("testing");
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            found.push(path);
        }
    }
}

/// The arguments of the calls of `join` in a text, without white space beside brackets.
fn arguments(source: &str) -> Vec<String> {
    let production = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let calls = production.match_indices(".join(").map(|(at, call)| &production[at + call.len()..]);
    let argument = |text: &str| {
        let mut depth = 1;
        let end = text.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let words: Vec<&str> = text[..end.unwrap_or(0)].split_whitespace().collect();
        words.join(" ")
    };
    calls.map(argument).collect()
}

/// True for a literal, a constant, or no argument (of a thread).
fn is_constant(argument: &str) -> bool {
    let plain = argument.trim_end_matches(".as_bytes()").rsplit("::").next().unwrap_or_default();
    let is_name = plain.len() > 1 && plain.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let literal = argument.trim_start_matches(['&', 'b']);
    let is_literal = |quote: char| {
        literal.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).is_some()
    };
    argument.is_empty() || is_name || is_literal('"') || is_literal('\'')
}

#[test]
fn joins_of_variable_text_are_listed_with_a_reason() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(top.join("crates")).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    assert!(files.len() > 300, "{} files", files.len());
    let mut found = BTreeSet::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(top).unwrap().display().to_string();
        let variable = arguments(&source).into_iter().filter(|argument| !is_constant(argument));
        found.extend(variable.map(|argument| format!("{name} | {argument}")));
    }
    let line = |line: &str| {
        let (call, reason) = line.rsplit_once(" | ").expect("call and reason");
        assert!(reason.len() > 5, "{line}");
        call.to_owned()
    };
    let allowed: BTreeSet<String> = ALLOWED.lines().map(line).collect();
    let new: Vec<_> = found.difference(&allowed).collect();
    assert!(
        new.is_empty(),
        "use a literal, or a type that proves the text a safe name, and add a line to \
         tests/scenarios/joins.txt: {new:#?}"
    );
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(gone.is_empty(), "remove from tests/scenarios/joins.txt: {gone:#?}");
}

#[test]
fn arguments_are_found_and_told_apart() {
    let source = "a.join(\"x\").join(NAME).join(\n    &name(\n 1),\n).join(b'x') worker.join()";
    let found = arguments(source);
    assert_eq!(found, ["\"x\"", "NAME", "&name( 1),", "b'x'", ""]);
    let variable: Vec<_> = found.iter().filter(|argument| !is_constant(argument)).collect();
    assert_eq!(variable, ["&name( 1),"]);
}
