//! The keys of `[catalog]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::Mistake;
use crate::address::ServerAddress;

/// `[catalog]`: location of the catalog of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// PostgreSQL database (13 or later) that several machines may share, for instance
    /// `postgres://backup@db1/backup?sslmode=verify-full`. Default: the variable `BACKUP_CATALOG`,
    /// else a file in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub url: Option<ServerAddress>,
    /// File with the password of the user in the address. At most one of the `password_…` keys is
    /// allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// Shell command that prints the password on its first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_command: Option<String>,
    /// CA certificates (PEM) for the certificate of the server. The host name is verified too,
    /// unless the address has `sslmode=verify-ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
}

impl CatalogConfig {
    /// Its paths, for making them absolute.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.password_file, &mut self.tls_ca_file].into_iter().flatten()
    }

    /// The first mistake.
    pub(super) fn mistake(&self) -> Option<Mistake> {
        let at = |key: &str, message: String, hint: &str| {
            Some(Mistake::new(["catalog", key, ""], message).hint(Some(hint.to_owned())))
        };
        let given: Vec<&str> = [
            ("password_file", self.password_file.is_some()),
            ("password_env", self.password_env.is_some()),
            ("password_command", self.password_command.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        if let [_, second, ..] = given[..] {
            let hint = format!("keep one of `{}`", given.join("`, `"));
            return at(second, "the password is set by several keys".to_owned(), &hint);
        }
        let Some(url) = &self.url else { return None };
        if !url.is_postgres() {
            let hint = "write postgres://USER@HOST/DATABASE, or leave `url` out to use a file in \
                        the state directory";
            return at("url", format!("{url} is not an address of a PostgreSQL database"), hint);
        }
        let error = crate::catalog::check(url).err()?;
        Some(Mistake::from_error(["catalog", "url", ""], &error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{load::read, parse};

    #[test]
    fn an_address_or_a_mistake_and_never_a_password() {
        let env = [("WORD", "hush")].into_iter().collect();
        let file = Path::new("/etc/backup/backup.toml");
        let parsed = |text: &str| {
            let read = parse(&format!("[catalog]\n{text}"), file, &env);
            read.map(|config| config.catalog)
                .map_err(|error| format!("{error}; {}", error.hint.clone().unwrap_or_default()))
        };
        let url = "url = \"postgres://me:${WORD}@db/backup?sslmode=require\"";
        let text = format!("{url}\npassword_file = \"word\"\ntls_ca_file = \"/ca.pem\"");
        let catalog = parsed(&text).unwrap();
        assert_eq!(
            catalog.url.as_ref().unwrap().reveal(),
            "postgres://me:hush@db/backup?sslmode=require"
        );
        assert_eq!(catalog.password_file.as_deref(), Some(Path::new("/etc/backup/word")));
        let command = format!("[catalog]\n{url}\npassword_command = \"echo hush\"");
        let shown = read(&command, file, &env).unwrap().to_toml().unwrap();
        assert!(
            !format!("{shown} {catalog:?}").contains("hush") && shown.contains("@db/backup"),
            "{shown}"
        );
        let wrong = [
            "url = \"mysql://me:hush@db/backup\"",
            "url = \"postgres://me:hush@db/backup?sslmode=perhaps\"",
            "url = \"postgres://db/backup\"",
            "url = \"postgres://me@db/backup\"\npassword = \"hush\"",
            "url = \"postgres://me@db/backup\"\npassword_env = \"A\"\npassword_command = \"echo \
             hush\"",
        ];
        let mistakes: Vec<String> = wrong.iter().map(|text| parsed(text).unwrap_err()).collect();
        assert!(mistakes.iter().all(|mistake| !mistake.contains("hush")), "{mistakes:?}");
        insta::assert_snapshot!(mistakes.join("\n"));
    }
}
