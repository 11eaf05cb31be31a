//! What names of jobs, tiers and tags may look like. They become tags of snapshots, which stock
//! tools separate by commas, and our own tags are `name=value`.

use crate::error::{Error, Result};

/// The names of our own tags.
const RESERVED: [&str; 4] = ["job", "source", "type", "tier"];

/// Bytes of the longest name in the domain name system.
const MAX_HOST: usize = 253;

/// Checks the name of a job, a repository, a source or a tier; `what` says which.
pub(crate) fn check(what: &str, name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name:?} cannot be the name of a {what}"))
        .with_hint("use letters, digits, `-`, `_` and `.`"))
}

/// Checks the name of a host that snapshots record.
pub(crate) fn check_host(name: &str) -> Result<(), Error> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    if !name.is_empty() && name.len() <= MAX_HOST && !name.chars().any(is_odd) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name:?} cannot be the name of a host"))
        .with_hint(format!("use at most {MAX_HOST} bytes, and no spaces or control characters")))
}

/// Checks a tag that a user wants on a snapshot.
pub(crate) fn check_tag(tag: &str) -> Result<(), Error> {
    if tag.is_empty() || tag.contains(',') || tag.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{tag:?} cannot be a tag"))
            .with_hint("use at least one character, no commas and no control characters"));
    }
    match tag.split_once('=') {
        Some((name, _)) if RESERVED.contains(&name) => {
            Err(Error::invalid(format!("the tag `{tag}` is reserved"))
                .with_hint(format!("choose another tag: `{name}=…` is set by the program")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        assert!(check("job", "web-1.höfe_x").is_ok());
        for bad in ["", "a,b", "a b", "a/b", "job=x"] {
            assert!(check("job", bad).is_err(), "{bad}");
        }
        assert!(check_host("db-1.example.org").is_ok() && check_host(&"a".repeat(253)).is_ok());
        for bad in ["", "a b", "a\n", &"a".repeat(254)] {
            assert!(check_host(bad).is_err(), "{bad}");
        }
        assert!(check_tag("before upgrade").is_ok());
        assert!(check_tag("ticket=42").is_ok());
        for bad in ["", "a,b", "job=x", "tier=daily"] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }
}
