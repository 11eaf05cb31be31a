//! Files and directories that a configuration names and that do not exist.

use std::path::PathBuf;

use super::load::LoadedConfig;

/// A path of a configuration that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPath {
    /// The line of the key that names it, counted from 1, if that is known.
    pub line: Option<usize>,
    /// The section, for instance `[sources.docs]`.
    pub section: String,
    /// The key.
    pub key: &'static str,
    /// The path.
    pub path: PathBuf,
}

impl LoadedConfig {
    /// The paths to back up, lists of patterns, certificates and keys that do not exist. Files with
    /// pass phrases and passwords: [`unreadable_files`](crate::passphrase::unreadable_files).
    #[must_use]
    pub fn missing_paths(&self) -> Vec<MissingPath> {
        let mut named: Vec<(&str, &String, &'static str, &PathBuf)> = Vec::new();
        for (name, source) in &self.config.sources {
            named.extend(source.paths.iter().map(|path| ("sources", name, "paths", path)));
            let lists = source.exclude_files.iter();
            named.extend(lists.map(|path| ("sources", name, "exclude_files", path)));
            let files = [
                ("tls_ca_file", &source.tls_ca_file),
                ("tls_certificate_key_file", &source.tls_certificate_key_file),
                ("tls_certificate_file", &source.tls_certificate_file),
                ("tls_key_file", &source.tls_key_file),
            ];
            let given = files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
            named.extend(given.map(|(key, file)| ("sources", name, key, file)));
        }
        for (name, repository) in &self.config.repositories {
            let store = &repository.store;
            let files = [
                ("ca_file", &store.ca_file),
                ("service_account", &store.service_account),
                ("customer_key_file", &store.customer_key_file),
                ("secret_access_key_file", &store.secret_access_key_file),
            ];
            let given = files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
            named.extend(given.map(|(key, file)| ("repositories", name, key, file)));
        }
        let is_missing = |path: &PathBuf| {
            let found = path.symlink_metadata();
            found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let missing = named.into_iter().filter(|(.., path)| is_missing(path));
        let described = missing.map(|(section, name, key, path)| MissingPath {
            line: self.line_of(&format!("{section}.{name}.{key}")),
            section: format!("[{section}.{name}]"),
            key,
            path: path.clone(),
        });
        described.collect()
    }

    /// The line of a key, counted from 1; `None` if the configuration lacks it. `key` joins the
    /// names from the section to the key by dots.
    #[must_use]
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.origins.get(key).map(|origin| origin.line)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::environment::Environment;

    #[test]
    fn missing_paths_are_named_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("there"), "").unwrap();
        let file = dir.path().join("backup.toml");
        let text = "[sources.docs]\nkind = \"files\"\npaths = [\"there\", \"gone\"]\n\
                    exclude_files = [\"none\"]\n[sources.shop]\nkind = \"mongodb\"\n\
                    url = \"mongodb://h\"\ntls_ca_file = \"ca.pem\"\n";
        std::fs::write(&file, text).unwrap();
        let loaded = crate::config::load(&file, &Environment::default()).unwrap();
        let found: Vec<(Option<usize>, String, &str, String)> = loaded
            .missing_paths()
            .into_iter()
            .map(|one| {
                let name = one.path.strip_prefix(dir.path()).unwrap_or(Path::new("?"));
                (one.line, one.section, one.key, name.display().to_string())
            })
            .collect();
        let expected = [
            (Some(3), "[sources.docs]", "paths", "gone"),
            (Some(4), "[sources.docs]", "exclude_files", "none"),
            (Some(8), "[sources.shop]", "tls_ca_file", "ca.pem"),
        ];
        let expected = expected
            .map(|(line, section, key, name)| (line, section.to_owned(), key, name.to_owned()));
        assert_eq!(found, expected);
    }
}
