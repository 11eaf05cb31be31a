//! Words of requests that become words of a command line. None of them can be taken for a flag:
//! values follow `=`, names follow `--`, and what begins with a dash is refused all the same.

use std::path::Path;

use super::problem::{Answer, Problem};

/// Bytes of a word, at most.
const MAX_WORD: usize = 4096;

/// A word as it may be handed on; `what` is the name of the field.
pub(super) fn word(what: &str, text: &str) -> Answer<String> {
    let wrong = |why: &str| Err(Problem::wrong(format!("`{what}` {why}")));
    match text {
        "" => wrong("is empty"),
        text if text.len() > MAX_WORD => wrong("is too long"),
        text if text.starts_with('-') => wrong("must not begin with a dash"),
        text if text.chars().any(char::is_control) => wrong("contains control characters"),
        text => Ok(text.to_owned()),
    }
}

/// The name of something in the configuration, or an identifier.
pub(super) fn name(what: &str, text: &str) -> Answer<String> {
    let name = word(what, text)?;
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match name.chars().all(fits) {
        true => Ok(name),
        false => Err(Problem::wrong(format!("`{what}` is not a name"))
            .hint("use letters, digits, `-`, `_`, `.`, and `:` as in `JOB:latest`")),
    }
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A directory of the machine of the daemon.
    Directory(String),
    /// The name of a target.
    Named(String),
}

impl Target {
    /// Understands where a restore goes. An address would hold a secret, and would be read by
    /// whoever lists processes.
    pub(super) fn parse(text: &str) -> Answer<Self> {
        let target = word("target", text)?;
        if target.contains("://") {
            return Err(Problem::wrong("`target` must not be an address")
                .hint("name a target of the configuration, or give a directory"));
        }
        if Path::new(&target).is_absolute() {
            return match Path::new(&target)
                .components()
                .any(|part| part == std::path::Component::ParentDir)
            {
                true => Err(Problem::wrong("`target` must not contain `..`")),
                false => Ok(Self::Directory(target)),
            };
        }
        name("target", &target).map(Self::Named).map_err(|problem| {
            problem.hint("give an absolute directory, or the name of a target of the configuration")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_a_flag() {
        for bad in ["", "-x", "--config=/etc/passwd", "a\nb", "\u{1b}[2J", &"x".repeat(5000)] {
            assert!(
                word("what", bad).is_err()
                    && name("what", bad).is_err()
                    && Target::parse(bad).is_err(),
                "{bad:?}"
            );
        }
        assert!(
            name("job", "a/b").is_err()
                && name("job", "crm:latest").is_ok()
                && word("at", "2h ago").is_ok()
        );
    }

    #[test]
    fn targets() {
        assert_eq!(Target::parse("/srv/x y").unwrap(), Target::Directory("/srv/x y".into()));
        assert_eq!(Target::parse("standby").unwrap(), Target::Named("standby".into()));
        for bad in ["postgres://me:hush@db/", "relative/dir", "/srv/../etc", "~", "a b"] {
            let problem = Target::parse(bad).unwrap_err();
            assert!(!problem.error.contains("hush"), "{bad}");
        }
    }
}
