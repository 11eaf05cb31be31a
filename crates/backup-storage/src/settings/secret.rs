//! Values that are never shown.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret text: its `Debug` shows nothing of it, and its memory is overwritten when it is
/// dropped.
#[derive(Clone, PartialEq, Eq, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret. White space around it (the end of a file's line) does not belong to it.
    #[must_use]
    pub fn new(mut text: String) -> Self {
        let trimmed = text.trim().to_owned();
        text.zeroize();
        Self(trimmed)
    }

    /// The secret itself, for those that send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The environment variables that the stores may use, as the program found them. `Debug` shows
/// their names only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// A variable; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of several variables that is set.
    #[must_use]
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }
}

impl From<BTreeMap<String, String>> for Environment {
    fn from(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret::new(" hush\n".to_owned());
        assert_eq!(secret.reveal(), "hush");
        let environment =
            Environment::from_iter([("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())]);
        let shown = format!("{secret:?} {environment:?}");
        assert!(!shown.contains("hush") && shown.contains("AWS_SECRET_ACCESS_KEY"), "{shown}");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment = Environment::from_iter([
            ("A".to_owned(), String::new()),
            ("B".to_owned(), "b".to_owned()),
        ]);
        assert_eq!(environment.first(&["A", "B"]), Some("b"));
        assert_eq!(environment.first(&["A", "C"]), None);
    }
}
