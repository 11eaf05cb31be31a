//! The variables of the process, as a value: nothing below the front-ends looks at the real
//! environment, so that tests (and a daemon serving several users) decide what is in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::address;
use crate::remote::TOKEN_VARIABLE;

/// Variables that hold secrets of object stores.
const STORE_SECRETS: [&str; 9] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
];
/// Prefixes of the variables of this program that hold a secret, or a command that prints one.
const PASSWORDS: [&str; 6] = [
    TOKEN_VARIABLE,
    "BACKUP_PASSWORD",
    "BACKUP_NEW_PASSWORD",
    "BACKUP_SOURCE_PASSWORD",
    "BACKUP_TARGET_PASSWORD",
    "BACKUP_CATALOG_PASSWORD",
];

/// Environment variables.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn from_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of `name`; an empty value counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The value of `name`, which may be empty: for variables to which that means something.
    #[must_use]
    pub(crate) fn even_if_empty(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of `name` if it is UTF-8 and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str()
    }

    /// All variables that are UTF-8, name and value.
    pub fn texts(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().filter_map(|(name, value)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        })
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The environment of commands of the configuration (hooks, notifications), and the values of
    /// the variables that are left out. Left out are pass phrases, credentials of stores, addresses
    /// with a password, and the variables in `named`, which the configuration uses for secrets.
    #[must_use]
    pub(crate) fn without_secrets(&self, named: &[String]) -> (Self, Vec<String>) {
        let (mut handed, mut withheld) = (Self::default(), Vec::new());
        for (name, value) in &self.0 {
            let text = value.to_string_lossy();
            if is_secret(&name.to_string_lossy(), &text, named) {
                withheld.push(text.into_owned());
            } else {
                handed.0.insert(name.clone(), value.clone());
            }
        }
        (handed, withheld)
    }
}

fn is_secret(name: &str, value: &str, named: &[String]) -> bool {
    // A path to a secret is not secret.
    let is_password =
        || PASSWORDS.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with("_FILE");
    STORE_SECRETS.contains(&name)
        || named.iter().any(|secret| secret == name)
        || is_password()
        || address::has_password(value)
}

/// A line of the output of a command, without these secret values. A value of several lines is
/// replaced line by line, longer lines first.
pub(crate) fn hide_values(line: &str, secrets: &[String]) -> String {
    let lines = secrets.iter().flat_map(|value| value.lines()).map(str::trim);
    let mut secrets: Vec<&str> = lines.filter(|secret| secret.len() > 3).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(line.to_owned(), |line, secret| line.replace(secret, "…"))
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_values_stay_secret() {
        let env: Environment = [("A", "hidden"), ("B", "")].into_iter().collect();
        assert_eq!(env.text("A"), Some("hidden"));
        assert_eq!(env.get("B"), None);
        assert!(!format!("{env:?}").contains("hidden"));
    }

    #[test]
    fn output_hides_secret_values() {
        let env = [
            ("A", "abcd"),
            ("B", "abcdefgh"),
            ("KEY", "-- BEGIN --\nsecret line\n-- END --\n"),
            ("ON", "1"),
        ];
        let secrets = env.map(|(_, value)| value.to_owned());
        for (line, shown) in [
            ("B is abcdefgh", "B is …"),
            ("abcd1", "…1"),
            ("secret line", "…"),
            ("1 of 2", "1 of 2"),
        ] {
            assert_eq!(hide_values(line, &secrets), shown);
        }
    }

    #[test]
    fn commands_get_no_secret_variable() {
        let env: Environment = [
            ("PATH", "/bin"),
            ("BACKUP_PASSWORD_FILE", "/key"),
            ("BACKUP_PASSWORD", "hush-1"),
            ("BACKUP_TOKEN", "hush-2"),
            ("AZURE_CLIENT_SECRET", "hush-3"),
            ("CRM", "postgres://me:hush-4@h/"),
            ("MAIL", "hush-5"),
        ]
        .into_iter()
        .collect();
        let (handed, withheld) = env.without_secrets(&["MAIL".to_owned()]);
        let names: Vec<_> = handed.iter().map(|(name, _)| name.to_string_lossy()).collect();
        assert_eq!(names, ["BACKUP_PASSWORD_FILE", "PATH"]);
        assert_eq!(withheld.len(), 5, "{withheld:?}");
    }
}
